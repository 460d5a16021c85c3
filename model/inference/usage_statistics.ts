/**
 * How evenly experts are used, from counts.
 *
 * @module
 */

import type { LayerUsage } from "./evaluator.ts";

/** Fraction of experts that were kept at least once, 0 to 1. */
export function expertUsage(counts: Uint32Array): number {
  let used = 0;
  for (const count of counts) if (count > 0) used++;
  return used / counts.length;
}

/** Kullback–Leibler divergence of the distribution of kept experts from the uniform one, nats: 0 is perfectly even, ln N one expert. */
export function expertUnevenness(counts: Uint32Array): number {
  let total = 0;
  for (const count of counts) total += count;
  if (total === 0) return 0;
  let divergence = 0;
  for (const count of counts) {
    if (count > 0) divergence += count / total * Math.log(count / total * counts.length);
  }
  return divergence;
}

/** Gini coefficient of how often experts were kept: 0 is perfectly even, `1 − 1/N` one expert. */
export function expertGini(counts: Uint32Array): number {
  const sorted = counts.toSorted();
  let total = 0;
  let weighted = 0;
  for (const [i, count] of sorted.entries()) {
    total += count;
    weighted += (2 * i + 1 - sorted.length) * count;
  }
  return total === 0 ? 0 : weighted / (sorted.length * total);
}

/** Means over the layers, as metrics; nothing for a model without experts. */
export function usageStatistics(usage: readonly LayerUsage[]): Record<string, number> {
  if (usage.length === 0) return {};
  const mean = (of: (layer: LayerUsage) => number) =>
    usage.reduce((sum, layer) => sum + of(layer), 0) / usage.length;
  const statistics = new Set(usage.flatMap((layer) => Object.keys(layer.statistics)));
  return {
    expert_usage: mean(({ counts }) => expertUsage(counts)),
    expert_unevenness: mean(({ counts }) => expertUnevenness(counts)),
    expert_gini: mean(({ counts }) => expertGini(counts)),
    ...Object.fromEntries(
      [...statistics].map((name) => [name, mean((layer) => layer.statistics[name] ?? NaN)]),
    ),
  };
}
