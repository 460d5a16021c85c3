/**
 * k-means in float64: seeding by squared distances, Lloyd's algorithm with empty clusters refilled, restarts.
 *
 * @module
 */

import { type Matrix, matrix, row } from "../matrix.ts";

/** One start of k-means. */
export interface ReferenceClusters {
  /** `[clusters, width]`. */
  readonly centroids: Matrix;
  /** Cluster of each row. */
  readonly labels: Int32Array;
  /** Sum of squared distances to the rows' own centroids. */
  readonly inertia: number;
  /** Updates of the centroids. */
  readonly iterations: number;
  /** Clusters that were empty and got a row. */
  readonly repairs: number;
}

function squaredDistance(a: Float64Array, b: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += (a[i]! - b[i]!) ** 2;
  return sum;
}

/** The nearest centroid of each row, the lower one among equals. */
export function nearest(z: Matrix, centroids: Matrix): Int32Array {
  return Int32Array.from({ length: z.rows }, (_, i) => {
    let best = 0;
    let least = Infinity;
    for (let j = 0; j < centroids.rows; j++) {
      const d = squaredDistance(row(z, i), row(centroids, j));
      if (d < least) [best, least] = [j, d];
    }
    return best;
  });
}

/** The rows that centroids start from: each is drawn in proportion to its squared distance from those before it. */
function seedRows(z: Matrix, uniforms: readonly number[]): number[] {
  const rows = [Math.floor(uniforms[0]! * z.rows)];
  const d2 = Float64Array.from(
    { length: z.rows },
    (_, i) => squaredDistance(row(z, i), row(z, rows[0]!)),
  );
  for (const u of uniforms.slice(1)) {
    const total = d2.reduce((a, b) => a + b, 0);
    if (total === 0) throw new RangeError(`There are fewer than ${uniforms.length} different rows`);
    let sum = 0;
    const chosen = d2.findIndex((d) => (sum += d) > u * total);
    rows.push(chosen);
    d2.forEach((d, i) => d2[i] = Math.min(d, squaredDistance(row(z, i), row(z, chosen))));
  }
  return rows;
}

/** Labels, and the centroids after each empty cluster has moved onto the row that was farthest from its own centroid. */
export function assign(z: Matrix, centroids: Matrix): {
  labels: Int32Array;
  centroids: Matrix;
  repairs: number;
} {
  const labels = nearest(z, centroids);
  const moved = matrix(centroids.rows, centroids.columns, centroids.data.slice());
  const own = Float64Array.from(
    labels,
    (label, i) => squaredDistance(row(z, i), row(centroids, label)),
  );
  const counts = new Int32Array(centroids.rows);
  for (const label of labels) counts[label]!++;
  let repairs = 0;
  for (let j = 0; j < counts.length; j++) {
    if (counts[j]! > 0) continue;
    let far = -1;
    for (let i = 0; i < z.rows; i++) {
      if (counts[labels[i]!]! > 1 && (far < 0 || own[i]! > own[far]!)) far = i;
    }
    counts[labels[far]!]!--;
    labels[far] = j;
    counts[j] = 1;
    own[far] = 0;
    row(moved, j).set(row(z, far));
    repairs++;
  }
  return { labels, centroids: moved, repairs };
}

/** The mean of the rows of each cluster. */
function means(z: Matrix, labels: Int32Array, clusters: number): Matrix {
  const out = matrix(clusters, z.columns);
  const counts = new Int32Array(clusters);
  labels.forEach((label, i) => {
    counts[label]!++;
    const target = row(out, label);
    row(z, i).forEach((v, k) => target[k]! += v);
  });
  counts.forEach((count, j) => row(out, j).forEach((v, k) => row(out, j)[k] = v / count));
  return out;
}

/** Lloyd's algorithm from given centroids. */
export function lloyd(z: Matrix, start: Matrix, maxIterations: number): ReferenceClusters {
  let { labels, centroids, repairs } = assign(z, start);
  let iterations = 0;
  while (iterations < maxIterations) {
    const next = assign(z, means(z, labels, centroids.rows));
    iterations++;
    repairs += next.repairs;
    centroids = next.centroids;
    if (next.labels.every((label, i) => label === labels[i])) break;
    labels = next.labels;
  }
  const inertia = labels.reduce(
    (sum, label, i) => sum + squaredDistance(row(z, i), row(centroids, label)),
    0,
  );
  return { centroids, labels, inertia, iterations, repairs };
}

/** Starts of k-means, the rows that each began with, and which start is kept: a later one has to be better by a hundred-thousandth. */
export function fitKmeans(z: Matrix, options: {
  clusters: number;
  restarts: number;
  max_iterations: number;
  /** The numbers that choose rows, `clusters` a start. */
  uniform: (index: number) => number;
}): { best: number; runs: ReferenceClusters[]; first: number[][] } {
  const { clusters, restarts, max_iterations, uniform } = options;
  const first = Array.from(
    { length: restarts },
    (_, t) => seedRows(z, Array.from({ length: clusters }, (_, j) => uniform(t * clusters + j))),
  );
  const runs = first.map((rows) => {
    const start = matrix(clusters, z.columns);
    rows.forEach((from, j) => row(start, j).set(row(z, from)));
    return lloyd(z, start, max_iterations);
  });
  let best = 0;
  runs.forEach(({ inertia }, t) => {
    if (inertia < runs[best]!.inertia * (1 - 1e-5)) best = t;
  });
  return { best, runs, first };
}
