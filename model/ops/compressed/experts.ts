/**
 * Compressed experts of a layer on the GPU: how their stored weights lie in tensors, and their upload from the host's forms.
 *
 * Kernels read neighbouring outputs side by side, so words of a row are not neighbours here as they are on the host: word `w` of all rows, then word `w + 1`. Where a mask gives
 * each row its own number of weights, 32 inputs are a *strip*: weights lie strip after strip, and in a strip row after row; every fourth row has the number of its first weight.
 *
 * @module
 */

import { type Capabilities } from "../../gpu/capabilities.ts";
import type { Gpu } from "../../gpu/device.ts";
import { Arena } from "../../gpu/memory.ts";
import { roundUp, Tensor } from "../../gpu/tensor.ts";
import { upload } from "../../gpu/transfer.ts";
import { bitCount, packedWords, packRun, unpackRun } from "./bits.ts";
import {
  checkCompressed,
  type CompressedMatrix,
  type Compression,
  type LevelGrid,
  type MaskedMatrix,
  type PatternMatrix,
  placeBits,
  storedCounts,
  storedOfRow,
} from "./forms.ts";
import { firstWords, forEachStored } from "./pack.ts";

/** Inputs of a strip. */
const STRIP = 32;
/** Inputs that a kernel unpacks at once at most: rows have room for whole ones. */
const CHUNK = 8;
/** Words at multiples of which an expert's parts begin, so that they can be written by themselves: 256 bytes. */
const ALIGNED_WORDS = 64;
/** Stored weights at multiples of which an expert's begin: whole aligned words, whatever the bits of a weight. */
const ALIGNED_WEIGHTS = 32 * ALIGNED_WORDS;
/** Groups of a pattern that kernels take as they are; others become masks on the GPU. */
const GROUPS: readonly number[] = [2, 4, 8];

/** The experts of a layer, before any of them is there. */
export interface ExpertsShape extends Compression {
  readonly outputs: number;
  /** Weights that each expert stores. */
  readonly stored: readonly number[];
}

/** Tensors of consecutive experts, u32. */
export interface CompressedPart {
  /** Its first expert. */
  readonly first: number;
  readonly count: number;
  /** Stored weights of its experts. */
  readonly stored: number;
  /** Bits of the stored weights: `[count, words · out]` of a pattern, `[words]` of masks. */
  readonly values: Tensor;
  /** Places of a pattern `[count, words · out]`, or masks `[count, ⌈in / 32⌉ · out padded to 4]`. */
  readonly places: Tensor;
  /** Of masks: the number of the first stored weight of every four rows, `[count, ⌈in / 32⌉ · ⌈out / 4⌉]`. */
  readonly starts?: Tensor;
}

/** The experts of a layer as kernels read them. */
export interface CompressedWeights {
  readonly outputs: number;
  readonly inputs: number;
  /** The pattern that kernels read; undefined where they read masks. */
  readonly pattern?: readonly [zeros: number, group: number];
  /** Bits of a stored weight: 32 of f32, 16 of f16, else those of a level. */
  readonly bits: number;
  readonly experts: number;
  readonly parts: readonly CompressedPart[];
  /** Of levels: scale, and the code that is 0, `[out, 2]`, f32. */
  readonly levels?: Tensor;
}

/**
 * Lays out the tensors of a layer's experts, without memory: in as many parts as the device's bindings need.
 *
 * @throws {RangeError} If one expert is larger than a binding.
 */
