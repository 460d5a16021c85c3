/**
 * Packing a pruned matrix into a compressed form, and unpacking it to the same numbers.
 *
 * @module
 */

import { bitCount, packedWords, packRun, readPacked } from "./bits.ts";
import {
  checkBits,
  checkCompressed,
  checkPattern,
  type CompressedMatrix,
  type Compression,
  type LevelGrid,
  placeBits,
  type PrunedWeights,
  storedCounts,
  type StoredValues,
  type ValueType,
} from "./forms.ts";

/**
 * Packs a matrix.
 *
 * The form `mask` stores each position that is not pruned, also a weight that is 0. The form `pattern` stores of each group the positions that are not pruned and, where those are
 * fewer than `group − zeros` (dead inputs), the lowest pruned ones besides: with the number 0, or the code of the row's zero point.
 *
 * @param name What the matrix is called in messages.
 * @throws {RangeError} What does not fit: sizes, a group with too many weights, a level beyond its bits, a weight that no half holds.
 */
export function packMatrix(
  name: string,
  pruned: PrunedWeights,
  { inputs, pattern, values }: Compression,
): CompressedMatrix {
  const { weight, mask } = pruned;
  const outputs = weight.length / inputs;
  if (!Number.isInteger(outputs) || mask.length !== weight.length) {
    throw new RangeError(
      `${name}: ${weight.length} weights and ${mask.length} marks do not make rows of ${inputs}`,
    );
  }
  if (pattern) {
    checkPattern(name, inputs, pattern);
    const [zeros, group] = pattern;
    const kept = group - zeros;
    const stored = inputs / group * kept;
    const counts = new Uint32Array(outputs).fill(stored);
    const writer = writerOf(name, pruned, { inputs, counts, values });
    const bits = placeBits(group);
    const words = packedWords(stored, bits);
    const places = new Uint32Array(outputs * words);
    // A group is written before it is known to keep too many.
    const columns = new Uint32Array(stored + group);
    const row = new Uint32Array(stored);
    for (let r = 0; r < outputs; r++) {
      const full = chooseColumns(mask, { at: r * inputs, inputs, group, kept }, columns);
      if (full) {
        throw new RangeError(
          `${name}: row ${r} keeps ${full.count} of the inputs ${full.first} to ${
            full.first + group - 1
          }, expected at most ${kept}`,
        );
      }
      placesOf(columns, group, row);
      packRun(places, { first: r * words, count: stored, bits }, row);
      writer.write(r, columns, stored);
    }
    return {
      ...{ form: "pattern", outputs, inputs, zeros, group, places },
      values: writer.values,
    };
  }
  const words = packedWords(inputs, 1);
  const bits = new Uint32Array(outputs * words);
  const counts = markStored(mask, { outputs, inputs, bits });
  const writer = writerOf(name, pruned, { inputs, counts, values });
  const columns = new Uint32Array(inputs + 1);
  for (let r = 0; r < outputs; r++) {
    const at = r * inputs;
    let e = 0;
    for (let c = 0; c < inputs; c++) {
      columns[e] = c;
      e += 1 - mask[at + c]!;
    }
    writer.write(r, columns, e);
  }
  return { form: "mask", outputs, inputs, mask: bits, values: writer.values };
}

/**
 * Chooses what a row with a pattern stores: inputs in ascending order, and of those that are pruned their number and that of all inputs together.
 *
 * @returns A group that keeps more than it may, if there is one: its first input, and how many it keeps.
 */
function chooseColumns(
  mask: Uint8Array,
  { at, inputs, group, kept }: { at: number; inputs: number; group: number; kept: number },
  columns: Uint32Array,
): { first: number; count: number } | undefined {
  let e = 0;
  for (let first = 0; first < inputs; first += group) {
    const begin = e;
    // Without a branch, which every other weight would take by surprise.
    for (let c = first; c < first + group; c++) {
      columns[e] = c;
      e += 1 - mask[at + c]!;
    }
    const count = e - begin;
    if (count === kept) continue;
    if (count > kept) return { first, count };
    e = begin;
    let spare = kept - count;
    for (let c = first; c < first + group; c++) {
      if (mask[at + c] === 0) columns[e++] = c;
      else if (spare-- > 0) columns[e++] = inputs + c;
    }
  }
  return undefined;
}

