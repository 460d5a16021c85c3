/**
 * How often each expert is kept, and random experts that are kept as often.
 *
 * @module
 */

import { uniformInt } from "pure-rand/distribution/uniformInt";
import { mersenne } from "pure-rand/generator/mersenne";
import { NO_TARGET } from "../ops/elementwise/cross_entropy.ts";
import { type ExpertLayer, expertName } from "./expert_layers.ts";
import type { ProbedBatch } from "./probe.ts";

/** Times that each expert of a layer was kept, by its name; those never kept are missing. */
export type ExpertCounts = Map<string, number>;

/** One kept expert of one token. */
export interface Assignment {
  /** The token's place in its batch. */
  readonly t: number;
  /** The expert's place among those of the token. */
  readonly slot: number;
  readonly expert: string;
  readonly weight: number;
}

/** The experts that a batch's predicting tokens keep in one layer, token after token. */
export function* assignments(layer: ExpertLayer, batch: ProbedBatch): Generator<Assignment> {
  const { kept, axes, axis_size } = layer;
  const { index, weight } = batch.choices.get(layer.layer)!;
  const rows = axes * axis_size;
  for (let t = 0; t < batch.targets.length; t++) {
    if (batch.targets[t] === NO_TARGET) continue;
    for (let slot = 0; slot < kept; slot++) {
      const i = t * kept + slot;
      if (index[i * axes]! >= rows) continue;
      yield { t, slot, expert: expertName(layer, index, i * axes), weight: weight[i]! };
    }
  }
}

/** Adds a batch to the counts of a layer. */
export function countExperts(counts: ExpertCounts, layer: ExpertLayer, batch: ProbedBatch): void {
  for (const { expert } of assignments(layer, batch)) {
    counts.set(expert, (counts.get(expert) ?? 0) + 1);
  }
}

/** Experts that a control may take for one: as many as are nearest in use. */
const NEIGHBOURS = 8;

/**
 * For each expert a random other one that is kept about as often: one of the eight nearest in use among those that are neither chosen nor taken.
 *
 * @param counts Of the layer.
 * @returns Fewer where a layer has no more experts in use.
 */
export function equalUse(
  counts: ReadonlyMap<string, number>,
  chosen: readonly string[],
  options: { readonly seed: number },
): string[] {
  const random = mersenne(options.seed);
  const sorted = [...counts].sort(([a, x], [b, y]) => x - y || (a < b ? -1 : 1));
  const taken = new Set(chosen);
  const found: string[] = [];
  for (const expert of chosen) {
    const use = counts.get(expert) ?? 0;
    // From where the use would stand, outwards.
    let above = lowerBound(sorted, use);
    let below = above - 1;
    const nearest: string[] = [];
    const distance = (i: number) => {
      const entry = sorted[i];
      return entry ? Math.abs(Math.log((entry[1] + 1) / (use + 1))) : Infinity;
    };
    while (nearest.length < NEIGHBOURS && (below >= 0 || above < sorted.length)) {
      const [name] = sorted[distance(above) <= distance(below) ? above++ : below--]!;
      if (!taken.has(name)) nearest.push(name);
    }
    if (nearest.length === 0) break;
    const name = nearest[uniformInt(random, 0, nearest.length - 1)]!;
    taken.add(name);
    found.push(name);
  }
  return found;
}

/** The first place in ascending counts that has so many, or more. */
function lowerBound(sorted: readonly (readonly [string, number])[], use: number): number {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle]![1] < use) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Most experts of a layer that are all counted, kept or not. */
const ALL_COUNTED = 2 ** 22;

/** Counts of a layer before anything is counted: zeros for all its experts, unless they are too many. */
export function emptyCounts({ axes, experts }: ExpertLayer): ExpertCounts {
  if (axes > 1 || experts > ALL_COUNTED) return new Map();
  return new Map(Array.from({ length: experts }, (_, i) => [String(i), 0]));
}
