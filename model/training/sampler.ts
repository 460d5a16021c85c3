/**
 * The order in which a training run sees its data.
 *
 * @module
 */

import type { TokenSource } from "../text/token_source.ts";

/** A batch of sequences: `targets[i]` follows `tokens[i]`. */
export interface TokenBatch {
  /** `[B · L]`. */
  readonly tokens: Uint32Array<ArrayBuffer>;
  /** `[B · L]`. */
  readonly targets: Uint32Array<ArrayBuffer>;
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
export class Sampler {
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
      const epoch = Math.floor((first + i) / this.sequences);
      const at = permute(
        (first + i) % this.sequences,
        this.sequences,
        hash(this.#seed, epoch, 1),
      );
      const row = this.#source.read(at * length, length + 1);
      tokens.set(row.subarray(0, length), i * length);
      targets.set(row.subarray(1), i * length);
    }
    return { tokens, targets };
  }
}

/** The micro-batches of update `step`, the first being 0: a run's data depends on the seed and the position only. */
export function batchesOfUpdate(
  sampler: Sampler,
  step: number,
  train: { readonly gradient_accumulation: number; readonly micro_batch: number },
): TokenBatch[] {
  const { gradient_accumulation, micro_batch } = train;
  const first = step * gradient_accumulation * micro_batch;
  return Array.from(
    { length: gradient_accumulation },
    (_, i) => sampler.batch(first + i * micro_batch, micro_batch),
  );
}