/** Places of inputs in their groups, which also those of pruned ones are: groups divide the number of all inputs. */
function placesOf(columns: Uint32Array, group: number, places: Uint32Array): void {
  const low = group - 1;
  // A division takes longer than all else that is done for a weight.
  if ((group & low) === 0) {
    for (let e = 0; e < places.length; e++) places[e] = columns[e]! & low;
  } else {
    for (let e = 0; e < places.length; e++) places[e] = columns[e]! % group;
  }
}

/** Sets the bits of stored weights; returns how many each row stores, `[out]`. */
function markStored(
  mask: Uint8Array,
  { outputs, inputs, bits }: { outputs: number; inputs: number; bits: Uint32Array },
): Uint32Array {
  const counts = new Uint32Array(outputs);
  let w = 0;
  for (let r = 0; r < outputs; r++) {
    let count = 0;
    for (let first = 0; first < inputs; first += 32) {
      const at = r * inputs + first;
      const columns = Math.min(32, inputs - first);
      let word = 0;
      for (let c = 0; c < columns; c++) word |= (1 - mask[at + c]!) << c;
      bits[w++] = word;
      count += bitCount(word);
    }
    counts[r] = count;
  }
  return counts;
}

/** Where stored weights go. */
interface Writer {
  readonly values: StoredValues;
  /** Stores the weights of a row that lie at the first `count` of `columns`, where a number beyond the inputs is that of a pruned one and of all inputs together. Rows are written in order. */
  write(row: number, columns: Uint32Array, count: number): void;
}

/** The form of the weights, and how many each row stores. */
interface StoredShape {
  readonly inputs: number;
  readonly counts: Uint32Array;
}

function writerOf(
  name: string,
  pruned: PrunedWeights,
  { values, ...shape }: StoredShape & { readonly values: ValueType },
): Writer {
  if (values.kind === "levels") return levelWriter(name, pruned, { values, ...shape });
  const { weight } = pruned;
  const { inputs, counts } = shape;
  // A row, and as many zeros for what is pruned.
  const own = new Float32Array(2 * inputs);
  const read = (row: number) => own.set(weight.subarray(row * inputs, (row + 1) * inputs));
  const total = counts.reduce((sum, n) => sum + n, 0);
  let next = 0;
  if (values.kind === "f32") {
    const numbers = new Float32Array(total);
    return {
      values: { kind: "f32", numbers },
      write(row, columns, count) {
        read(row);
        for (let e = 0; e < count; e++) numbers[next++] = own[columns[e]!]!;
      },
    };
  }
  const numbers = new Float16Array(total);
  return {
    values: { kind: "f16", numbers },
    write(row, columns, count) {
      read(row);
      for (let e = 0; e < count; e++) {
        const value = own[columns[e]!]!;
        if (!(Math.abs(value) < HALF_OVERFLOW)) {
          throw new RangeError(
            `${name}: weight of row ${row}, input ${
              columns[e]
            } is ${value}, expected a number that a half holds`,
          );
        }
        numbers[next++] = value;
      }
    },
  };
}

/** The smallest number that is rounded to an infinite half: midway between the largest finite one and 2¹⁶. */
const HALF_OVERFLOW = 65520;

