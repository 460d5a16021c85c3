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
import { allocateVectors, type VectorBlock } from "./vectors.ts";

/** Options of {@linkcode OrderedSum}. */
export interface OrderedSumOptions {
  readonly ranks: Ranks;
  /** Groups of this rank. */
  readonly groups: number;
  /** Numbers of each part. */
  readonly sizes: readonly number[];
}

/** A part's memory. */
interface PartState {
  /** The sum so far, and behind it groups that wait for the ranks before. */
  readonly block: VectorBlock;
  /** Groups that were given since the last total. */
  given: number;
}

/** Adds up vectors in parts. Memory is allocated once: a copy of all parts, and one for each of a rank's groups; the first rank needs one for all of them, and none for a single group. */
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
    const blocks = allocateVectors(sizes, ranks.rank === 0 ? Math.min(groups, 2) : 1 + groups);
    this.#parts = blocks.map((block) => ({ block, given: 0 }));
  }

  /** Takes part `i` of this rank's next group; the values are copied. */
  give(i: number, values: Float32Array): void {
    const part = this.#parts[i]!;
    if (part.given === this.#groups) {
      throw new RangeError(`Part ${i} was given by all ${this.#groups} groups of the rank already`);
    }
    const group = part.given++;
    // The first rank's first group begins the sum, and its others go through one vector.
    const to = this.#ranks.rank === 0 ? Math.min(group, 1) : 1 + group;
    const began = performance.now();
    part.block.vectors[to]!.set(values);
    this.seconds.copied += (performance.now() - began) / 1000;
    if (this.#ranks.rank === 0 && group > 0) this.#add(part, 1);
  }

  /** The total of part `i`, the same bits in every rank, once all groups gave theirs. It is valid until the next {@linkcode OrderedSum.give}. */
  async total(i: number): Promise<Float32Array<ArrayBuffer>> {
    const part = this.#parts[i]!;
    if (part.given !== this.#groups) {
      throw new RangeError(`Part ${i} was given by ${part.given} of ${this.#groups} groups`);
    }
    part.given = 0;
    const { rank, size } = this.#ranks;
    const sum = part.block.vectors[0]!;
    const [up, down] = [2 * i, 2 * i + 1];
    if (rank > 0) {
      await this.#ranks.receive(sum, { rank: rank - 1, tag: up });
      for (let group = 0; group < this.#groups; group++) this.#add(part, 1 + group);
    }
    if (rank < size - 1) {
      await this.#ranks.send(sum, { rank: rank + 1, tag: up });
      await this.#ranks.receive(sum, { rank: rank + 1, tag: down });
    }
    if (rank > 0) await this.#ranks.send(sum, { rank: rank - 1, tag: down });
    return sum;
  }

  /** Adds one of the part's vectors to its sum. */
  #add({ block }: PartState, from: number): void {
    const began = performance.now();
    block.add(0, from);
    this.seconds.added += (performance.now() - began) / 1000;
  }
}
