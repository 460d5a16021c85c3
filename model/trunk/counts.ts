/**
 * What a configuration comes to: parameters and floating-point operations, without building the model.
 *
 * @module
 */

import { isSparse, type ModelConfig, modelSchema, subKeys } from "../config.ts";
import { type ParameterRole, parameterSpecs, size } from "./parameters.ts";

/** Parameters of a model. */
export interface ParameterCounts {
  /** What a checkpoint holds, without running statistics. */
  readonly stored: number;
  /** What one token uses: all of the trunk, router and generator, and the latent codes of its `H·k` kept experts. */
  readonly active: number;
  /**
   * What would be stored if every expert were kept as its `u` and `v` of width `d_model`: the same model with the codes and
   * the generator replaced by the experts that they stand for.
   */
  readonly theoretical: number;
  /** Stored parameters by what they are part of. */
  readonly byRole: Readonly<Record<ParameterRole, number>>;
}

/** Layers with generated experts. */
export function sparseLayers(config: ModelConfig): number {
  return Array.from({ length: config.num_layers }).filter((_, i) => isSparse(config, i)).length;
}

/**
 * Counts a model's parameters.
 *
 * @example
 * ```ts
 * import { assert } from "@std/assert";
 * import { modelSchema } from "../config.ts";
 * import { countParameters } from "./counts.ts";
 * const paper = { ...modelSchema.parse({}), vocab_size: 100277 };
 * assert(countParameters(paper).stored === 743_979_008);
 * ```
 */
export function countParameters(config: ModelConfig): ParameterCounts {
  const byRole: Record<ParameterRole, number> = {
    embedding: 0,
    norm: 0,
    attention: 0,
    dense: 0,
    router: 0,
    latent: 0,
    generator: 0,
  };
  for (const spec of parameterSpecs(config)) byRole[spec.role] += size(spec);
  const stored = Object.values(byRole).reduce((a, b) => a + b, 0);
  const layers = sparseLayers(config);
  const kept = config.routing_heads * config.top_k;
  return {
    stored,
    active: stored - byRole.latent + layers * kept * config.d_latent,
    theoretical: stored - byRole.latent - byRole.generator +
      layers * config.num_experts * 2 * config.d_model,
    byRole,
  };
}

/** How the experts' hidden vectors come about. */
export type GenerationOrder =
  | "per_expert" // generated for each kept expert of each token
  | "materialized" // every expert generated once a step, whatever the tokens
  | "naive"; // per kept expert, and u and v formed

/** Multiplications and additions of one token's forward pass, counted as two operations a pair. */
export interface FlopCounts {
  /** The sum of what follows. */
  readonly total: number;
  /** The projections of attention. */
  readonly attentionProjections: number;
  /** Scores and mixing of attention, averaged over the positions of a sequence. */
  readonly attentionContext: number;
  /** The SwiGLU of the dense layers. */
  readonly dense: number;
  /** Queries and sub-key scores. */
  readonly router: number;
  /** Hidden vectors from latent codes, the context's part included. */
  readonly generation: number;
  /** Applying the experts once generated. */
  readonly experts: number;
  /** The tied output head. */
  readonly head: number;
}

/** How to count. */
export interface FlopOptions {
  /** Tokens of a sequence; attention sees half of them on average. */
  readonly sequenceLength: number;
  /** Defaults to `per_expert`. */
  readonly generation?: GenerationOrder;
  /** Tokens of a step, among which `materialized` generation is shared; required for it. */
  readonly tokensPerStep?: number;
}

/**
 * Floating-point operations of one token's forward pass: matrix products and dot products alone, as is usual.
 *
 * @throws {RangeError} If `materialized` generation is asked for without `tokensPerStep`.
 */
