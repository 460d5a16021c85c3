/**
 * Parameters and floating-point operations of a model, counted without building it.
 *
 * @module
 */

import type { FeedForwardFlopOptions, Flops } from "../layer/kind.ts";
import { size } from "../layer/parameter.ts";
import type { Architecture } from "./architecture.ts";
import { parameterSpecs } from "./parameters.ts";

/** Parameters of a model. */
export interface ParameterCounts {
  /** Those that a checkpoint holds, without running statistics. */
  readonly stored: number;
  /** Those that one token uses: all of the trunk, router and generator, and the latent codes of its kept experts. */
  readonly active: number;
  /** Those of the same model with every expert stored as its weights instead of being generated. */
  readonly theoretical: number;
  /** Stored parameters by the part of the model that they belong to. */
  readonly byRole: Readonly<Record<string, number>>;
}

/**
 * Counts a model's parameters.
 *
 * @example
 * ```ts
 * import { assert } from "@std/assert";
 * import { architectureOf, modelSchema } from "../config.ts";
 * import { countParameters } from "./counts.ts";
 * const paper = architectureOf({ ...modelSchema.parse({}), vocab_size: 100277 });
 * assert(countParameters(paper).stored === 743_979_008);
 * ```
 */
export function countParameters(architecture: Architecture): ParameterCounts {
  const byRole: Record<string, number> = {};
  for (const spec of parameterSpecs(architecture)) {
    byRole[spec.role] = (byRole[spec.role] ?? 0) + size(spec);
  }
  const stored = Object.values(byRole).reduce((a, b) => a + b, 0);
  let active = stored;
  let theoretical = stored;
  for (let i = 0; i < architecture.config.num_layers; i++) {
    const layer = architecture.feedForward(i);
    const ofLayer = layer.parameters("ffn").reduce((sum, spec) => sum + size(spec), 0);
    active += layer.counts.active - ofLayer;
    theoretical += layer.counts.theoretical - ofLayer;
  }
  return { stored, active, theoretical, byRole };
}

/** Parameters that one token uses, by three conventions; each includes the ones before. */
export interface ActiveCounts {
  /** Those of the layers and of the last norm. */
  readonly layers: number;
  /** And the output head, which every token is multiplied by. */
  readonly with_head: number;
  /** And the tables of embedding and positions, of which a token reads a row: {@linkcode ParameterCounts.active}. */
  readonly with_tables: number;
}

/** Counts the parameters that one token uses. */
export function countActive(architecture: Architecture): ActiveCounts {
  const { active, byRole } = countParameters(architecture);
  const { vocab_size, d_model } = architecture.config;
  const layers = active - (byRole["embedding"] ?? 0) - (byRole["head"] ?? 0);
  return { layers, with_head: layers + vocab_size * d_model, with_tables: active };
}

/** Options of {@linkcode countFlops}. */
export interface FlopOptions extends FeedForwardFlopOptions {
  /** Tokens of a sequence; attention sees half of them on average. */
  readonly sequenceLength: number;
}

/**
 * Floating-point operations of one token's forward pass by what they are spent on, and their `total`. Matrix products and dot
 * products alone are counted, as is usual; a multiplication and an addition are two operations.
 *
 * @throws {RangeError} If `materialized` generation is asked for without `tokensPerStep`.
 */
export function countFlops(
  architecture: Architecture,
  options: FlopOptions,
): Flops & { readonly total: number } {
  const { config, attention } = architecture;
  const counts: Record<string, number> = {};
  const add = (flops: Flops) => {
    for (const [name, value] of Object.entries(flops)) counts[name] = (counts[name] ?? 0) + value;
  };
  for (let i = 0; i < config.num_layers; i++) {
    add(attention.flops(options));
    add(architecture.feedForward(i).flops(options));
  }
  add({ head: 2 * config.d_model * config.vocab_size });
  return { ...counts, total: Object.values(counts).reduce((a, b) => a + b, 0) };
}
