/**
 * Compressed forms of a pruned matrix on the host: the stored weights, and where they are.
 *
 * A matrix is `[out, in]`, the layout of `y = x Wᵀ`. Two forms say which positions of a row are stored:
 *
 * - `pattern`: of every `group` neighbouring inputs the same number, with their places in the group;
 * - `mask`: any, with a bit for each position.
 *
 * Stored weights are f32, f16, or codes of quantised levels. (`sparse_expansion.md`, "Storage and work".)
 *
 * @module
 */

import { bitCount, packedWords, unpackRun } from "./bits.ts";

/** A pruned matrix as SparseGPT leaves it. */
export interface PrunedWeights {
  /** `[out, in]`, zeros included. */
  readonly weight: Float32Array;
  /** `[out, in]`: 1 where a weight was pruned. */
  readonly mask: Uint8Array;
  /** Of quantised weights: `weight = scale · (level − zero)`, scale and zero `[out]`, level `[out, in]`. */
  readonly quantised?: {
    readonly scale: Float32Array;
    readonly zero: Float32Array;
    readonly level: Int16Array;
  };
}

/** Stored weights, row after row, in ascending order of their inputs. */
export type StoredValues =
  | { readonly kind: "f32"; readonly numbers: Float32Array }
  | { readonly kind: "f16"; readonly numbers: Float16Array }
  /** Codes of `bits` bits, `level − lowest`. Code `e` of a row begins at bit `e · bits` of the row's words, low bits first; each row begins with a new word. */
  | { readonly kind: "levels"; readonly bits: number; readonly words: Uint32Array };

/** The sizes of a matrix, and its stored weights. */
interface Stored {
  readonly outputs: number;
  readonly inputs: number;
  readonly values: StoredValues;
}

/** A matrix of which every `group` neighbouring inputs of a row store `group − zeros` weights. */
export interface PatternMatrix extends Stored {
  readonly form: "pattern";
  readonly zeros: number;
  readonly group: number;
  /**
   * Places of the stored weights in their groups, ascending, `⌈log₂ group⌉` bits each: place `e` of a row begins at bit `e · ⌈log₂ group⌉` of the row's words, low bits
   * first; each row begins with a new word.
   */
  readonly places: Uint32Array;
}

/** A matrix that stores weights at any positions. */
export interface MaskedMatrix extends Stored {
  readonly form: "mask";
  /** `[out, ⌈in / 32⌉]`: bit `c % 32` of word `c / 32` of a row is set where the weight of input `c` is stored. */
  readonly mask: Uint32Array;
}

/** A matrix in either form. */
export type CompressedMatrix = PatternMatrix | MaskedMatrix;

/** The grid of quantised weights, which all experts of a layer share: `weight = scale · (code + lowest − zero)`. */
export interface LevelGrid {
  /** `[out]`. */
  readonly scale: Float32Array;
  /** `[out]`. */
  readonly zero: Float32Array;
  /** The level whose code is 0. */
  readonly lowest: number;
}

/** How stored weights are written. */
export type ValueType =
  | { readonly kind: "f32" }
  | { readonly kind: "f16" }
  /** Codes `level − lowest` of 2 to 8 bits. */
  | { readonly kind: "levels"; readonly bits: number; readonly lowest: number };

/** How a matrix is compressed. */
export interface Compression {
  readonly inputs: number;
  /** `[N, M]`, N zeros in every M neighbouring inputs: the form `pattern`. Without it the form is `mask`. */
  readonly pattern?: readonly [zeros: number, group: number] | undefined;
  readonly values: ValueType;
}

/** Bits of a place in a group. */
export function placeBits(group: number): number {
  return Math.ceil(Math.log2(group));
}

/** Weights that a row of a matrix with a pattern stores. */
export function storedOfRow(
  { inputs, zeros, group }: Pick<PatternMatrix, "inputs" | "zeros" | "group">,
): number {
  return inputs / group * (group - zeros);
}

/** Weights that each row stores, `[out]`. */
export function storedCounts(matrix: CompressedMatrix): Uint32Array {
  const { outputs, inputs } = matrix;
  const counts = new Uint32Array(outputs);
  if (matrix.form === "pattern") return counts.fill(storedOfRow(matrix));
  const words = packedWords(inputs, 1);
  for (let r = 0; r < outputs; r++) {
    let count = 0;
    for (let w = 0; w < words; w++) count += bitCount(matrix.mask[r * words + w]!);
    counts[r] = count;
  }
  return counts;
}

