/**
 * Measures of a tensor's error.
 *
 * @module
 */

import type { Measure } from "./golden.ts";

/** Below this magnitude a tensor is all but zero, and its error is taken as it is. */
export const NEGLIGIBLE = 1e-6;

/** The largest magnitude of a tensor. */
export function magnitudeOf(values: ArrayLike<number>): number {
  let largest = 0;
  for (let i = 0; i < values.length; i++) largest = Math.max(largest, Math.abs(values[i]!));
  return largest;
}

/** The error of `actual` in a measure; NaN if either is not a number somewhere. */
export function measured(
  measure: Measure,
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
): number {
  const { length } = expected;
  let largest = 0;
  let sum = 0;
  let different = 0;
  for (let i = 0; i < length; i++) {
    const difference = Math.abs(actual[i]! - expected[i]!);
    largest = Math.max(largest, difference);
    sum += difference;
    if (difference !== 0) different++;
  }
  const magnitude = magnitudeOf(expected);
  switch (measure) {
    case "equal":
      return different;
    case "share":
      return length === 0 ? 0 : different / length;
    case "absolute":
      return largest;
    case "mean absolute":
      return length === 0 ? 0 : sum / length;
    case "relative":
      return magnitude > NEGLIGIBLE ? largest / magnitude : largest;
  }
}