export function compressedWeights(
  capabilities: Capabilities,
  name: string,
  shape: ExpertsShape,
): CompressedWeights {
  const { outputs, inputs, values: { kind }, stored } = shape;
  const bits = shape.values.kind === "levels" ? shape.values.bits : kind === "f16" ? 16 : 32;
  const pattern = shape.pattern && kernelPattern(shape.pattern);
  const most = Math.min(capabilities.max_binding_bytes, capabilities.max_buffer_bytes) / 4;
  const sizes = { outputs, inputs, bits, pattern };
  const parts: CompressedPart[] = [];
  for (let first = 0; first < stored.length;) {
    let count = 1;
    const largest = (count: number) =>
      Math.max(...Object.values(wordsOf(sizes, stored.slice(first, first + count))));
    if (largest(1) > most) {
      throw new RangeError(
        `${name}: expert ${first} takes ${4 * largest(1)} bytes, a binding has ${4 * most}`,
      );
    }
    while (first + count < stored.length && largest(count + 1) <= most) count++;
    const own = stored.slice(first, first + count);
    const words = wordsOf(sizes, own);
    const tensor = (part: string, ...shape: number[]) =>
      new Tensor(`${name}.${part}.${first}`, shape, { dtype: "u32", owner: "weights" });
    parts.push({
      first,
      count,
      stored: own.reduce((sum, n) => sum + n, 0),
      values: pattern
        ? tensor("values", count, words.values / count)
        : tensor("values", words.values),
      places: tensor("places", count, words.places / count),
      ...!pattern && { starts: tensor("starts", count, words.starts / count) },
    });
    first += count;
  }
  return {
    ...{ outputs, inputs, bits, experts: stored.length, parts },
    ...pattern && { pattern },
    ...kind === "levels" && {
      levels: new Tensor(`${name}.levels`, [outputs, 2], { owner: "weights" }),
    },
  };
}

/** A pattern as kernels read it; undefined where they read a mask in its place. */
function kernelPattern(
  [zeros, group]: readonly [number, number],
): readonly [number, number] | undefined {
  return GROUPS.includes(group) && zeros < group ? [zeros, group] : undefined;
}

/** Words of a row of a pattern, for whole chunks. */
function rowWords(inputs: number, [zeros, group]: readonly [number, number]): {
  weights: number;
  places: number;
} {
  const weights = roundUp(inputs, CHUNK) / group * (group - zeros);
  return { weights, places: packedWords(weights, placeBits(group)) };
}

/** Words of each tensor of consecutive experts that store so many weights. */
function wordsOf(
  { outputs, inputs, bits, pattern }: {
    outputs: number;
    inputs: number;
    bits: number;
    pattern: readonly [number, number] | undefined;
  },
  stored: readonly number[],
): { values: number; places: number; starts: number } {
  const experts = stored.length;
  if (pattern) {
    const { weights, places } = rowWords(inputs, pattern);
    return {
      values: experts * roundUp(packedWords(weights, bits) * outputs, ALIGNED_WORDS),
      places: experts * roundUp(places * outputs, ALIGNED_WORDS),
      starts: 0,
    };
  }
  const fours = Math.ceil(inputs / STRIP) * Math.ceil(outputs / 4);
  const weights = stored.reduce((sum, n) => sum + roundUp(n, ALIGNED_WEIGHTS), 0);
  return {
    // Something has to be bound even where nothing is stored.
    values: Math.max(ALIGNED_WORDS, weights / 32 * bits),
    places: experts * roundUp(4 * fours, ALIGNED_WORDS),
    starts: experts * roundUp(fours, ALIGNED_WORDS),
  };
}

/** The tensors of experts. */
export function compressedTensors({ parts, levels }: CompressedWeights): Tensor[] {
  return [
    ...parts.flatMap(({ values, places, starts }) => [values, places, ...starts ? [starts] : []]),
    ...levels ? [levels] : [],
  ];
}

/** Compressed experts of a layer in memory of the device. */
export class CompressedExperts implements Disposable {
  readonly #gpu: Gpu;
  readonly #name: string;
  readonly #shape: ExpertsShape;
  readonly #arenas: readonly Arena[];
  /** The tensors, for {@linkcode gemmGroupedCompressed}. */
  readonly weights: CompressedWeights;

