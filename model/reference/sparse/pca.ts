/**
 * Principal components in float64, by cyclic Jacobi rotations of the covariance.
 *
 * @module
 */

import { columnSums, matmul, type Matrix, matrix, row, transpose } from "../matrix.ts";

/** A projection onto the directions of the largest variance. */
export interface ReferencePca {
  /** Mean of each input. */
  readonly mean: Float64Array;
  /** `[width, count]`: orthonormal columns, the largest variance first, the largest entry of each positive. */
  readonly components: Matrix;
  /** Variance along each of them. */
  readonly variance: Float64Array;
}

/** Sweeps over all pairs at most; ten are enough for any matrix that fits. */
const MAX_SWEEPS = 60;

/** Rotates rows and columns `p` and `q` of a symmetric matrix so that their common entry becomes zero, and the columns of `vectors`. */
function rotate(a: Matrix, vectors: Matrix, p: number, q: number): void {
  const n = a.rows;
  const at = (i: number, j: number) => a.data[i * n + j]!;
  const off = at(p, q);
  if (off === 0) return;
  const ratio = (at(q, q) - at(p, p)) / (2 * off);
  const t = (ratio >= 0 ? 1 : -1) / (Math.abs(ratio) + Math.hypot(ratio, 1));
  const c = 1 / Math.hypot(t, 1);
  const s = t * c;
  for (const [target, step] of [[a, "columns"], [a, "rows"], [vectors, "columns"]] as const) {
    for (let k = 0; k < n; k++) {
      const [ip, iq] = step === "columns" ? [k * n + p, k * n + q] : [p * n + k, q * n + k];
      const [x, y] = [target.data[ip]!, target.data[iq]!];
      target.data[ip] = c * x - s * y;
      target.data[iq] = s * x + c * y;
    }
  }
}

/** Eigenvalues of a symmetric matrix, the largest first, and its eigenvectors as columns. */
export function jacobiEigen(symmetric: Matrix): { values: Float64Array; vectors: Matrix } {
  const n = symmetric.rows;
  const a = matrix(n, n, symmetric.data.slice());
  const vectors = matrix(n, n);
  for (let i = 0; i < n; i++) vectors.data[i * n + i] = 1;
  const norm = Math.hypot(...a.data);
  for (let sweep = 0; sweep < MAX_SWEEPS; sweep++) {
    let off = 0;
    for (let p = 0; p < n; p++) for (let q = 0; q < p; q++) off += a.data[p * n + q]! ** 2;
    if (Math.sqrt(off) <= 1e-15 * norm) break;
    for (let p = 0; p < n; p++) for (let q = p + 1; q < n; q++) rotate(a, vectors, p, q);
  }
  const order = Array.from({ length: n }, (_, i) => i)
    .sort((i, j) => a.data[j * n + j]! - a.data[i * n + i]!);
  const sorted = matrix(n, n);
  order.forEach((from, to) => {
    for (let k = 0; k < n; k++) sorted.data[k * n + to] = vectors.data[k * n + from]!;
  });
  return { values: Float64Array.from(order, (i) => a.data[i * n + i]!), vectors: sorted };
}

/** `x` with the mean of each column taken from it. */
function centred(x: Matrix, mean: Float64Array): Matrix {
  return matrix(x.rows, x.columns, x.data.map((v, i) => v - mean[i % x.columns]!));
}

/** The principal components of rows, `count` of them. */
export function fitPca(x: Matrix, count: number): ReferencePca {
  const mean = columnSums(x).map((sum) => sum / x.rows);
  const difference = centred(x, mean);
  const covariance = matmul(transpose(difference), difference);
  covariance.data.forEach((v, i) => covariance.data[i] = v / (x.rows - 1));
  const { values, vectors } = jacobiEigen(covariance);
  const components = matrix(x.columns, count);
  for (let j = 0; j < count; j++) {
    const column = Float64Array.from({ length: x.columns }, (_, i) => row(vectors, i)[j]!);
    let top = 0;
    column.forEach((v, i) => {
      if (Math.abs(v) > Math.abs(column[top]!)) top = i;
    });
    const sign = column[top]! < 0 ? -1 : 1;
    column.forEach((v, i) => components.data[i * count + j] = sign * v);
  }
  return { mean, components, variance: values.slice(0, count) };
}

/** `(x − mean) P`. */
export function project({ mean, components }: ReferencePca, x: Matrix): Matrix {
  return matmul(centred(x, mean), components);
}