function levelWriter(
  name: string,
  { quantised }: PrunedWeights,
  { inputs, counts, values: { bits, lowest } }: StoredShape & {
    readonly values: ValueType & { readonly kind: "levels" };
  },
): Writer {
  checkBits(name, bits);
  if (!quantised) throw new RangeError(`${name} has no levels, expected quantised weights`);
  const { level, zero } = quantised;
  const firsts = firstWords(counts, bits);
  const words = new Uint32Array(firsts.at(-1)!);
  const most = 2 ** bits - 1;
  // A row, and as often its zero point, which is the level of what is pruned.
  const own = new Float32Array(2 * inputs);
  const codes = new Uint8Array(inputs);
  return {
    values: { kind: "levels", bits, words },
    write(row, columns, count) {
      own.set(level.subarray(row * inputs, (row + 1) * inputs));
      own.fill(zero[row]!, inputs);
      for (let e = 0; e < count; e++) {
        const code = own[columns[e]!]! - lowest;
        if (!(code >= 0 && code <= most && Number.isInteger(code))) {
          throw new RangeError(
            `${name}: level of row ${row}, input ${columns[e]! % inputs} is ${
              code + lowest
            }, expected a whole number from ${lowest} to ${lowest + most}`,
          );
        }
        codes[e] = code;
      }
      packRun(words, { first: firsts[row]!, count, bits }, codes);
    },
  };
}

/** First word of each row's codes, and after them the number of words, `[out + 1]`. */
export function firstWords(counts: Uint32Array, bits: number): Uint32Array {
  const firsts = new Uint32Array(counts.length + 1);
  for (let r = 0; r < counts.length; r++) {
    firsts[r + 1] = firsts[r]! + packedWords(counts[r]!, bits);
  }
  return firsts;
}

/** Calls `visit` with each stored weight's row, its number in the row and its input, in the order of storage. */
export function forEachStored(
  matrix: CompressedMatrix,
  visit: (row: number, e: number, column: number) => void,
): void {
  const { outputs, inputs } = matrix;
  if (matrix.form === "pattern") {
    const { zeros, group, places } = matrix;
    const kept = group - zeros;
    const bits = placeBits(group);
    const stored = inputs / group * kept;
    const words = packedWords(stored, bits);
    for (let r = 0; r < outputs; r++) {
      let e = 0;
      for (let first = 0; first < inputs; first += group) {
        for (let i = 0; i < kept; i++, e++) {
          visit(r, e, first + readPacked(places, r * words, e, bits));
        }
      }
    }
    return;
  }
  const words = packedWords(inputs, 1);
  for (let r = 0; r < outputs; r++) {
    let e = 0;
    for (let w = 0; w < words; w++) {
      for (let left = matrix.mask[r * words + w]!; left !== 0; left &= left - 1) {
        visit(r, e++, w * 32 + 31 - Math.clz32(left & -left));
      }
    }
  }
}

/**
 * Unpacks a matrix: weights, marks that are 1 where none is stored, and levels where weights are quantised; the level of a weight that is not stored is the row's zero point.
 *
 * @param options `name`: what the matrix is called in messages. `grid`: of quantised weights.
 * @throws {RangeError} If parts do not make a matrix, or quantised weights have no grid.
 */
export function unpackMatrix(
  matrix: CompressedMatrix,
  { name, grid }: { name: string; grid?: LevelGrid | undefined },
): PrunedWeights {
  checkCompressed(matrix, name);
  const { outputs, inputs, values } = matrix;
  const weight = new Float32Array(outputs * inputs);
  const mask = new Uint8Array(outputs * inputs).fill(1);
  if (values.kind !== "levels") {
    let at = 0;
    forEachStored(matrix, (row, _, column) => {
      weight[row * inputs + column] = values.numbers[at++]!;
      mask[row * inputs + column] = 0;
    });
    return { weight, mask };
  }
  if (!grid) throw new RangeError(`${name} has levels, expected their grid`);
  const { scale, zero, lowest } = grid;
  const { bits, words } = values;
  const firsts = firstWords(storedCounts(matrix), bits);
  const level = new Int16Array(outputs * inputs);
  for (let r = 0; r < outputs; r++) level.fill(zero[r]!, r * inputs, (r + 1) * inputs);
  forEachStored(matrix, (row, e, column) => {
    const at = row * inputs + column;
    level[at] = readPacked(words, firsts[row]!, e, bits) + lowest;
    weight[at] = scale[row]! * (level[at]! - zero[row]!);
    mask[at] = 0;
  });
  return { weight, mask, quantised: { scale, zero, level } };
}
