/**
 * Sparse Expansion of the linear layers that read one input, in float64: a router, and an expert for each cluster.
 *
 * @module
 */

import { componentsOf, type Expansion, type Pruning } from "../../sparse/options.ts";
import { matmul, type Matrix, matrix, row, transpose } from "../matrix.ts";
import { drawnCentroids } from "./centroids.ts";
import { assign, fitKmeans, nearest } from "./kmeans.ts";
import { fitPca, project, type ReferencePca } from "./pca.ts";
import { hessian, pruneByMagnitude, type ReferencePruned, sparsegpt } from "./sparsegpt.ts";

/** Layers that share a router, expanded. */
export interface ReferenceSite {
  /** Undefined where rows are clustered as they are. */
  readonly pca: ReferencePca | undefined;
  /** `[clusters, components]`. */
  readonly centroids: Matrix;
  /** Clusters of the rows that the router was fitted to. */
  readonly labels: Int32Array;
  /** For each layer, an expert a cluster. */
  readonly experts: Readonly<Record<string, readonly ReferencePruned[]>>;
}

/** The rows of a matrix that a test picks. */
function rowsWhere(x: Matrix, keep: (index: number) => boolean): Matrix {
  const kept = Array.from({ length: x.rows }, (_, i) => i).filter(keep);
  const out = matrix(kept.length, x.columns);
  kept.forEach((from, to) => row(out, to).set(row(x, from)));
  return out;
}

/** Centroids of the clustered rows, and the cluster of each. */
function clusters(z: Matrix, { expansion, uniform, pca }: {
  expansion: Expansion;
  uniform: (index: number) => number;
  pca: ReferencePca | undefined;
}): { centroids: Matrix; labels: Int32Array } {
  const { centroids = "kmeans" } = expansion;
  if (centroids !== "kmeans") {
    return assign(z, drawnCentroids(z, { kind: centroids, ...expansion, uniform, pca }));
  }
  const { best, runs } = fitKmeans(z, { ...expansion, uniform });
  return runs[best]!;
}

/** Expands the layers that read `x` `[n, in]`: `weights` are `[out, in]` by name. */
export function expandSite(
  x: Matrix,
  weights: Readonly<Record<string, Matrix>>,
  options: { expansion: Expansion; pruning: Pruning; uniform: (index: number) => number },
): ReferenceSite {
  const { expansion, pruning, uniform } = options;
  const { pca_factor } = expansion;
  const pca = pca_factor ? fitPca(x, componentsOf(x.columns, pca_factor)) : undefined;
  const { centroids, labels } = clusters(pca ? project(pca, x) : x, { expansion, uniform, pca });
  const hessians = Array.from({ length: expansion.clusters }, (_, j) => {
    const own = hessian(rowsWhere(x, (i) => labels[i] === j));
    // A cluster of zeros says nothing about its layer's inputs.
    return own.data.some((v) => v !== 0) ? own : hessian(x);
  });
  const experts = Object.fromEntries(
    Object.entries(weights).map(([name, w]) => [
      name,
      hessians.map((h) =>
        pruning.method === "magnitude" ? pruneByMagnitude(w, pruning) : sparsegpt(w, h, pruning)
      ),
    ]),
  );
  return { pca, centroids, labels, experts };
}

/** The cluster of each row. */
export function routeSite({ pca, centroids }: ReferenceSite, x: Matrix): Int32Array {
  return nearest(pca ? project(pca, x) : x, centroids);
}

/** `x Wᵀ` with the expert of each row's cluster. */
export function applySite(site: ReferenceSite, name: string, x: Matrix): Matrix {
  const labels = routeSite(site, x);
  const experts = site.experts[name]!.map(({ weight }) => transpose(weight));
  const out = matrix(x.rows, experts[0]!.columns);
  labels.forEach((label, i) => {
    row(out, i).set(matmul(matrix(1, x.columns, row(x, i).slice()), experts[label]!).data);
  });
  return out;
}
