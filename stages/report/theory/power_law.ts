/**
 * Power laws, `y = factor · x^exponent`, by least squares on logarithms.
 *
 * @module
 */

import jstat from "jstat";
import { CONFIDENCE } from "../../ablate/statistics.ts";

/** A point of a law; both numbers are positive. */
export interface PowerPoint {
  readonly x: number;
  readonly y: number;
}

/** An interval. */
export interface Interval {
  readonly low: number;
  readonly high: number;
}

/** The law `y = factor · x^exponent`. */
export interface PowerLaw {
  readonly factor: number;
  readonly exponent: number;
}

/**
 * Least squares on logarithms; nothing from fewer than two different x.
 *
 * @example
 * ```ts
 * import { fitPower } from "./power_law.ts";
 * const { exponent } = fitPower([{ x: 2, y: 12 }, { x: 4, y: 48 }])!;
 * console.assert(Math.abs(exponent - 2) < 1e-12);
 * ```
 */
export function fitPower(points: readonly PowerPoint[]): PowerLaw | undefined {
  const n = points.length;
  if (n < 2) return undefined;
  const mx = points.reduce((sum, { x }) => sum + Math.log(x), 0) / n;
  const my = points.reduce((sum, { y }) => sum + Math.log(y), 0) / n;
  const sxx = points.reduce((sum, { x }) => sum + (Math.log(x) - mx) ** 2, 0);
  if (sxx === 0) return undefined;
  const sxy = points.reduce((sum, { x, y }) => sum + (Math.log(x) - mx) * (Math.log(y) - my), 0);
  const exponent = sxy / sxx;
  return { exponent, factor: Math.exp(my - exponent * mx) };
}

/**
 * The 95 % interval of a fitted exponent, from the residuals of the logarithms by Student's t with n − 2 degrees of freedom. It is that of points
 * that scatter about a law: where the points bend, it says how far from one law they are.
 *
 * @returns Nothing from fewer than three points, which leave no residual, or from a single x.
 */
export function exponentInterval(points: readonly PowerPoint[]): Interval | undefined {
  const n = points.length;
  const law = fitPower(points);
  if (law === undefined || n < 3) return undefined;
  const { factor, exponent } = law;
  const mean = points.reduce((sum, { x }) => sum + Math.log(x), 0) / n;
  const sxx = points.reduce((sum, { x }) => sum + (Math.log(x) - mean) ** 2, 0);
  const residual = points.reduce(
    (sum, { x, y }) => sum + (Math.log(y / factor) - exponent * Math.log(x)) ** 2,
    0,
  );
  const half = jstat.studentt.inv((1 + CONFIDENCE) / 2, n - 2) *
    Math.sqrt(residual / (n - 2) / sxx);
  return { low: exponent - half, high: exponent + half };
}
