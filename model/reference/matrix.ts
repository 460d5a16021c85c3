/**
 * The few matrix helpers that the reference is written in: row-major float64, nothing clever.
 *
 * @module
 */

/** A row-major matrix of float64. */
export interface Matrix {
  /** Number of rows. */
  readonly rows: number;
  /** Number of columns. */
  readonly columns: number;
  /** `rows · columns` numbers, row after row. */
  readonly data: Float64Array;
}

/** Named weights, or their gradients, as flat row-major arrays; shapes follow from the configuration. */
export type Weights<Name extends string> = Readonly<Record<Name, Float64Array>>;

/**
 * A matrix over `data`, or one of zeros.
 *
 * @example
 * ```ts
 * import { assert } from "@std/assert";
 * import { matmul, matrix, transpose } from "./matrix.ts";
 * const x = matrix(1, 2, Float64Array.of(3, 4));
 * assert(matmul(x, transpose(x)).data[0] === 25);
 * ```
 *
 * @throws {RangeError} If `data` does not hold `rows · columns` numbers.
 */
export function matrix(
  rows: number,
  columns: number,
  data: Float64Array = new Float64Array(rows * columns),
): Matrix {
  if (data.length !== rows * columns) {
    throw new RangeError(
      `A ${rows}×${columns} matrix holds ${rows * columns} numbers, got ${data.length}`,
    );
  }
  return { rows, columns, data };
}

/** Row `i`, as a view: writing to it writes to the matrix. */
export function row(m: Matrix, i: number): Float64Array {
  return m.data.subarray(i * m.columns, (i + 1) * m.columns);
}

/** `Σ aᵢ bᵢ`. */
export function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i]! * b[i]!;
  return sum;
}

/** `target += scale · source`, in place. */
export function addScaled(target: Float64Array, scale: number, source: Float64Array): void {
  for (let i = 0; i < target.length; i++) target[i]! += scale * source[i]!;
}

/** `a b`. @throws {RangeError} If the inner sizes differ. */
export function matmul(a: Matrix, b: Matrix): Matrix {
  if (a.columns !== b.rows) {
    throw new RangeError(`Cannot multiply ${a.rows}×${a.columns} by ${b.rows}×${b.columns}`);
  }
  const out = matrix(a.rows, b.columns);
  for (let i = 0; i < a.rows; i++) {
    const target = row(out, i);
    for (let j = 0; j < a.columns; j++) {
      addScaled(target, a.data[i * a.columns + j]!, row(b, j));
    }
  }
  return out;
}

/** `aᵀ`. */
export function transpose(a: Matrix): Matrix {
  const out = matrix(a.columns, a.rows);
  for (let i = 0; i < a.rows; i++) {
    for (let j = 0; j < a.columns; j++) out.data[j * a.rows + i] = a.data[i * a.columns + j]!;
  }
  return out;
}

/** `f` of each element. */
export function map(a: Matrix, f: (value: number) => number): Matrix {
  return matrix(a.rows, a.columns, a.data.map(f));
}

/** `f` of each pair of elements. @throws {RangeError} If the shapes differ. */
export function zip(a: Matrix, b: Matrix, f: (a: number, b: number) => number): Matrix {
  if (a.rows !== b.rows || a.columns !== b.columns) {
    throw new RangeError(`Shapes differ: ${a.rows}×${a.columns} and ${b.rows}×${b.columns}`);
  }
  return matrix(a.rows, a.columns, a.data.map((value, i) => f(value, b.data[i]!)));
}

/** `a + b`. */
export function add(a: Matrix, b: Matrix): Matrix {
  return zip(a, b, (x, y) => x + y);
}

/** A copy of the rows from `top` and the columns from `left`. */
export function block(
  a: Matrix,
  at: { top?: number; left?: number; rows?: number; columns?: number },
): Matrix {
  const { top = 0, left = 0, rows = a.rows - top, columns = a.columns - left } = at;
  const out = matrix(rows, columns);
  for (let i = 0; i < rows; i++) {
    row(out, i).set(row(a, top + i).subarray(left, left + columns));
  }
  return out;
}

/** Adds `part` to the rows of `target` from `top` and its columns from `left`, in place. */
export function addBlock(
  target: Matrix,
  part: Matrix,
  at: { top?: number; left?: number },
): void {
  const { top = 0, left = 0 } = at;
  for (let i = 0; i < part.rows; i++) {
    addScaled(row(target, top + i).subarray(left, left + part.columns), 1, row(part, i));
  }
}

/** `[a | b]`: the columns of `b` after those of `a`. */
export function concatColumns(a: Matrix, b: Matrix): Matrix {
  const out = matrix(a.rows, a.columns + b.columns);
  addBlock(out, a, {});
  addBlock(out, b, { left: a.columns });
  return out;
}

/** The sum over the rows, one number a column. */
export function columnSums(a: Matrix): Float64Array {
  const out = new Float64Array(a.columns);
  for (let i = 0; i < a.rows; i++) addScaled(out, 1, row(a, i));
  return out;
}

/** `exp(vᵢ) / Σ exp(v)`, shifted by the maximum; `-Infinity` becomes 0. */
export function softmax(v: Float64Array): Float64Array {
  const largest = v.reduce((a, b) => Math.max(a, b), -Infinity);
  const out = v.map((x) => Math.exp(x - largest));
  const sum = out.reduce((a, b) => a + b, 0);
  return out.map((x) => x / sum);
}

/** Gradient of a softmax's input, of its output `p` and the output's gradient `g`: `p ⊙ (g − p·g)`. */
export function softmaxBackward(p: Float64Array, g: Float64Array): Float64Array {
  const mean = dot(p, g);
  return p.map((value, i) => value * (g[i]! - mean));
}
