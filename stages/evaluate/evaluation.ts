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

/** The most used experts that are named. */
const HOTTEST = 8;

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
      experts: counts.length,
      experts_per_token: counts.reduce((sum, count) => sum + count, 0) / tokens,
      hottest: hottestExperts(counts, HOTTEST),
      routing_histogram: routingHistogram(counts),
    })),
  };
}

/**
 * The most used experts with their shares of all choices, the most used first and of equals the one with the lower number. An expert that was
 * never kept is not among them.
 *
 * @example
 * ```ts
 * import { hottestExperts } from "./evaluation.ts";
 * const [first] = hottestExperts(Uint32Array.of(0, 3, 1, 0), 2);
 * console.assert(first?.expert === 1 && first.share === 0.75);
 * ```
 */
export function hottestExperts(
  counts: Uint32Array,
  most: number,
): { expert: number; share: number }[] {
  const hottest: { expert: number; count: number }[] = [];
  let total = 0;
  for (const [expert, count] of counts.entries()) {
    total += count;
    if (count === 0 || count <= (hottest[most - 1]?.count ?? 0)) continue;
    const place = hottest.findIndex((other) => other.count < count);
    hottest.splice(place < 0 ? hottest.length : place, 0, { expert, count });
    hottest.length = Math.min(hottest.length, most);
  }
  return hottest.map(({ expert, count }) => ({ expert, share: count / total }));
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
