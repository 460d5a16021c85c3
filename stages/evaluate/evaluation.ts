/**
 * `evaluation.json`, made from an evaluator's measurements.
 *
 * @module
 */

import { bitsPerByte, type EvaluationResult } from "../../model/inference/evaluator.ts";
import {
  expertGini,
  expertUnevenness,
  expertUsage,
  usageStatistics,
} from "../../model/inference/usage_statistics.ts";
import type { Evaluation } from "./result.ts";

/** Entries of a histogram at most. */
const HISTOGRAM_ENTRIES = 4096;

/** Writes the measurements as `evaluation.json`. */
export function describeEvaluation(result: EvaluationResult): Evaluation {
  const { tokens, bytes, nats, perplexity, usage } = result;
  return {
    tokens,
    bytes,
    nats,
    perplexity,
    bits_per_byte: bitsPerByte(result),
    ...usageStatistics(usage),
    layers: usage.map(({ layer, counts }) => ({
      layer,
      expert_usage: expertUsage(counts),
      expert_unevenness: expertUnevenness(counts),
      expert_gini: expertGini(counts),
      experts_per_token: counts.reduce((sum, count) => sum + count, 0) / tokens,
      routing_histogram: routingHistogram(counts),
    })),
  };
}

/**
 * Counts in descending order. Of more than 4096 experts, groups of equal size are summed up by their mean, so that the fraction of choices
 * that the most used experts take stays exact at the groups' borders.
 *
 * @example
 * ```ts
 * import { routingHistogram } from "./evaluation.ts";
 * console.assert(routingHistogram(Uint32Array.of(0, 3, 1, 0)).join() === "3,1,0,0");
 * ```
 */
export function routingHistogram(counts: Uint32Array): number[] {
  const sorted = counts.toSorted().reverse();
  let group = Math.ceil(sorted.length / HISTOGRAM_ENTRIES);
  while (sorted.length % group !== 0) group++;
  return Array.from({ length: sorted.length / group }, (_, i) => {
    const members = sorted.subarray(i * group, (i + 1) * group);
    return members.reduce((sum, count) => sum + count, 0) / group;
  });
}
