/**
 * The order in which a training run sees its data.
 *
 * @module
 */

import { documentBatch, type TokenBatch } from "../inference/token_batch.ts";
import type { Documents } from "../text/documents.ts";
import type { TokenSource } from "../text/token_source.ts";

export type { TokenBatch } from "../inference/token_batch.ts";

/** Batches of a run by the number of their first sequence. */
export interface BatchSource {
  /** Sequences `first` to `first + count` of the run, counted from its beginning. */
  batch(first: number, count: number): TokenBatch;
  /** Targets of those sequences that are predicted. */
  predictions(first: number, count: number): number;
}

const ROUNDS = 4;

function hash(a: number, b: number, c: number): number {
  let h = Math.imul(a ^ 0x9e3779b9, 0x85ebca6b) ^ Math.imul(b + 0x7f4a7c15, 0xc2b2ae35) ^ c;
  h = Math.imul(h ^ (h >>> 16), 0x7feb352d);
  h = Math.imul(h ^ (h >>> 15), 0x846ca68b);
  return (h ^ (h >>> 16)) >>> 0;
}

/**
 * The image of `index` under a permutation of `0 … count − 1` chosen by `seed`: a Feistel network over the next even power of two,
 * walked until it lands inside. Nothing is stored, so a resumed run needs no more than its position.
 */
export function permute(index: number, count: number, seed: number): number {
  const half = Math.max(1, Math.ceil(Math.log2(Math.max(2, count)) / 2));
  const size = 2 ** half;
  let value = index;
  do {
    let left = Math.floor(value / size);
    let right = value % size;
    for (let round = 0; round < ROUNDS; round++) {
      const mixed = hash(right, round, seed) % size;
      [left, right] = [right, (left ^ mixed) >>> 0];
    }
    value = left * size + right;
  } while (value >= count);
  return value;
}

/**
 * Draws sequences of `length + 1` tokens in a random order without repetition, epoch after epoch.
 *
 * @example
 * ```ts
 * import { Sampler } from "./sampler.ts";
 * const source = { length: 101, read: (at: number, n: number) => new Uint32Array(n).map((_, i) => at + i) };
 * const { tokens, targets } = new Sampler(source, { length: 10, seed: 1 }).batch(0, 4);
 * console.assert(tokens.length === 40 && targets[0] === tokens[0]! + 1);
 * ```
 */
export class Sampler implements BatchSource {
  readonly #source: TokenSource;
  readonly #length: number;
  readonly #seed: number;
  /** Sequences in one epoch. */
  readonly sequences: number;

  /**
   * Cuts `source` into sequences of `length` predictions, whose order `seed` chooses.
   *
   * @throws {RangeError} When the source is shorter than one sequence.
   */
  constructor(source: TokenSource, options: { length: number; seed: number }) {
    this.#source = source;
    this.#length = options.length;
    this.#seed = options.seed;
    this.sequences = Math.floor((source.length - 1) / options.length);
    if (this.sequences < 1) {
      throw new RangeError(
        `The training split has ${source.length} tokens; one sequence of ${options.length} needs ${
          options.length + 1
        }`,
      );
    }
  }

  /** Sequences `first` to `first + count` of the run, counted from its beginning. */
  batch(first: number, count: number): TokenBatch {
    const length = this.#length;
    const tokens = new Uint32Array(count * length);
    const targets = new Uint32Array(count * length);
    for (let i = 0; i < count; i++) {
      const at = shuffled(first + i, this.sequences, this.#seed);
      const row = this.#source.read(at * length, length + 1);
      tokens.set(row.subarray(0, length), i * length);
      targets.set(row.subarray(1), i * length);
    }
    return { tokens, targets };
  }

  /** Targets of so many sequences, all of which are predicted. */
  predictions(_first: number, count: number): number {
    return count * this.#length;
  }
}

/** The place of the run's sequence `index` among `count` that each epoch orders anew. */
function shuffled(index: number, count: number, seed: number): number {
  const epoch = Math.floor(index / count);
  return permute(index % count, count, hash(seed, epoch, 1));
}

/**
 * Draws documents in a random order without repetition, epoch after epoch: a sequence is one document, cut at `length + 1`
 * tokens, and padded where it is shorter.
 */
export class DocumentSampler implements BatchSource {
  readonly #documents: Documents;
  readonly #length: number;
  readonly #seed: number;
  readonly #endoftext: number;

  /**
   * Makes each document a sequence of at most `length` predictions, in an order that `seed` chooses.
   *
   * @throws {RangeError} When there is no document.
   */
  constructor(
    documents: Documents,
    options: { length: number; seed: number; endoftext: number },
  ) {
    if (documents.count < 1) throw new RangeError("The training split has no document with text");
    this.#documents = documents;
    this.#length = options.length;
    this.#seed = options.seed;
    this.#endoftext = options.endoftext;
  }

  /** Sequences `first` to `first + count` of the run, counted from its beginning. */
  batch(first: number, count: number): TokenBatch {
    const length = this.#length;
    const heads = Array.from(
      { length: count },
      (_, i) => this.#documents.read(this.#at(first + i), length + 1),
    );
    return documentBatch(heads, { batch: count, length, endoftext: this.#endoftext });
  }

  /** Targets of those sequences that are predicted. */
  predictions(first: number, count: number): number {
    let sum = 0;
    for (let i = first; i < first + count; i++) {
      sum += Math.min(this.#length, this.#documents.length(this.#at(i)) - 1);
    }
    return sum;
  }

  #at(sequence: number): number {
    return shuffled(sequence, this.#documents.count, this.#seed);
  }
}

/**
 * The micro-batches of update `step`, the first being 0: a run's data depends on the seed and the position only.
 *
 * @param options.from The first of them, 0 unless given.
 * @param options.count How many; the rest of the update unless given.
 */
export function batchesOfUpdate(
  sampler: Pick<BatchSource, "batch">,
  step: number,
  options: {
    readonly gradient_accumulation: number;
    readonly micro_batch: number;
    readonly from?: number;
    readonly count?: number;
  },
): TokenBatch[] {
  const { gradient_accumulation, micro_batch, from = 0 } = options;
  const { count = gradient_accumulation - from } = options;
  const first = (step * gradient_accumulation + from) * micro_batch;
  return Array.from(
    { length: count },
    (_, i) => sampler.batch(first + i * micro_batch, micro_batch),
  );
}
