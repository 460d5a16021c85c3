/**
 * Packing a pruned matrix into a compressed form, and unpacking it to the same numbers.
 *
 * @module
 */

import {
  checkBits,
  checkCompressed,
  checkPattern,
  type CompressedMatrix,
  type Compression,
  type LevelGrid,
  packedWords,
  placeBits,
  type PrunedWeights,
  readPacked,
  storedCounts,
  type StoredValues,
  type ValueType,
  writePacked,
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
    for (let r = 0; r < outputs; r++) {
      let e = 0;
      for (let first = 0; first < inputs; first += group) {
        let spare = kept;
        for (let p = 0; p < group; p++) spare -= 1 - mask[r * inputs + first + p]!;
        if (spare < 0) {
          throw new RangeError(
            `${name}: row ${r} keeps ${kept - spare} of the inputs ${first} to ${
              first + group - 1
            }, expected at most ${kept}`,
          );
        }
        for (let p = 0; p < group; p++) {
          const own = mask[r * inputs + first + p] === 0;
          if (!own && spare-- <= 0) continue;
          writePacked(places, { first: r * words, e, bits }, p);
          writer.write(r, e++, first + p);
        }
      }
    }
    return {
      ...{ form: "pattern", outputs, inputs, zeros, group, places },
      values: writer.values,
    };
  }
  const counts = new Uint32Array(outputs);
  for (let r = 0; r < outputs; r++) {
    let count = 0;
    for (let c = 0; c < inputs; c++) count += 1 - mask[r * inputs + c]!;
    counts[r] = count;
  }
  const writer = writerOf(name, pruned, { inputs, counts, values });
  const words = packedWords(inputs, 1);
  const bits = new Uint32Array(outputs * words);
  for (let r = 0; r < outputs; r++) {
    let e = 0;
    for (let c = 0; c < inputs; c++) {
      if (mask[r * inputs + c] !== 0) continue;
      bits[r * words + (c >>> 5)]! |= 1 << (c & 31);
      writer.write(r, e++, c);
    }
  }
  return { form: "mask", outputs, inputs, mask: bits, values: writer.values };
}

/** Where stored weights go. */
interface Writer {
  readonly values: StoredValues;
  /** Stores the weight of a position as stored weight `e` of its row. */
  write(row: number, e: number, column: number): void;
}

function writerOf(
  name: string,
  { weight, mask, quantised }: PrunedWeights,
  { inputs, counts, values }: { inputs: number; counts: Uint32Array; values: ValueType },
): Writer {
  if (values.kind === "levels") {
    const { bits, lowest } = values;
    checkBits(name, bits);
    if (!quantised) throw new RangeError(`${name} has no levels, expected quantised weights`);
    const { level, zero } = quantised;
    const firsts = firstWords(counts, bits);
    const words = new Uint32Array(firsts.at(-1)!);
    const most = 2 ** bits - 1;
    return {
      values: { kind: "levels", bits, words },
      write(row, e, column) {
        const at = row * inputs + column;
        const code = (mask[at] === 0 ? level[at]! : zero[row]!) - lowest;
        if (!(Number.isInteger(code) && code >= 0 && code <= most)) {
          throw new RangeError(
            `${name}: level of row ${row}, input ${column} is ${
              code + lowest
            }, expected a whole number from ${lowest} to ${lowest + most}`,
          );
        }
        writePacked(words, { first: firsts[row]!, e, bits }, code);
      },
    };
  }
  const total = counts.reduce((sum, n) => sum + n, 0);
  // Rows are written in order, so the next number goes after the last one.
  let at = 0;
  if (values.kind === "f32") {
    const numbers = new Float32Array(total);
    return {
      values: { kind: "f32", numbers },
      write(row, _, column) {
        const from = row * inputs + column;
        numbers[at++] = mask[from] === 0 ? weight[from]! : 0;
      },
    };
  }
  const numbers = new Float16Array(total);
  return {
    values: { kind: "f16", numbers },
    write(row, _, column) {
      const from = row * inputs + column;
      numbers[at] = mask[from] === 0 ? weight[from]! : 0;
      if (!Number.isFinite(numbers[at]!)) {
        throw new RangeError(
          `${name}: weight of row ${row}, input ${column} is ${
            weight[from]
          }, expected a number that a half holds`,
        );
      }
      at++;
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
