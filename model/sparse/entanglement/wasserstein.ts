/**
 * How far the outputs of a neuron are from a Gaussian: the Wasserstein-1 distance that "Wasserstein Distances, Neuronal Entanglement, and Sparsity" measures entanglement by.
 *
 * @module
 */

import jstat from "jstat";

/** Distance of a distribution that has one value: the mean of `|z|` of a Gaussian. */
const POINT = Math.sqrt(2 / Math.PI);

/** Borders of equal parts of the standard Gaussian, and its density there. */
interface Borders {
  /** `n + 1` quantiles, from −∞ to ∞. */
  readonly quantile: Float64Array;
  readonly density: Float64Array;
}

/** Standard Gaussians divided into equal parts, by how many parts. Neurons have as many outputs as each other, and clusters are few. */
const known = new Map<number, Borders>();

/** Divisions that are kept at most. */
const KEPT = 256;

function bordersOf(n: number): Borders {
  let found = known.get(n);
  if (!found) {
    const quantile = Float64Array.from(
      { length: n + 1 },
      (_, i) => i === 0 ? -Infinity : i === n ? Infinity : jstat.normal.inv(i / n, 0, 1),
    );
    found = { quantile, density: quantile.map(density) };
    if (known.size === KEPT) known.clear();
    known.set(n, found);
  }
  return found;
}

/** The standard Gaussian's density. */
function density(x: number): number {
  return Math.exp(-x * x / 2) / Math.sqrt(2 * Math.PI);
}

/** Values less their mean, over their standard deviation (of all values, not of a sample); zeros where all are the same. */
export function standardised(values: ArrayLike<number>): Float64Array {
  const n = values.length;
  let mean = 0;
  for (let i = 0; i < n; i++) mean += values[i]! / n;
  let variance = 0;
  let most = 0;
  for (let i = 0; i < n; i++) {
    variance += (values[i]! - mean) ** 2 / n;
    most = Math.max(most, Math.abs(values[i]!));
  }
  const deviation = Math.sqrt(variance);
  // Differences of equal values are rounding.
  const scale = deviation > 1e-12 * most ? 1 / deviation : 0;
  return Float64Array.from({ length: n }, (_, i) => (values[i]! - mean) * scale);
}

/**
 * The Wasserstein-1 distance between values, standardised to mean 0 and variance 1, and the standard Gaussian.
 *
 * It is exact: `Σ ∫ |x₍ᵢ₎ − Φ⁻¹(p)| dp` over the `n` equal parts of `[0, 1]`, where `x Φ(t) + φ(t)` is the antiderivative of `(x − t) φ(t)`. Few values are never close to a Gaussian: of
 * `n` that are drawn from one the distance is about `0.84/√n`, so distances compare between equal numbers of values alone. Values that are all the same have the distance of a point, `√(2/π)`.
 *
 * @throws {RangeError} If there is no value, or one is not finite.
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { gaussianDistance } from "./wasserstein.ts";
 *
 * // Two values, −1 and 1: 2 ∫ |1 − z| φ(z) dz over z > 0.
 * assertAlmostEquals(gaussianDistance([3, 5]), 0.5353, 1e-4);
 * ```
 */
export function gaussianDistance(values: ArrayLike<number>): number {
  const n = values.length;
  if (n === 0) throw new RangeError("A distance of no values");
  const x = standardised(values).sort();
  if (!Number.isFinite(x[0]! + x[n - 1]!)) throw new RangeError("A value is not finite");
  if (x[0] === x[n - 1]) return POINT;
  const { quantile, density: at } = bordersOf(n);
  let sum = 0;
  for (let i = 0; i < n; i++) {
    const value = x[i]!;
    // The antiderivative at the part's borders and, where the value lies between them, there.
    const low = value * i / n + at[i]!;
    const high = value * (i + 1) / n + at[i + 1]!;
    if (value <= quantile[i]! || value >= quantile[i + 1]!) {
      sum += Math.abs(high - low);
    } else {
      sum += 2 * (value * jstat.normal.cdf(value, 0, 1) + density(value)) - low - high;
    }
  }
  return sum;
}

/** The distances within groups of values, weighted by how many values a group has. Groups without values count for nothing. */
export function groupedDistance(groups: readonly ArrayLike<number>[]): number {
  const all = groups.reduce((sum, { length }) => sum + length, 0);
  return groups.reduce(
    (sum, group) => group.length ? sum + group.length / all * gaussianDistance(group) : sum,
    0,
  );
}

/** How often standardised values fall into equal bins from `−reach` to `reach`; the first and the last also have what lies beyond. */
export function histogram(
  values: Iterable<number>,
  { reach, bins }: { reach: number; bins: number },
): number[] {
  const counts = new Array<number>(bins).fill(0);
  for (const value of values) {
    const bin = Math.floor((value + reach) / (2 * reach) * bins);
    counts[Math.min(Math.max(bin, 0), bins - 1)]!++;
  }
  return counts;
}
