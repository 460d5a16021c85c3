/**
 * What `evaluation.json` holds, made from what an evaluator measured.
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

/** How the experts of a layer were used. */
export interface LayerEvaluation {
  readonly layer: number;
  /** Share of experts that were kept at least once, 0 to 1. */
  readonly expert_usage: number;
  /** Divergence of their use from an even one, nats. */
  readonly expert_unevenness: number;
  /** Gini coefficient of how often each was kept: 0 is even. */
  readonly expert_gini: number;
  /** How often experts were kept, the most used first; see {@linkcode routingHistogram}. */
  readonly routing_histogram: readonly number[];
}

/** A model measured on a text. */
export interface Evaluation {
  /** Predictions, the tokens between documents among them. */
  readonly tokens: number;
  /** UTF-8 bytes of the text that they spell. */
  readonly bytes: number;
  /** Mean cross-entropy of a token. */
  readonly nats: number;
  readonly perplexity: number;
  /** Left out when the tokens spell no text. */
  readonly bits_per_byte?: number;
  /** Means over the layers; left out for a model without experts. */
  readonly expert_usage?: number;
  readonly expert_unevenness?: number;
  readonly expert_gini?: number;
  /** Layers with experts. */
  readonly layers: readonly LayerEvaluation[];
}

/** Entries of a histogram at most. */
const HISTOGRAM_ENTRIES = 4096;

/** Puts what was measured into the words of `evaluation.json`. */
export function describeEvaluation(result: EvaluationResult): Evaluation {
  const { tokens, bytes, nats, perplexity, usage } = result;
  return {
    tokens,
    bytes,
    nats,
    perplexity,
    ...(bytes > 0 ? { bits_per_byte: bitsPerByte(result) } : {}),
    ...usageStatistics(usage),
    layers: usage.map(({ layer, counts }) => ({
      layer,
      expert_usage: expertUsage(counts),
      expert_unevenness: expertUnevenness(counts),
      expert_gini: expertGini(counts),
      routing_histogram: routingHistogram(counts),
    })),
  };
}

/**
 * Counts in descending order. Of more than 4096 experts, groups of equal size are summed up by their mean, so that the share of choices
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
