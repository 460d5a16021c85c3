/**
 * Centroids of the controls in float64: rows, or random directions.
 *
 * @module
 */

import { matmul, type Matrix, matrix, row } from "../matrix.ts";
import type { ReferencePca } from "./pca.ts";

/** Centroids `[clusters, width]` that no k-means placed: different rows of `z`, or directions among components of equal variance. */
export function drawnCentroids(z: Matrix, { kind, clusters, uniform, pca }: {
  kind: "rows" | "random";
  clusters: number;
  uniform: (index: number) => number;
  pca: ReferencePca | undefined;
}): Matrix {
  if (kind === "rows") {
    const drawn: Float64Array[] = [];
    for (let i = 0; drawn.length < clusters; i++) {
      const found = row(z, Math.floor(uniform(i) * z.rows));
      if (!drawn.some((other) => other.every((v, k) => v === found[k]))) drawn.push(found);
    }
    return matrix(clusters, z.columns, Float64Array.from(drawn.flatMap((own) => [...own])));
  }
  if (!pca) throw new RangeError("Random directions need components");
  const { components, variance } = pca;
  const noise = matrix(clusters, components.rows);
  noise.data.forEach((_, i) => noise.data[i] = 2 * uniform(i) - 1);
  const out = matmul(noise, components);
  const total = variance.reduce((a, b) => a + b, 0);
  for (let j = 0; j < clusters; j++) {
    const own = row(out, j);
    own.forEach((v, k) =>
      own[k] = variance[k]! > 1e-6 * variance[0]! ? v / Math.sqrt(variance[k]!) : 0
    );
    const factor = Math.sqrt(total) / Math.hypot(...own);
    own.forEach((v, k) => own[k] = v * factor);
  }
  return out;
}
