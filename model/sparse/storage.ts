/**
 * Bits that an expanded site takes, and its work for a token: both belong beside each measured perplexity.
 *
 * @module
 */

import { storedCounts } from "../ops/compressed/forms.ts";
import type { StoredSite } from "./expansion.ts";
import type { StoredMlp } from "./mlp.ts";
import type { Pruning } from "./options.ts";

/** Bits of a scale of quantised weights. */
const SCALE_BITS = 16;

/** Bits of a number of a router. */
const ROUTER_BITS = 32;

/** Sizes of a matrix. */
interface Sizes {
  readonly outputs: number;
  readonly inputs: number;
}

/** Bits of a stored value: those of its level, or `valueBits`. */
function bitsOf({ bits }: Pruning, valueBits: number): number {
  return bits ?? valueBits;
}

/**
 * Bits of one expert, without the grid that all experts of a layer share: a mask and the kept values, or with a pattern the kept values and their places.
 *
 * @param options `kept`: positions that are not pruned, whatever their values. `valueBits`: of a weight that is not quantised.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { PRUNING } from "./options.ts";
 * import { expertBits } from "./storage.ts";
 *
 * const sizes = { outputs: 8, inputs: 16 };
 * assertEquals(expertBits({ ...PRUNING, sparsity: 0.5 }, { ...sizes, kept: 64 }), 128 + 64 * 16);
 * assertEquals(expertBits({ ...PRUNING, pattern: [2, 4] }, { ...sizes, kept: 64 }), 64 * (16 + 2));
 * ```
 */
export function expertBits(
  pruning: Pruning,
  { outputs, inputs, kept, valueBits = 16 }: Sizes & { kept: number; valueBits?: number },
): number {
  const bits = bitsOf(pruning, valueBits);
  if (!pruning.pattern) return outputs * inputs + kept * bits;
  const [zeros, group] = pruning.pattern;
  return outputs * inputs / group * (group - zeros) * (bits + Math.ceil(Math.log2(group)));
}

/** Bits of the grid of a layer: scale and zero point of each row; none where weights are not quantised. */
export function gridBits({ bits }: Pruning, outputs: number): number {
  return bits === undefined ? 0 : outputs * (SCALE_BITS + bits);
}

/** Bits of a dense matrix. */
export function denseBits({ outputs, inputs }: Sizes, valueBits = 16): number {
  return outputs * inputs * valueBits;
}

/** Bits of a router as an affine map of its inputs, `in·K + K` numbers; none for one expert, which needs no choice. */
export function routerBits({ inputs, clusters }: { inputs: number; clusters: number }): number {
  return clusters === 1 ? 0 : ROUTER_BITS * (inputs * clusters + clusters);
}

/** Multiply-adds for a token: of one expert of each layer the weights that are kept, and the router's where there is a choice. */
export function multiplyAdds(
  { kept, inputs, clusters }: { kept: readonly number[]; inputs: number; clusters: number },
): number {
  return kept.reduce((sum, n) => sum + n, 0) + (clusters === 1 ? 0 : inputs * clusters);
}

/** Storage and work of a site, or of several. */
export interface SiteStorage {
  /** Weights that all experts keep. */
  readonly kept: number;
  /** Bits of all experts, grids and routers, with 16 bits a weight that is not quantised. */
  readonly stored_bits: number;
  /** Bits of the dense matrices, 16 a weight. */
  readonly dense_bits: number;
  /** Multiply-adds for a token: the mean over experts, and the router's. */
  readonly multiply_adds: number;
  /** Multiply-adds for a token of the dense matrices. */
  readonly dense_multiply_adds: number;
}

/** Storage and work of an MLP, or of several. */
export type MlpStorage = SiteStorage;

/** Weights that each expert of each layer of a site keeps, by layer. */
export function keptOf({ layers }: StoredSite): Readonly<Record<string, number[]>> {
  return Object.fromEntries(
    Object.entries(layers).map(([name, { experts }]) => [
      name,
      experts.map((expert) => storedCounts(expert).reduce((sum, count) => sum + count, 0)),
    ]),
  );
}

/** Storage and work of a site. */
export function siteStorage(site: StoredSite, pruning: Pruning): SiteStorage {
  const { width: inputs, clusters } = site.router;
  let [kept, stored_bits, dense] = [0, routerBits({ inputs, clusters }), 0];
  for (const [name, counts] of Object.entries(keptOf(site))) {
    const { outputs } = site.layers[name]!;
    stored_bits += gridBits(pruning, outputs);
    dense += outputs * inputs;
    for (const count of counts) {
      kept += count;
      stored_bits += expertBits(pruning, { outputs, inputs, kept: count });
    }
  }
  return {
    kept,
    stored_bits,
    dense_bits: denseBits({ outputs: dense / inputs, inputs }),
    multiply_adds: multiplyAdds({ kept: [kept / clusters], inputs, clusters }),
    dense_multiply_adds: dense,
  };
}

/** Sums storage and work. */
export function sumStorage(parts: readonly SiteStorage[]): SiteStorage {
  const sum = (key: keyof SiteStorage) => parts.reduce((total, part) => total + part[key], 0);
  return {
    kept: sum("kept"),
    stored_bits: sum("stored_bits"),
    dense_bits: sum("dense_bits"),
    multiply_adds: sum("multiply_adds"),
    dense_multiply_adds: sum("dense_multiply_adds"),
  };
}

/** Storage and work of an MLP. */
export function mlpStorage({ sites }: StoredMlp, pruning: Pruning): MlpStorage {
  return sumStorage([siteStorage(sites.in, pruning), siteStorage(sites.mid, pruning)]);
}