export function countFlops(config: ModelConfig, options: FlopOptions): FlopCounts {
  const { sequenceLength, generation = "per_expert", tokensPerStep } = options;
  const { d_model, num_heads, q_lora_rank, kv_lora_rank, d_nope, d_rope, d_v } = config;
  const { num_experts, routing_heads, d_query, d_latent, d_hidden, d_context } = config;
  const product = (inputs: number, outputs: number) => 2 * inputs * outputs;
  const layers = config.num_layers;
  const sparse = sparseLayers(config);
  const kept = routing_heads * config.top_k;

  const projections = product(d_model, q_lora_rank) +
    product(q_lora_rank, num_heads * (d_nope + d_rope)) +
    product(d_model, kv_lora_rank + d_rope) +
    product(kv_lora_rank, num_heads * (d_nope + d_v)) +
    product(num_heads * d_v, d_model);
  // A token at position p attends to p + 1 tokens: (L + 1) / 2 on average.
  const seen = (sequenceLength + 1) / 2;
  const context = seen * num_heads * (2 * (d_nope + d_rope) + 2 * d_v);
  const routing = product(d_model, routing_heads * d_query) +
    2 * routing_heads * product(d_query / 2, subKeys(config));

  let generated = kept * product(d_latent, d_hidden);
  if (generation === "materialized") {
    if (!(tokensPerStep !== undefined && tokensPerStep > 0)) {
      throw new RangeError(
        `Counting materialized generation needs the tokens of a step, got ${tokensPerStep}`,
      );
    }
    generated = num_experts * product(d_latent, d_hidden) / tokensPerStep;
  }
  if (d_context > 0) generated += product(d_model, d_context) + product(d_context, d_hidden);
  const applied = generation === "naive"
    ? kept * (2 * product(d_hidden, d_model) + 2 * product(d_model, 1))
    : 2 * product(d_model, d_hidden) + kept * 2 * product(d_hidden, 1);

  const counts = {
    attentionProjections: layers * projections,
    attentionContext: layers * context,
    dense: (layers - sparse) * 3 * product(d_model, config.d_ffn),
    router: sparse * routing,
    generation: sparse * generated,
    experts: sparse * applied,
    head: product(d_model, config.vocab_size),
  };
  return { total: Object.values(counts).reduce((a, b) => a + b, 0), ...counts };
}

/**
 * The dense baseline of a configuration: the same trunk with SwiGLU in every layer, `d_ffn` chosen so that the active
 * parameters match. The width is the nearest multiple of 64 that is close enough, else of 32, 16, 8 or 4.
 *
 * @example
 * ```ts
 * import { assert } from "@std/assert";
 * import { modelSchema } from "../config.ts";
 * import { denseEquivalent } from "./counts.ts";
 * const paper = { ...modelSchema.parse({}), vocab_size: 100277 };
 * assert(denseEquivalent(paper).d_ffn === 2112);
 * ```
 *
 * @param options.tolerance Largest relative difference of the active parameters; 0.01 unless given.
 * @throws {RangeError} If no width is close enough.
 */
export function denseEquivalent(
  config: ModelConfig,
  options: { tolerance?: number } = {},
): ModelConfig {
  const { tolerance = 0.01 } = options;
  const wanted = countParameters(config).active;
  const dense = (d_ffn: number): ModelConfig => ({ ...config, kind: "dense", d_ffn });
  const trunk = countParameters(dense(0)).active;
  const perUnit = countParameters(dense(1)).active - trunk;
  const exact = (wanted - trunk) / perUnit;
  const difference = (d_ffn: number) => Math.abs(trunk + perUnit * d_ffn - wanted) / wanted;
  for (const unit of [64, 32, 16, 8, 4]) {
    const width = Math.max(unit, Math.round(exact / unit) * unit);
    if (difference(width) <= tolerance) {
      const { vocab_size, ...section } = dense(width);
      return { ...modelSchema.parse(section), vocab_size };
    }
  }
  const nearest = Math.max(4, Math.round(exact / 4) * 4);
  throw new RangeError(
    `No dense width matches ${wanted} active parameters within ${
      100 * tolerance
    } %: d_ffn ${nearest} is off by ${(100 * difference(nearest)).toFixed(1)} %`,
  );
}
