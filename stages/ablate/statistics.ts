/**
 * Statistics of a few repeated runs: means, intervals of Student's t, paired differences.
 *
 * @module
 */

import jstat from "jstat";
import { z } from "zod";

/** Confidence of every interval. */
export const CONFIDENCE = 0.95;

/** A mean with its interval, as a schema. A single observation has neither a deviation nor an interval, nor have
 * values whose squares are beyond float64. */
export const summarySchema = z.object({
  n: z.int().min(1).describe("observations"),
  mean: z.number(),
  sd: z.number().nullable()
    .describe("sample standard deviation, of n − 1; null when it is beyond float64"),
  low: z.number().nullable().describe("lower end of the 95 % interval of the mean"),
  high: z.number().nullable().describe("upper end of the 95 % interval of the mean"),
});

/** A mean with its interval, from a sample. */
export type Summary = z.infer<typeof summarySchema>;

/** A summary of differences, with the chance of one as large if there were none. */
export const pairedSummarySchema = summarySchema.extend({
  p: z.number().nullable().describe("two-sided, of the paired t-test; null for a single pair"),
});

/** A {@linkcode Summary} of differences, with the chance of one as large if there were none. */
export type PairedSummary = z.infer<typeof pairedSummarySchema>;

/**
 * Mean, standard deviation and 95 % t-interval.
 *
 * @throws {RangeError} If there are no values or one isn't finite.
 *
 * @example
 * ```ts
 * import { summarize } from "./statistics.ts";
 * const { mean, low, high } = summarize([1, 2, 3]);
 * console.assert(mean === 2 && Math.abs(high! - 4.4841) < 1e-4 && Math.abs(low! + 0.4841) < 1e-4);
 * ```
 */
export function summarize(values: readonly number[]): Summary {
  const n = values.length;
  if (n === 0) throw new RangeError("A summary needs at least one value, got none");
  const wrong = values.find((value) => !Number.isFinite(value));
  if (wrong !== undefined) throw new RangeError(`A summary needs finite values, got ${wrong}`);
  const sum = values.reduce((sum, value) => sum + value, 0);
  // The sum of very large values is beyond float64 where their mean is not.
  const mean = Number.isFinite(sum) ? sum / n : values.reduce((sum, value) => sum + value / n, 0);
  if (n === 1) return { n, mean, sd: null, low: null, high: null };
  const sd = Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (n - 1));
  const half = jstat.studentt.inv((1 + CONFIDENCE) / 2, n - 1) * sd / Math.sqrt(n);
  // Squares are beyond float64 from 1.3e154 on: such a sample has a mean, and no interval.
  if (!Number.isFinite(half)) return { n, mean, sd: null, low: null, high: null };
  return { n, mean, sd, low: mean - half, high: mean + half };
}

/**
 * Differences `value − base` of runs with the same seed, with the p-value of the paired t-test.
 *
 * @throws {RangeError} If the lists differ in length, are empty, or hold a value that isn't finite.
 */
export function pairedDifference(
  values: readonly number[],
  base: readonly number[],
): PairedSummary {
  if (values.length !== base.length) {
    throw new RangeError(`Pairs need lists of one length, got ${values.length} and ${base.length}`);
  }
  const summary = summarize(values.map((value, i) => value - (base[i] as number)));
  if (summary.sd === null) return { ...summary, p: null };
  if (summary.sd === 0) return { ...summary, p: summary.mean === 0 ? 1 : 0 };
  const t = Math.abs(summary.mean) / (summary.sd / Math.sqrt(summary.n));
  return { ...summary, p: 2 * jstat.studentt.cdf(-t, summary.n - 1) };
}

/** The middle value; the mean of the two middle ones of an even number. */
export function median(values: readonly number[]): number {
  if (values.length === 0) throw new RangeError("A median needs at least one value, got none");
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] as number;
  return sorted.length % 2 === 1 ? upper : (upper + (sorted[middle - 1] as number)) / 2;
}
