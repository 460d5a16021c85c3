/**
 * Sums over groups in the order of their numbers, across ranks, in f32 on the host.
 *
 * Rank `r` of `N` has the `r`-th `G/N` groups. A part's sum is begun by rank 0, and goes from rank to rank, each of which adds its groups; the last one has
 * the total, which goes back the same way. So the order of additions is that of the groups, whatever N is, and each rank sends and receives a part
 * at most twice. Parts follow each other along the chain, so all ranks are busy once it is filled.
 *
 * @module
 */

import type { Ranks } from "./ranks.ts";

/** Options of {@linkcode OrderedSum}. */
export interface OrderedSumOptions {
  readonly ranks: Ranks;
  /** Groups of this rank. */
  readonly groups: number;
  /** Numbers of each part. */
  readonly sizes: readonly number[];
}

/** A part's memory: what was added up so far, and groups that wait for the ranks before. */
interface PartState {
  readonly sum: Float32Array<ArrayBuffer>;
  readonly waiting: readonly Float32Array<ArrayBuffer>[];
  /** Groups that were given since the last total. */
  given: number;
}

/** Adds up vectors in parts. Memory is allocated once: a copy of all parts, and in ranks other than the first one for each of its groups. */
export class OrderedSum {
  /** Seconds of the host's thread so far: copying what was given, and adding. */
  readonly seconds = { copied: 0, added: 0 };
  readonly #ranks: Ranks;
  readonly #groups: number;
  readonly #parts: readonly PartState[];

  /** Allocates everything. */
  constructor({ ranks, groups, sizes }: OrderedSumOptions) {
    this.#ranks = ranks;
    this.#groups = groups;
    const vector = (size: number) => new Float32Array(size);
    this.#parts = sizes.map((size) => ({
      sum: vector(size),
      waiting: ranks.rank === 0 ? [] : Array.from({ length: groups }, () => vector(size)),
      given: 0,
    }));
  }

  /** Takes part `i` of this rank's next group; the values are copied. */
  give(i: number, values: Float32Array): void {
    const part = this.#parts[i]!;
    if (part.given === this.#groups) {
      throw new RangeError(`Part ${i} was given by all ${this.#groups} groups of the rank already`);
    }
    const group = part.given++;
    const waiting = part.waiting[group];
    const to = waiting ?? (group === 0 ? part.sum : undefined);
    if (to === undefined) return this.#add(part.sum, values);
    const began = performance.now();
    to.set(values);
    this.seconds.copied += (performance.now() - began) / 1000;
  }

  /** The total of part `i`, the same bits in every rank, once all groups gave theirs. It is valid until the next {@linkcode OrderedSum.give}. */
  async total(i: number): Promise<Float32Array<ArrayBuffer>> {
    const part = this.#parts[i]!;
    if (part.given !== this.#groups) {
      throw new RangeError(`Part ${i} was given by ${part.given} of ${this.#groups} groups`);
    }
    part.given = 0;
    const { rank, size } = this.#ranks;
    const { sum, waiting } = part;
    const [up, down] = [2 * i, 2 * i + 1];
    if (rank > 0) {
      await this.#ranks.receive(sum, { rank: rank - 1, tag: up });
      for (const values of waiting) this.#add(sum, values);
    }
    if (rank < size - 1) {
      await this.#ranks.send(sum, { rank: rank + 1, tag: up });
      await this.#ranks.receive(sum, { rank: rank + 1, tag: down });
    }
    if (rank > 0) await this.#ranks.send(sum, { rank: rank - 1, tag: down });
    return sum;
  }

  /** `sum += values` in f32: a sum of two f32 in float64 that is rounded to f32 is the f32 sum. */
  #add(sum: Float32Array, values: Float32Array): void {
    const began = performance.now();
    for (let i = 0; i < sum.length; i++) sum[i] = sum[i]! + values[i]!;
    this.seconds.added += (performance.now() - began) / 1000;
  }
}
