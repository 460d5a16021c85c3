/**
 * The learning rate of each update.
 *
 * @module
 */

/** A linear warm-up, then constant or a cosine. */
interface LearningRateSchedule {
  /** Rate of update 0. */
  readonly initial: number;
  /** Rate when the warm-up is over. */
  readonly peak: number;
  /** Updates of the warm-up. */
  readonly warmup: number;
  /** The rate after the warm-up: `cosine` ends at `final_fraction` of the peak, with the last update unless `end` says otherwise. */
  readonly after: "constant" | "cosine";
  /** Where the cosine ends, as a fraction of the peak; the paper's configuration has 0.1. */
  readonly final_fraction: number;
  /** Updates of the whole run; read by `cosine` alone. */
  readonly total: number;
  /** Number of the update at which the cosine ends; `total - 1` unless given. */
  readonly end?: number | undefined;
}

/** The paper's: from 1e-5 to 1e-4 over 1,000 updates. */
export const paperSchedule: LearningRateSchedule = {
  initial: 1e-5,
  peak: 1e-4,
  warmup: 1000,
  after: "constant",
  final_fraction: 0.1,
  total: Infinity,
};

/**
 * Learning rate of update `update`, the first being 0.
 *
 * @example
 * ```ts
 * import { assert } from "@std/assert";
 * import { learningRate, paperSchedule } from "./schedule.ts";
 * assert(learningRate(0, paperSchedule) === 1e-5);
 * assert(learningRate(1000, paperSchedule) === 1e-4);
 * ```
 *
 * @throws {RangeError} If `update` is not a whole number from 0.
 */
export function learningRate(update: number, schedule: LearningRateSchedule): number {
  if (!Number.isInteger(update) || update < 0) {
    throw new RangeError(`Expected the number of an update, 0 or more, got ${update}`);
  }
  const { initial, peak, warmup, after, final_fraction: floor, total } = schedule;
  const { end = total - 1 } = schedule;
  if (update < warmup) return initial + (peak - initial) * update / warmup;
  if (after === "constant") return peak;
  const span = end - warmup;
  const progress = span > 0 ? Math.min(1, (update - warmup) / span) : 1;
  return peak * (floor + (1 - floor) * 0.5 * (1 + Math.cos(Math.PI * progress)));
}
