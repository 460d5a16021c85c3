/**
 * Codes of experts in clusters and on maps, on the host.
 *
 * @module
 */

import { kmeans } from "ml-kmeans";
import { EigenvalueDecomposition, Matrix, QrDecomposition } from "ml-matrix";
import { uniformFloat64 } from "pure-rand/distribution/uniformFloat64";
import { uniformInt } from "pure-rand/distribution/uniformInt";
import { mersenne } from "pure-rand/generator/mersenne";
import { UMAP } from "umap-js";
import type { Codes } from "./codes.ts";

/** Codes in clusters. */
export interface Clustering {
  /** Cluster of each code. */
  readonly labels: readonly number[];
  /** Codes of each cluster. */
  readonly sizes: readonly number[];
  /** Part of the codes' variance that lies between clusters: 0 to 1. */
  readonly explained: number;
}

/** Rounds of k-means at most. */
const ROUNDS = 50;

/**
 * Clusters codes by k-means, seeded: the same codes, number and seed give the same clusters.
 *
 * @throws {RangeError} If there are fewer codes than clusters.
 */
export function clusterCodes(
  codes: Codes,
  options: { readonly clusters: number; readonly seed: number },
): Clustering {
  const { clusters, seed } = options;
  if (clusters > codes.rows) {
    throw new RangeError(`${codes.rows} experts make at most as many clusters, got ${clusters}`);
  }
  const rows = rowsOf(codes);
  const found = kmeans(rows, clusters, { seed, maxIterations: ROUNDS });
  const labels = found.clusters;
  const sizes = Array.from({ length: clusters }, () => 0);
  const sums = Array.from({ length: clusters }, () => new Float64Array(codes.width));
  const mean = new Float64Array(codes.width);
  rows.forEach((row, i) => {
    const label = labels[i]!;
    sizes[label]!++;
    row.forEach((value, j) => {
      sums[label]![j]! += value;
      mean[j]! += value / codes.rows;
    });
  });
  let [within, total] = [0, 0];
  rows.forEach((row, i) => {
    const label = labels[i]!;
    row.forEach((value, j) => {
      within += (value - sums[label]![j]! / sizes[label]!) ** 2;
      total += (value - mean[j]!) ** 2;
    });
  });
  return { labels, sizes, explained: total > 0 ? 1 - within / total : 0 };
}

/** The codes with each number taken from another expert: what a number has is kept, and what numbers have in common is lost. */
export function shuffleCodes(codes: Codes, seed: number): Codes {
  const random = mersenne(seed);
  const values = codes.values.slice();
  for (let j = 0; j < codes.width; j++) {
    for (let i = codes.rows - 1; i > 0; i--) {
      const k = uniformInt(random, 0, i);
      const [a, b] = [i * codes.width + j, k * codes.width + j];
      [values[a], values[b]] = [values[b]!, values[a]!];
    }
  }
  return { ...codes, values };
}

/** A map in two dimensions. */
export interface CodeMap {
  readonly x: readonly number[];
  readonly y: readonly number[];
}

/** Vectors of subspace iteration beside the two that are wanted, and its rounds. */
const EXTRA = 6;
const ITERATIONS = 60;

/**
 * The first two principal components, by subspace iteration on the centred codes in float64; signs make the largest number positive.
 *
 * @returns `explained`: parts of the variance along them.
 */
export function principalMap(codes: Codes): CodeMap & { readonly explained: readonly number[] } {
  const x = new Matrix(rowsOf(codes)).center("column");
  const wanted = Math.min(2 + EXTRA, codes.width, codes.rows);
  const random = mersenne(1);
  let basis = Matrix.zeros(codes.width, wanted);
  for (let i = 0; i < codes.width; i++) {
    for (let j = 0; j < wanted; j++) basis.set(i, j, uniformFloat64(random) - 0.5);
  }
  const xt = x.transpose();
  for (let round = 0; round < ITERATIONS; round++) {
    basis = new QrDecomposition(xt.mmul(x.mmul(basis))).orthogonalMatrix;
  }
  const projected = x.mmul(basis);
  const { realEigenvalues: values, eigenvectorMatrix: vectors } = new EigenvalueDecomposition(
    projected.transpose().mmul(projected),
    { assumeSymmetric: true },
  );
  const order = values.map((_, i) => i).sort((a, b) => values[b]! - values[a]!);
  const total = x.to1DArray().reduce((sum, value) => sum + value ** 2, 0);
  const axis = (rank: number) => {
    const column = order[rank];
    if (column === undefined) return { coordinates: Array.from({ length: codes.rows }, () => 0) };
    const coordinates = projected.mmul(vectors.getColumnVector(column)).to1DArray();
    const largest = coordinates.reduce((a, b) => Math.abs(b) > Math.abs(a) ? b : a, 0);
    return { coordinates: largest < 0 ? coordinates.map((value) => -value) : coordinates };
  };
  return {
    x: axis(0).coordinates,
    y: axis(1).coordinates,
    explained: [0, 1].map((rank) => {
      const column = order[rank];
      return column === undefined || total === 0 ? 0 : Math.max(0, values[column]!) / total;
    }),
  };
}

/**
 * A map by UMAP (McInnes et al. 2018), seeded.
 *
 * @throws {RangeError} If there are fewer than four codes.
 */
export function umapMap(codes: Codes, options: { readonly seed: number }): CodeMap {
  if (codes.rows < 4) throw new RangeError(`UMAP needs at least 4 codes, got ${codes.rows}`);
  const generator = mersenne(options.seed);
  const umap = new UMAP({
    nComponents: 2,
    nNeighbors: Math.min(15, codes.rows - 1),
    random: () => uniformFloat64(generator),
  });
  const places = umap.fit(rowsOf(codes));
  return { x: places.map(([x]) => x!), y: places.map(([, y]) => y!) };
}

/**
 * The part of codes whose nearest neighbour is of the same cluster in a map of two dimensions: how much of the clusters a map shows.
 */
export function neighboursInCluster({ x, y }: CodeMap, labels: readonly number[]): number {
  let same = 0;
  for (let i = 0; i < x.length; i++) {
    let [best, at] = [Infinity, -1];
    for (let j = 0; j < x.length; j++) {
      if (j === i) continue;
      const distance = (x[i]! - x[j]!) ** 2 + (y[i]! - y[j]!) ** 2;
      if (distance < best) [best, at] = [distance, j];
    }
    if (labels[at] === labels[i]) same++;
  }
  return same / x.length;
}

function rowsOf({ rows, width, values }: Codes): number[][] {
  return Array.from(
    { length: rows },
    (_, i) => Array.from(values.subarray(i * width, (i + 1) * width)),
  );
}
