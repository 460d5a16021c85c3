/**
 * Learned positions: a row of a table is added to every token, by the token's place in its sequence.
 *
 * @module
 */

import { addScaled, type Matrix, matrix, row } from "./matrix.ts";

/** Where the rows of a matrix stand in their sequences. */
export interface Places {
  /** Tokens of a sequence; sequences follow one another. */
  readonly length: number;
  /** Position of every sequence's first token; defaults to 0. */
  readonly start?: number;
}

/**
 * `x[t] + table[t mod length + start]`.
 *
 * @throws {RangeError} If a sequence is longer than the table.
 */
export function addPositions(x: Matrix, table: Matrix, { length, start = 0 }: Places): Matrix {
  if (start + length > table.rows) {
    throw new RangeError(
      `A sequence of ${length} tokens from position ${start} needs ${
        start + length
      } positions; the table has ${table.rows}`,
    );
  }
  const y = matrix(x.rows, x.columns, x.data.slice());
  for (let t = 0; t < x.rows; t++) addScaled(row(y, t), 1, row(table, t % length + start));
  return y;
}

/** Gradient of a table of `positions` rows: at each position the sum over the sequences. Positions beyond a sequence get zero. */
export function positionsBackward(
  gradient: Matrix,
  { length, start = 0, positions }: Places & { positions: number },
): Matrix {
  const table = matrix(positions, gradient.columns);
  for (let t = 0; t < gradient.rows; t++) {
    addScaled(row(table, t % length + start), 1, row(gradient, t));
  }
  return table;
}
