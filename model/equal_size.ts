/**
 * Models of other kinds that cost as much as a given one.
 *
 * @module
 */

import { architectureOf, modelSchema } from "./config.ts";
import type { ModelConfig } from "./section.ts";
import { countFlops, countParameters } from "./trunk/counts.ts";

/** A quantity that two models have alike: the parameters that a token uses, or the operations of its forward pass. */
export type Quantity = "active_parameters" | "flops";

/** Options of {@linkcode equalSize}. */
export interface EqualSizeOptions {
  readonly quantity: Quantity;
  /** Width of `model.ffn` that is chosen, such as `d_expert`. The quantity is linear in it. */
  readonly key: string;
  /** Tokens of a sequence, on which attention's operations depend. */
  readonly sequence_length: number;
  /** Largest relative difference; 0.01 unless given. */
  readonly tolerance?: number;
}

/** Multiples that a width is looked for among, the ones that kernels like best first. */
const UNITS = [64, 32, 16, 8, 4];

/**
 * The model with the width `key` of its feed-forward layers chosen so that it costs as much as `reference`. The width is the nearest
 * multiple of 64 that is close enough, else of 32, 16, 8 or 4.
 *
 * @throws {RangeError} If the layers have no such width, or none is close enough.
 */
export function equalSize(
  model: ModelConfig,
  reference: ModelConfig,
  options: EqualSizeOptions,
): ModelConfig {
  const { quantity, key, tolerance = 0.01 } = options;
  const cost = (config: ModelConfig) => costOf(config, options);
  const resized = (width: number): ModelConfig => {
    const ffn = { ...model.ffn, [key]: width };
    const { vocab_size, ...section } = { ...model, ffn };
    const result = modelSchema.safeParse(section);
    if (result.success) return { ...result.data, vocab_size };
    const [issue] = result.error.issues;
    throw new RangeError(
      `${issue!.path.join(".")}: ${issue!.message}; ${model.ffn.kind} can't be sized by ${key}`,
    );
  };
  const wanted = cost(reference);
  const [low, high] = [cost(resized(64)), cost(resized(128))];
  const exact = 64 + 64 * (wanted - low) / (high - low);
  if (!Number.isFinite(exact)) {
    throw new RangeError(`The ${nameOf(quantity)} do not depend on ${key}`);
  }
  const difference = (config: ModelConfig) => Math.abs(cost(config) - wanted) / wanted;
  const nearest = (unit: number) => resized(Math.max(unit, Math.round(exact / unit) * unit));
  for (const unit of UNITS) {
    const config = nearest(unit);
    if (difference(config) <= tolerance) return config;
  }
  const last = nearest(UNITS.at(-1)!);
  throw new RangeError(
    `No ${key} matches ${wanted} ${nameOf(quantity)} within ${100 * tolerance} %: ${key} ${
      (last.ffn as Readonly<Record<string, unknown>>)[key]
    } is off by ${(100 * difference(last)).toFixed(1)} %`,
  );
}

/**
 * The model with one dense layer in the place of each mixture, as wide as the experts of a token together; nothing where experts are no dense
 * layers. It has the same active parameters but for the gates'.
 */
export function joinedExperts(config: ModelConfig): ModelConfig | undefined {
  const ffn = architectureOf(config).feedForward(config.num_layers - 1).dense;
  if (ffn === undefined) return undefined;
  const { d_ffn } = ffn as DenseSection;
  return { ...config, leading_dense: { num_layers: 0, d_ffn }, ffn: ffn as DenseSection };
}

/**
 * The dense baseline of a model: {@linkcode joinedExperts} where they match, otherwise the same trunk with SwiGLU in every layer, as wide as makes
 * the active parameters match.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { modelSchema } from "./config.ts";
 * import { denseEquivalent } from "./equal_size.ts";
 * const paper = { ...modelSchema.parse({}), vocab_size: 100277 };
 * assertEquals(denseEquivalent(paper).ffn, { kind: "dense", d_ffn: 2112 });
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
  const active = (model: ModelConfig) => countParameters(architectureOf(model)).active;
  const joined = joinedExperts(config);
  if (joined && Math.abs(active(joined) / active(config) - 1) <= tolerance) return joined;
  const dense: ModelConfig = {
    ...config,
    leading_dense: { ...config.leading_dense, num_layers: 0 },
    ffn: { kind: "dense", d_ffn: 64 },
  };
  const matched = equalSize(dense, config, {
    ...options,
    quantity: "active_parameters",
    key: "d_ffn",
    sequence_length: 1,
  });
  const { d_ffn } = matched.ffn as DenseSection;
  return { ...matched, leading_dense: { num_layers: 0, d_ffn } };
}

type DenseSection = Extract<ModelConfig["ffn"], { kind: "dense" }>;

function costOf(config: ModelConfig, { quantity, sequence_length }: EqualSizeOptions): number {
  const architecture = architectureOf(config);
  return quantity === "flops"
    ? countFlops(architecture, { sequenceLength: sequence_length }).total
    : countParameters(architecture).active;
}

function nameOf(quantity: Quantity): string {
  return quantity === "flops" ? "FLOPs of a token" : "active parameters";
}
