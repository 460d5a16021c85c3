/**
 * Bits that an expanded site takes, and its work for a token: both belong beside each measured perplexity.
 *
 * @module
 */

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

/** Bits of a router as an affine map of its inputs, `in·K + K` numbers. */
export function routerBits({ inputs, clusters }: { inputs: number; clusters: number }): number {
  return ROUTER_BITS * (inputs * clusters + clusters);
}

/** Multiply-adds for a token: of one expert of each layer the weights that are kept, and the router's. */
export function multiplyAdds(
  { kept, inputs, clusters }: { kept: readonly number[]; inputs: number; clusters: number },
): number {
  return kept.reduce((sum, n) => sum + n, 0) + inputs * clusters;
}
