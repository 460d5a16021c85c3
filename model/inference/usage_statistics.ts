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

/** How evenly the experts of a layer share its kept slots. */
export interface ExpertBalance {
  /** Coefficient of variation: the counts' population deviation over their mean; 0 is perfectly even. */
  readonly cv: number;
  /** Entropy of the shares, nats; ln N is perfectly even. */
  readonly entropy: number;
  /** Slots of the expert with the fewest. */
  readonly fewest: number;
  /** Slots of the expert with the most. */
  readonly most: number;
  /** Experts with less than a tenth of an even share. */
  readonly rare: number;
}

/** Describes counts of kept slots, of which there is at least one. */
export function expertBalance(counts: ArrayLike<number>): ExpertBalance {
  const values = Array.from(counts);
  const total = values.reduce((a, b) => a + b, 0);
  const mean = total / values.length;
  const variance = values.reduce((sum, n) => sum + (n - mean) ** 2, 0) / values.length;
  return {
    cv: Math.sqrt(variance) / mean,
    entropy: -values.reduce((sum, n) => n > 0 ? sum + n / total * Math.log(n / total) : sum, 0),
    fewest: values.reduce((a, b) => Math.min(a, b), Infinity),
    most: values.reduce((a, b) => Math.max(a, b), 0),
    rare: values.filter((n) => n < mean / 10).length,
  };
}

/** The coefficient of variation that so many slots have which choose among `experts` evenly and by chance. */
export function chanceCv(slots: number, experts: number): number {
  return Math.sqrt((1 - 1 / experts) / (slots / experts));
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

/** Upper edges of the buckets of {@linkcode usageHistograms}, in even shares. */
const USE_EDGES = [0, 1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8, Infinity];

/**
 * How many experts of each layer are used how much, as metrics `expert_use.layer3.le_0.5`: those whose share of the kept slots, in even
 * shares, is up to 0.5 and above the edge before. Nothing for a layer of which no expert was kept.
 */
export function usageHistograms(usage: readonly LayerUsage[]): Record<string, number> {
  const metrics: Record<string, number> = {};
  for (const { layer, counts } of usage) {
    let total = 0;
    for (const count of counts) total += count;
    if (total === 0) continue;
    const experts = USE_EDGES.map(() => 0);
    for (const count of counts) {
      const even = count * counts.length / total;
      experts[USE_EDGES.findIndex((edge) => even <= edge)]!++;
    }
    for (const [i, edge] of USE_EDGES.entries()) {
      const name = Number.isFinite(edge) ? edge : "inf";
      metrics[`expert_use.layer${layer}.le_${name}`] = experts[i]!;
    }
  }
  return metrics;
}

/** The same of each layer, `expert_usage.3`, and the share of a layer's slots that its most used expert takes. */
export function layerStatistics(usage: readonly LayerUsage[]): Record<string, number> {
  return Object.fromEntries(usage.flatMap(({ layer, counts }) => {
    const total = counts.reduce((sum, count) => sum + count, 0);
    const most = counts.reduce((a, b) => Math.max(a, b), 0);
    return [
      [`expert_usage.${layer}`, expertUsage(counts)],
      [`expert_hottest.${layer}`, total === 0 ? 0 : most / total],
    ];
  }));
}