/** Bytes of the stored weights and of what says where they are; of the grid that experts share none. */
export function compressedBytes(matrix: CompressedMatrix): number {
  const { values } = matrix;
  const where = matrix.form === "pattern" ? matrix.places : matrix.mask;
  return where.byteLength +
    (values.kind === "levels" ? values.words.byteLength : values.numbers.byteLength);
}

/**
 * Refuses parts that do not make a matrix: their lengths, places beyond their group or out of order, and bits beyond the inputs.
 *
 * @param name What the matrix is called in messages.
 * @throws {RangeError} Which part is wrong, and what was expected.
 */
export function checkCompressed(matrix: CompressedMatrix, name: string): void {
  const { outputs, inputs, values } = matrix;
  const expect = (part: string, found: number, expected: number) => {
    if (found === expected) return;
    throw new RangeError(`${name}: ${part} has ${found} entries, expected ${expected}`);
  };
  if (matrix.form === "pattern") {
    const { zeros, group, places } = matrix;
    checkPattern(name, inputs, [zeros, group]);
    const words = packedWords(storedOfRow(matrix), placeBits(group));
    expect("places", places.length, outputs * words);
    checkPlaces(matrix, name);
  } else {
    const words = packedWords(inputs, 1);
    expect("mask", matrix.mask.length, outputs * words);
    const beyond = inputs % 32 === 0 ? 0 : -1 << inputs % 32;
    for (let r = 0; r < outputs; r++) {
      if ((matrix.mask[(r + 1) * words - 1]! & beyond) === 0) continue;
      throw new RangeError(`${name}: mask of row ${r} has bits beyond its ${inputs} inputs`);
    }
  }
  const counts = storedCounts(matrix);
  if (values.kind === "levels") {
    checkBits(name, values.bits);
    expect(
      "levels",
      values.words.length,
      counts.reduce((sum, n) => sum + packedWords(n, values.bits), 0),
    );
  } else expect("values", values.numbers.length, counts.reduce((sum, n) => sum + n, 0));
}

/** Bits of a group's places up to which all that they can say are looked at beforehand: 4:8 has twelve. */
const TABLE_BITS = 12;

/** For all that the places of a group can say, whether they ascend. */
function ascendingPlaces(group: number, kept: number): Uint8Array {
  const bits = placeBits(group);
  const ascend = new Uint8Array(2 ** (kept * bits)).fill(1);
  for (let said = 0; said < ascend.length; said++) {
    let before = -1;
    for (let i = 0; i < kept; i++) {
      const place = said >>> (i * bits) & ((1 << bits) - 1);
      if (place <= before || place >= group) ascend[said] = 0;
      before = place;
    }
  }
  return ascend;
}

/** Refuses places beyond their group or out of order. */
function checkPlaces(matrix: PatternMatrix, name: string): void {
  const { outputs, zeros, group, places } = matrix;
  const bits = placeBits(group);
  const [stored, kept] = [storedOfRow(matrix), group - zeros];
  if (kept === 0) return;
  const words = packedWords(stored, bits);
  const ascend = kept * bits <= TABLE_BITS ? ascendingPlaces(group, kept) : undefined;
  const groups = new Uint32Array(stored / kept);
  const row = new Uint32Array(stored);
  for (let r = 0; r < outputs; r++) {
    const first = r * words;
    if (ascend) {
      unpackRun(places, { first, count: groups.length, bits: kept * bits }, { numbers: groups });
      let all = 1;
      for (let g = 0; g < groups.length; g++) all &= ascend[groups[g]!]!;
      if (all === 1) continue;
    }
    unpackRun(places, { first, count: stored, bits }, { numbers: row });
    let before = -1;
    for (let e = 0; e < stored; e++) {
      if (e % kept === 0) before = -1;
      const place = row[e]!;
      if (place <= before || place >= group) {
        throw new RangeError(
          `${name}: place ${e} of row ${r} is ${place} after ${before}, expected ascending places below ${group}`,
        );
      }
      before = place;
    }
  }
}

/** Refuses bits of a level that no form has. */
export function checkBits(name: string, bits: number): void {
  if (Number.isInteger(bits) && bits >= 2 && bits <= 8) return;
  throw new RangeError(`${name}: bits is ${bits}, expected a whole number from 2 to 8`);
}

/** Refuses a pattern that rows of so many inputs cannot have. */
export function checkPattern(
  name: string,
  inputs: number,
  [zeros, group]: readonly [number, number],
): void {
  const whole = [zeros, group].every((n) => Number.isInteger(n) && n >= 1);
  if (whole && zeros <= group && inputs % group === 0) return;
  throw new RangeError(
    `${name}: pattern is ${zeros}:${group}, expected N:M with N from 1 to M and M dividing ${inputs} inputs`,
  );
}
