/**
 * The neurons of an expanded model over its blocks: how far from a Gaussian, and in which way it is measured.
 *
 * @module
 */

import type { NeuronsResult } from "../expand/neurons_result.ts";

/** Distances of a neuron, in the order in which they are shown. */
export const MEASURES = ["dense", "split", "clustered", "expert"] as const;

/** One of them. */
export type Measure = typeof MEASURES[number];

/** Their names. */
export const MEASURE_NAMES: Readonly<Record<Measure, string>> = {
  dense: "dense, all rows",
  split: "dense, random parts",
  clustered: "dense, in clusters",
  expert: "experts, in clusters",
};

/** A measured neuron. */
export interface Neuron extends Readonly<Record<Measure, number>> {
  readonly block: number;
  readonly layer: string;
  readonly neuron: number;
}

/** Every measured neuron. */
export function neuronsOf({ blocks }: NeuronsResult): Neuron[] {
  return blocks.flatMap(({ layers }, block) =>
    layers.flatMap(({ layer, neurons, dense, split, clustered, expert }) =>
      neurons.map((neuron, i) => ({
        block,
        layer,
        neuron,
        dense: dense[i]!,
        split: split[i]!,
        clustered: clustered[i]!,
        expert: expert[i]!,
      }))
    )
  );
}

/** The names of the layers, in their order. */
export function layerNames(neurons: readonly Neuron[]): string[] {
  return [...new Set(neurons.map(({ layer }) => layer))];
}

/** The value below which a part of the values lies, between neighbours in proportion. */
export function quantile(values: readonly number[], part: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  const at = part * (sorted.length - 1);
  const low = Math.floor(at);
  return sorted[low]! + (at - low) * (sorted[Math.min(low + 1, sorted.length - 1)]! - sorted[low]!);
}
