/**
 * Centroids that k-means did not place: the controls of an expansion.
 *
 * @module
 */

import type { Pca } from "./pca.ts";

/** Draws for each row that is wanted, at most: among rows that are mostly equal, few draws find another one. */
const DRAWS = 64;

/** Variance of a component, of that of the first, below which rounding is all that moves along it. */
const NEGLIGIBLE = 1e-6;

/**
 * Numbers of different rows, each as likely as any other: `⌊u(i) · n⌋` for `i` from 0, less those whose row was drawn already.
 *
 * @param same Whether two rows have the same numbers.
 * @throws {RangeError} If 64 draws a row find too few.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { drawRows } from "./centroids.ts";
 *
 * const draws = [0.5, 0.6, 0.9];
 * const uniform = (i: number) => draws[i]!;
 * assertEquals(drawRows({ rows: 4, count: 2, uniform, same: (a, b) => a === b }), [2, 3]);
 * ```
 */
export function drawRows({ rows, count, uniform, same }: {
  readonly rows: number;
  readonly count: number;
  readonly uniform: (index: number) => number;
  readonly same: (a: number, b: number) => boolean;
}): number[] {
  const drawn: number[] = [];
  for (let i = 0; drawn.length < count; i++) {
    if (i === DRAWS * count) {
      throw new RangeError(
        `${i} draws of ${rows} rows found ${drawn.length} different ones of ${count}`,
      );
    }
    const row = Math.floor(uniform(i) * rows);
    if (!drawn.some((other) => same(row, other))) drawn.push(row);
  }
  return drawn;
}

/**
 * Centroids `[clusters, components]` in random directions, each as far from the mean as a row is on average: `c ∝ Λ^−½ Pᵀ r`, with `r` of uniform numbers from −1 to 1.
 *
 * Components are scaled to equal variance, since the first would decide nearly every row otherwise. The directions depend on the space that the components span and not on the choice of its
 * axes. All are equally long, so a row goes to the direction that it has most of. A component without variance gets no part.
 */
export function randomCentroids(
  { components, variance }: Pca,
  { clusters, uniform }: {
    readonly clusters: number;
    readonly uniform: (index: number) => number;
  },
): Float32Array {
  const count = variance.length;
  const width = components.length / count;
  const radius = Math.sqrt(variance.reduce((sum, v) => sum + Math.max(v, 0), 0));
  const scale = variance.map((v) => v > NEGLIGIBLE * variance[0]! ? 1 / Math.sqrt(v) : 0);
  const out = new Float32Array(clusters * count);
  for (let j = 0; j < clusters; j++) {
    const direction = new Float64Array(count);
    for (let i = 0; i < width; i++) {
      const r = 2 * uniform(j * width + i) - 1;
      for (let k = 0; k < count; k++) direction[k]! += r * components[i * count + k]!;
    }
    direction.forEach((v, k) => direction[k] = v * scale[k]!);
    const length = Math.hypot(...direction) || 1;
    direction.forEach((v, k) => out[j * count + k] = radius * v / length);
  }
  return out;
}
