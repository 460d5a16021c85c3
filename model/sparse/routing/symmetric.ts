/**
 * Small symmetric matrices on the host, in float64: eigenvectors, and what makes columns orthonormal.
 *
 * @module
 */

import { EigenvalueDecomposition, Matrix } from "ml-matrix";

/** A square matrix, row-major. */
export type Square = ArrayLike<number>;

/** Eigenvalues, the largest first, and eigenvectors as columns. */
export interface Eigen {
  /** `[n]`. */
  readonly values: Float64Array;
  /** `[n, n]`, row-major. */
  readonly vectors: Float64Array;
}

/**
 * Eigenvalues and eigenvectors of a symmetric matrix `[n, n]`, by Householder's tridiagonal form and implicit QL: about nine n³ operations, half a second for 512.
 * The upper and the lower triangle are averaged first.
 */
export function symmetricEigen(a: Square, n: number): Eigen {
  const mean = new Matrix(n, n);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < n; j++) mean.set(i, j, (a[i * n + j]! + a[j * n + i]!) / 2);
  }
  const found = new EigenvalueDecomposition(mean, { assumeSymmetric: true });
  // The library has the smallest first.
  const ascending = found.realEigenvalues;
  const columns = found.eigenvectorMatrix;
  const values = Float64Array.from({ length: n }, (_, j) => ascending[n - 1 - j]!);
  const vectors = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < n; j++) vectors[i * n + j] = columns.get(i, n - 1 - j);
  }
  return { values, vectors };
}

/** Makes the entry of largest magnitude of each column positive, the first of equals: `[rows, columns]`, in place. */
export function fixSigns(vectors: Float64Array, columns: number): void {
  const rows = vectors.length / columns;
  for (let j = 0; j < columns; j++) {
    let top = 0;
    for (let i = 1; i < rows; i++) {
      if (Math.abs(vectors[i * columns + j]!) > Math.abs(vectors[top * columns + j]!)) top = i;
    }
    if (vectors[top * columns + j]! >= 0) continue;
    for (let i = 0; i < rows; i++) vectors[i * columns + j]! *= -1;
  }
}

/** Added to the diagonal, of ones, of a product of columns that rounding has made singular; doubled until it is not. */
const SHIFT = 1e-6;

/**
 * The matrix `M` `[n, n]` for which the columns of `Y M` are orthonormal, from `Y`'s product with itself, `[n, n]`: the inverse of its Cholesky factor, after columns were
 * scaled to length one. Where columns are all but dependent, what is left of them is only longer than before, and has to be done again.
 */
export function orthonormalizer(product: Square, n: number): Float64Array {
  const length = Float64Array.from({ length: n }, (_, i) => Math.sqrt(product[i * n + i]!) || 1);
  for (let shift = 0;; shift = shift ? 2 * shift : SHIFT) {
    const r = new Float64Array(n * n);
    if (!factor(product, { n, length, shift, r })) continue;
    // The inverse of the upper triangle `r`, row by row from the last: then rows are read in the order in which they lie.
    const inverse = new Float64Array(n * n);
    for (let i = n - 1; i >= 0; i--) {
      const target = inverse.subarray(i * n, (i + 1) * n);
      target[i] = 1;
      for (let k = i + 1; k < n; k++) {
        const factor = r[i * n + k]!;
        const row = inverse.subarray(k * n, (k + 1) * n);
        for (let j = k; j < n; j++) target[j]! -= factor * row[j]!;
      }
      for (let j = i; j < n; j++) target[j]! /= r[i * n + i]!;
    }
    for (let i = 0; i < n; i++) {
      for (let j = i; j < n; j++) inverse[i * n + j]! /= length[i]!;
    }
    return inverse;
  }
}

/** Fills the upper triangle `r` with `rᵀ r = ` the scaled and shifted product; false where it is not positive definite. */
function factor(
  product: Square,
  { n, length, shift, r }: { n: number; length: Float64Array; shift: number; r: Float64Array },
): boolean {
  for (let i = 0; i < n; i++) {
    const target = r.subarray(i * n, (i + 1) * n);
    for (let j = i; j < n; j++) target[j] = product[i * n + j]! / length[i]! / length[j]!;
    target[i]! += shift;
    for (let k = 0; k < i; k++) {
      const above = r.subarray(k * n, (k + 1) * n);
      const scale = above[i]!;
      for (let j = i; j < n; j++) target[j]! -= scale * above[j]!;
    }
    // Smaller numbers are rounding of a product in f32.
    if (!(target[i]! > SHIFT / 4)) return false;
    const pivot = Math.sqrt(target[i]!);
    for (let j = i; j < n; j++) target[j]! /= pivot;
  }
  return true;
}
