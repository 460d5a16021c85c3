/**
 * The dense baseline of a model.
 *
 * @module
 */

import { architectureOf, modelSchema } from "./config.ts";
import type { ModelConfig } from "./section.ts";
import { countParameters } from "./trunk/counts.ts";

/**
 * The same trunk with SwiGLU in every layer, `d_ffn` chosen so that the active parameters match. The width is the nearest
 * multiple of 64 that is close enough, else of 32, 16, 8 or 4.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { modelSchema } from "./config.ts";
 * import { denseEquivalent } from "./dense_equivalent.ts";
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
  const active = (config: ModelConfig) => countParameters(architectureOf(config)).active;
  const wanted = active(config);
  const dense = (d_ffn: number): ModelConfig => ({
    ...config,
    leading_dense: { num_layers: 0, d_ffn },
    ffn: { kind: "dense", d_ffn },
  });
  const trunk = active(dense(0));
  const perUnit = active(dense(1)) - trunk;
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
