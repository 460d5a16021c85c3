/**
 * Loss curves held against each other, and results of several runs made one.
 *
 * @module
 */

import type { ParityResult, ParitySetup } from "./parity.ts";
import type { Way, WayResult } from "./parity_way.ts";

/** Nats that a curve may be away from the f32 run's. */
export const NATS_LIMIT = 0.02;

/** Updates that a smoothed difference is over. */
export const SMOOTH_STEPS = 10;

/** The largest difference of two curves. */
export interface LargestDifference {
  /** Its size, nats; null when a loss was not finite. */
  readonly nats: number | null;
  /** The update where it is, from 0; of a mean the last one. */
  readonly step: number;
}

/** One curve held against the reference's. */
export interface CurveComparison {
  /** Name of the way: `deno:mixed`. */
  readonly way: string;
  /** Name of the way that it is held against. */
  readonly reference: string;
  /** Updates that both have. */
  readonly steps: number;
  /** Of single updates. */
  readonly largest: LargestDifference;
  /** Of means over {@linkcode SMOOTH_STEPS} updates, or over all where there are fewer. */
  readonly largest_mean: LargestDifference;
  /** Mean of the differences' sizes, nats; null when a loss was not finite. */
  readonly mean_absolute: number | null;
  /** Whether every single update is within {@linkcode NATS_LIMIT}. */
  readonly within: boolean;
}

/** The way that the others are held against: the first in f32, from the weights as they are. */
export function referenceWay<W extends Way>(ways: readonly W[]): W | undefined {
  return ways.find(({ precision, rounded }) => precision === "f32" && !rounded);
}

/** Holds every curve against the first f32 one; nothing where there is none. */
export function compareCurves(ways: readonly WayResult[]): CurveComparison[] {
  const reference = referenceWay(ways);
  if (!reference) return [];
  return ways.filter((way) => way !== reference).map((way) => compareCurve(way, reference));
}

function compareCurve(way: WayResult, reference: WayResult): CurveComparison {
  const differences = curveDifferences(way, reference);
  const window = Math.min(SMOOTH_STEPS, differences.length);
  const means = differences.slice(window - 1).map((_, i) => {
    const part = differences.slice(i, i + window);
    return part.reduce<number | null>(
      (sum, d) => sum === null || d === null ? null : sum + d / window,
      0,
    );
  });
  const single = largest(differences, 0);
  const sum = differences.reduce<number | null>(
    (sum, d) => sum === null || d === null ? null : sum + Math.abs(d),
    0,
  );
  return {
    way: way.way,
    reference: reference.way,
    steps: differences.length,
    largest: single,
    largest_mean: largest(means, window - 1),
    mean_absolute: sum === null ? null : sum / differences.length,
    within: single.nats !== null && single.nats <= NATS_LIMIT,
  };
}

/** A curve less the reference's, nats, update by update as far as both go; null where one was not finite. */
export function curveDifferences(
  way: Pick<WayResult, "losses">,
  reference: Pick<WayResult, "losses">,
): (number | null)[] {
  const steps = Math.min(way.losses.length, reference.losses.length);
  return Array.from({ length: steps }, (_, i) => {
    const [a, b] = [way.losses[i]!, reference.losses[i]!];
    return a === null || b === null ? null : a - b;
  });
}

function largest(differences: readonly (number | null)[], offset: number): LargestDifference {
  let [nats, step] = [-1, 0];
  for (const [i, difference] of differences.entries()) {
    if (difference === null) return { nats: null, step: offset + i };
    if (Math.abs(difference) > nats) [nats, step] = [Math.abs(difference), i];
  }
  return { nats, step: offset + step };
}

/**
 * Makes one result of several, whose ways were measured one at a time.
 *
 * @throws {RangeError} If they did not train the same model on the same text, or have a way twice.
 */
export function mergeParity(results: readonly ParityResult[]): ParityResult {
  const [first] = results;
  if (!first) throw new RangeError("There is no result to merge");
  const ways: WayResult[] = [];
  for (const [i, { setup, ways: more }] of results.entries()) {
    const different = differentParts(first.setup, setup);
    if (different.length > 0) {
      throw new RangeError(
        `Result ${i + 1} is of another training than the first: ${different.join(", ")} differ`,
      );
    }
    for (const way of more) {
      if (ways.some((other) => other.way === way.way)) {
        throw new RangeError(`Result ${i + 1} has ${way.way}, which an earlier one has, too`);
      }
      ways.push(way);
    }
  }
  return { ...first, ways, curves: compareCurves(ways) };
}

/** Parts in which two trainings differ. A text is the same when updates are given the same, whatever it is called. */
export function differentParts(one: ParitySetup, other: ParitySetup): (keyof ParitySetup)[] {
  const part = (setup: ParitySetup, key: keyof ParitySetup) =>
    stable(key === "text" ? setup.text.sha256 : setup[key]);
  return (Object.keys(one) as (keyof ParitySetup)[])
    .filter((key) => part(one, key) !== part(other, key));
}

/** JSON with sorted keys: files may have been written with others. */
function stable(value: unknown): string {
  return JSON.stringify(
    value,
    (_, inner) =>
      typeof inner === "object" && inner !== null && !Array.isArray(inner)
        ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => a < b ? -1 : 1))
        : inner,
  );
}
