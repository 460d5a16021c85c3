/**
 * Experts that are copies of a dense layer (Komatsuzaki et al. 2023, "Sparse Upcycling"), equal or with noise.
 *
 * @module
 */

/** Options of {@linkcode copyOfExpert}. */
export interface CopyOptions {
  /** Standard deviation of the noise, in standard deviations of the copied numbers; 0 for equal copies. */
  readonly noise: number;
  /** Seed of the training. */
  readonly seed: number;
  /** Name of the tensor that the copy is part of. */
  readonly name: string;
  /** Number of the expert. */
  readonly expert: number;
}

/**
 * One expert's copy of a matrix. The noise is uniform: it takes integers and products alone, so each machine gives the same bits.
 */
export function copyOfExpert(values: Float32Array, options: CopyOptions): Float32Array {
  const { noise, seed, name, expert } = options;
  if (noise === 0) return values;
  let state = mixed(seed, expert);
  for (const letter of name) state = mixed(state, letter.codePointAt(0)!);
  const bound = noise * Math.sqrt(3 * variance(values));
  return values.map((value, i) => value + bound * (mixed(state, i) / 2 ** 31 - 1));
}

/** A hash of two integers, 32 bits. */
function mixed(a: number, b: number): number {
  let h = Math.imul(a ^ 0x9e3779b9, 0x85ebca6b) ^ Math.imul((b + 0x7f4a7c15) | 0, 0xc2b2ae35);
  h = Math.imul(h ^ (h >>> 16), 0x7feb352d);
  h = Math.imul(h ^ (h >>> 15), 0x846ca68b);
  return (h ^ (h >>> 16)) >>> 0;
}

/** Population variance, in float64. */
function variance(values: Float32Array): number {
  let sum = 0;
  for (const value of values) sum += value;
  const mean = sum / values.length;
  let squares = 0;
  for (const value of values) squares += (value - mean) ** 2;
  return squares / values.length;
}