  /**
   * Allocates the experts of a layer.
   *
   * @param name What the layer is called in messages.
   * @throws {RangeError} If one expert is larger than a binding, or quantised weights have no grid of `outputs` rows.
   */
  constructor(gpu: Gpu, name: string, shape: ExpertsShape & { readonly grid?: LevelGrid }) {
    const { outputs, grid } = shape;
    this.#gpu = gpu;
    this.#name = name;
    this.#shape = shape;
    this.weights = compressedWeights(gpu.capabilities, name, shape);
    const { levels } = this.weights;
    const rows = grid && [grid.scale.length, grid.zero.length];
    if (levels && !rows?.every((n) => n === outputs)) {
      throw new RangeError(`${name} has levels, expected a grid of ${outputs} rows`);
    }
    this.#arenas = compressedTensors(this.weights).map((tensor) =>
      new Arena(gpu, tensor.name, [tensor])
    );
    if (!levels || !grid) return;
    const numbers = new Float32Array(2 * outputs);
    for (let r = 0; r < outputs; r++) {
      numbers.set([grid.scale[r]!, grid.zero[r]! - grid.lowest], 2 * r);
    }
    upload(gpu, levels, numbers);
  }

  /**
   * Writes one expert.
   *
   * @throws {RangeError} If the matrix is not one of this layer's: sizes, form, values, number of stored weights.
   */
  upload(expert: number, matrix: CompressedMatrix): void {
    const name = `${this.#name} expert ${expert}`;
    checkCompressed(matrix, name);
    this.#checkOwn(name, matrix);
    const { parts, pattern, bits } = this.weights;
    const part = parts.find(({ first, count }) => expert >= first && expert < first + count);
    const own = storedCounts(matrix).reduce((sum, n) => sum + n, 0);
    if (!part || own !== this.#shape.stored[expert]) {
      throw new RangeError(
        `${name} stores ${own} weights, expected ${this.#shape.stored[expert] ?? "no such expert"}`,
      );
    }
    const at = expert - part.first;
    const write = (tensor: Tensor, words: Uint32Array) =>
      upload(this.#gpu, tensor.reshape(tensor.size).slice(at * words.length, words.length), words);
    if (pattern && matrix.form === "pattern") {
      const { weights, places } = rowWords(matrix.inputs, pattern);
      const side = (tensor: Tensor, words: { from: Uint32Array; most: number }) =>
        write(
          tensor,
          acrossRows(words.from, { ...words, rows: matrix.outputs, size: tensor.width }),
        );
      side(part.values, { from: valueWords(matrix), most: packedWords(weights, bits) });
      side(part.places, { from: matrix.places, most: places });
      return;
    }
    const before = this.#shape.stored.slice(part.first, expert)
      .reduce((sum, n) => sum + roundUp(n, ALIGNED_WEIGHTS), 0);
    const { masks, starts, values } = inStrips(asMask(matrix), {
      bits,
      before,
      masks: part.places.width,
      starts: part.starts!.width,
    });
    write(part.places, masks);
    write(part.starts!, starts);
    if (values.length > 0) {
      upload(this.#gpu, part.values.slice(before / 32 * bits, values.length), values);
    }
  }

  #checkOwn(name: string, matrix: CompressedMatrix): void {
    const { outputs, inputs, pattern, values } = this.#shape;
    const describe = (
      [of, form, values]: readonly [readonly number[], readonly number[] | undefined, object],
    ) => `${of.join("×")}, ${form ? form.join(":") : "mask"}, ${Object.values(values).join(" ")}`;
    const typeOf = (of: { kind: string; bits?: number }) =>
      of.kind === "levels" ? { kind: of.kind, bits: of.bits } : { kind: of.kind };
    const found = describe([
      [matrix.outputs, matrix.inputs],
      matrix.form === "pattern" ? [matrix.zeros, matrix.group] : undefined,
      typeOf(matrix.values),
    ]);
    const expected = describe([[outputs, inputs], pattern, typeOf(values)]);
    if (found !== expected) throw new RangeError(`${name} is ${found}, expected ${expected}`);
  }

  /** Bytes of the tensors. */
  get bytes(): number {
    return this.#arenas.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  /** Frees the tensors. */
  [Symbol.dispose](): void {
    for (const arena of this.#arenas) arena.destroy();
  }
}

/** Words of rows, each of which has as many, word after word: `most · rows` of `size`, zeros beyond a row's own. */
function acrossRows(
  from: Uint32Array,
  { rows, most, size }: { rows: number; most: number; size: number },
): Uint32Array {
  const out = new Uint32Array(size);
  const own = from.length / rows;
  const words = Math.min(own, most);
  // A few rows at a time, whose words are neighbours in what is written.
  for (let first = 0; first < rows; first += ROWS_AT_ONCE) {
    const end = Math.min(rows, first + ROWS_AT_ONCE);
    for (let w = 0; w < words; w++) {
      for (let r = first; r < end; r++) out[w * rows + r] = from[r * own + w]!;
    }
  }
  return out;
}

/** Rows whose words a host's cache line holds. */
const ROWS_AT_ONCE = 16;

/** Stored weights of a pattern as words, each row beginning with a new one. */
function valueWords(matrix: PatternMatrix): Uint32Array {
  const { values, outputs } = matrix;
  if (values.kind === "levels") return values.words;
  if (values.kind === "f32") return bitsOf(values.numbers);
  const stored = storedOfRow(matrix);
  const from = halfBits(values.numbers);
  // Rows of whole words are as they should be.
  if (stored % 2 === 0 && from.byteOffset % 4 === 0) {
    return new Uint32Array(from.buffer, from.byteOffset, from.length / 2);
  }
  const width = 2 * packedWords(stored, 16);
  const halves = new Uint16Array(outputs * width);
  for (let r = 0; r < outputs; r++) {
    for (let e = 0; e < stored; e++) halves[r * width + e] = from[r * stored + e]!;
  }
  return new Uint32Array(halves.buffer);
}

function bitsOf({ buffer, byteOffset, length }: Float32Array): Uint32Array {
  return new Uint32Array(buffer, byteOffset, length);
}

function halfBits({ buffer, byteOffset, length }: Float16Array): Uint16Array {
  return new Uint16Array(buffer, byteOffset, length);
}

/** The matrix with a mask that marks what its pattern stores; the stored weights are in the same order. */
function asMask(matrix: CompressedMatrix): MaskedMatrix {
  if (matrix.form === "mask") return matrix;
  const { outputs, inputs, values } = matrix;
  const words = packedWords(inputs, 1);
  const mask = new Uint32Array(outputs * words);
  forEachStored(matrix, (row, _, column) => {
    mask[row * words + (column >>> 5)]! |= 1 << (column & 31);
  });
  return { form: "mask", outputs, inputs, values, mask };
}

/** Masks, first weights of four rows and stored weights strip after strip; `before` weights come before the expert's in its tensor. */
function inStrips(
  matrix: MaskedMatrix,
  { bits, before, ...sizes }: { bits: number; before: number; masks: number; starts: number },
): { masks: Uint32Array; starts: Uint32Array; values: Uint32Array } {
  const { outputs, inputs, mask } = matrix;
  const strips = packedWords(inputs, 1);
  const fours = Math.ceil(outputs / 4);
  const next = new Uint32Array(strips + 1);
  for (let r = 0; r < outputs; r++) {
    for (let s = 0; s < strips; s++) next[s + 1]! += bitCount(mask[r * strips + s]!);
  }
  for (let s = 0; s < strips; s++) next[s + 1]! += next[s]!;
  const total = next[strips]!;
  const out = {
    masks: new Uint32Array(sizes.masks),
    starts: new Uint32Array(sizes.starts),
    values: new Uint32Array(roundUp(total, ALIGNED_WEIGHTS) / 32 * bits),
  };
  const from = storedNumbers(matrix, total);
  // Codes lie side by side in words once all are in their order.
  const to = from instanceof Uint8Array
    ? new Uint8Array(total)
    : from instanceof Uint16Array
    ? new Uint16Array(out.values.buffer)
    : out.values;
  let at = 0;
  // Row after row, as weights are stored; `next` is where each strip goes on.
  for (let r = 0; r < outputs; r++) {
    for (let s = 0; s < strips; s++) {
      const word = mask[r * strips + s]!;
      let e = next[s]!;
      out.masks[s * fours * 4 + r] = word;
      if (r % 4 === 0) out.starts[s * fours + r / 4] = before + e;
      for (const end = at + bitCount(word); at < end; at++) to[e++] = from[at]!;
      next[s] = e;
    }
  }
  if (to instanceof Uint8Array) packRun(out.values, { first: 0, count: total, bits }, to);
  return out;
}

/** The stored weights in their order: bits of f32 or f16, or a code each. */
function storedNumbers(
  matrix: MaskedMatrix,
  total: number,
): Uint32Array | Uint16Array | Uint8Array {
  const { values } = matrix;
  if (values.kind === "f32") return bitsOf(values.numbers);
  if (values.kind === "f16") return halfBits(values.numbers);
  const { bits, words } = values;
  const counts = storedCounts(matrix);
  const firsts = firstWords(counts, bits);
  const numbers = new Uint8Array(total);
  let to = 0;
  for (let r = 0; r < counts.length; r++) {
    const count = counts[r]!;
    unpackRun(words, { first: firsts[r]!, count, bits }, { numbers, to });
    to += count;
  }
  return numbers;
}
