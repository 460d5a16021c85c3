/**
 * Scoring whole sequences on the device: what a model expects after chosen tokens of many sequences, computed together.
 *
 * @module
 */

import { buildPlans, type BuiltPlans } from "../gpu/build.ts";
import { Arena } from "../gpu/memory.ts";
import { Plan } from "../gpu/plan.ts";
import { Tensor } from "../gpu/tensor.ts";
import { download, upload } from "../gpu/transfer.ts";
import { LayerContext } from "../layer/context.ts";
import { embeddingForward } from "../ops/elementwise/embedding.ts";
import { headLogits } from "../trunk/head.ts";
import { recordForward } from "../trunk/network.ts";
import type { InferenceModel } from "./model.ts";

/** Tokens of the shortest sequences that have a plan of their own; each other plan's are twice as long. */
const SHORTEST = 16;
/** Sequences of a batch at most. */
const MOST_SEQUENCES = 64;
/** Rows of logits that are computed and read at once, at most, and their bytes. */
const MOST_ROWS = 32;
const MOST_LOGITS_BYTES = 2 ** 24;
/** Reads that wait at the same time: on Deno each takes ten milliseconds, however little it reads. */
const MOST_READS = 4;

/** A sequence to score. */
export interface SequenceToScore {
  /** At least one. */
  readonly tokens: ArrayLike<number>;
  /** Position of the first token after which logits are wanted; they are wanted after every later one, too. */
  readonly from: number;
}

/** Options of a {@linkcode Scorer}. */
export interface ScorerOptions {
  /** Tokens of the longest sequence. */
  readonly capacity: number;
  /** Tokens of a batch, padding included; a longer sequence is a batch alone. 2,048 unless given. */
  readonly tokens?: number;
}

/** Plans and tensors for sequences of one length. */
interface Bucket {
  readonly batch: number;
  readonly length: number;
  readonly tokens: Tensor;
  readonly rows: Tensor;
  readonly logits: Tensor;
  readonly built: BuiltPlans;
  readonly arenas: readonly Arena[];
}

/** Takes the logits `[V]` after a token, by the number of its sequence and the token's position. */
type TakeLogits = (sequence: number, position: number, logits: Float32Array) => void;

/**
 * Scores sequences in batches. A sequence is padded at its end to the next power of two, and plans of a length are made when one
 * of that length comes. The numbers are those of an evaluation, up to rounding; logits are f32, so that whoever takes them sums in
 * float64.
 *
 * One call at a time.
 *
 * @example
 * ```ts ignore
 * using scorer = new Scorer(model, { capacity: 256 });
 * await scorer.score([{ tokens, from: 0 }], (_sequence, position, logits) => {
 *   console.log(position, logProbability(logits, tokens[position + 1]));
 * });
 * ```
 */
export class Scorer implements Disposable {
  /** Tokens of the longest sequence. */
  readonly capacity: number;
  readonly #model: InferenceModel;
  readonly #tokens: number;
  readonly #buckets = new Map<number, Promise<Bucket>>();

  /** @throws {RangeError} If an option is no whole number from 1, or the capacity is more than the model's positions. */
  constructor(model: InferenceModel, options: ScorerOptions) {
    const { capacity, tokens = 2048 } = options;
    for (const [name, value] of Object.entries({ capacity, tokens })) {
      if (Number.isInteger(value) && value >= 1) continue;
      throw new RangeError(`The scorer's ${name} is ${value}; expected a whole number from 1`);
    }
    const { longest } = model.architecture;
    if (capacity > longest) {
      throw new RangeError(
        `Sequences of ${capacity} tokens are longer than the ${longest} positions of the model`,
      );
    }
    this.#model = model;
    this.capacity = capacity;
    this.#tokens = tokens;
  }

  /**
   * Scores sequences, those of a length together.
   *
   * @throws {RangeError} If a sequence has no token, too many, one outside the vocabulary, or no logits that are wanted.
   */
  async score(sequences: readonly SequenceToScore[], take: TakeLogits): Promise<void> {
    const byLength = new Map<number, number[]>();
    for (const [i, sequence] of sequences.entries()) {
      this.#check(sequence);
      const length = this.#paddedLength(sequence.tokens.length);
      byLength.set(length, [...byLength.get(length) ?? [], i]);
    }
    for (const [length, members] of byLength) {
      const bucket = await this.#bucket(length);
      for (let at = 0; at < members.length; at += bucket.batch) {
        await this.#run(bucket, members.slice(at, at + bucket.batch), { sequences, take });
      }
    }
  }

  /** Frees the device's memory; the model stays. */
  [Symbol.dispose](): void {
    for (const bucket of this.#buckets.values()) void bucket.then(destroy, () => {});
    this.#buckets.clear();
  }

  #check({ tokens, from }: SequenceToScore): void {
    const { vocab_size } = this.#model.config;
    if (tokens.length < 1 || tokens.length > this.capacity) {
      throw new RangeError(
        `A sequence has ${tokens.length} tokens; expected 1 to ${this.capacity}`,
      );
    }
    if (!(Number.isInteger(from) && from >= 0 && from < tokens.length)) {
      throw new RangeError(
        `Logits are wanted from position ${from}; expected 0 to ${tokens.length - 1}`,
      );
    }
    for (let i = 0; i < tokens.length; i++) {
      const token = tokens[i]!;
      if (Number.isInteger(token) && token >= 0 && token < vocab_size) continue;
      throw new RangeError(`Token ${token} is not in the vocabulary of ${vocab_size} tokens`);
    }
  }

  #paddedLength(tokens: number): number {
    let length = SHORTEST;
    while (length < tokens) length *= 2;
    return Math.min(length, this.capacity);
  }

  #bucket(length: number): Promise<Bucket> {
    let bucket = this.#buckets.get(length);
    if (bucket === undefined) {
      bucket = this.#build(length);
      this.#buckets.set(length, bucket);
    }
    return bucket;
  }

  async #build(length: number): Promise<Bucket> {
    const { gpu, weights, architecture, config } = this.#model;
    const batch = Math.max(1, Math.min(MOST_SEQUENCES, Math.floor(this.#tokens / length)));
    const count = Math.max(
      1,
      Math.min(MOST_ROWS, batch * length, Math.floor(MOST_LOGITS_BYTES / (4 * config.vocab_size))),
    );
    const ids = (name: string, size: number) =>
      new Tensor(name, [size], { dtype: "u32", owner: "batch" });
    const tokens = ids("tokens", batch * length);
    const rows = ids("rows", count);
    const states = new Tensor("states", [batch * length, config.d_model], { owner: "batch" });
    // An arena a tensor, for a dispatch may not read and write one buffer.
    const arenas = [tokens, rows, states].map((tensor) => new Arena(gpu, tensor.name, [tensor]));
    try {
      const layers = new Plan(gpu, "score");
      const context = new LayerContext(layers, weights, { batch, length, mode: "evaluate" });
      layers.copy(recordForward(context, architecture, { tokens }).x, states);
      const head = new Plan(gpu, "score.head");
      const headContext = new LayerContext(head, weights, {
        batch: 1,
        length: count,
        mode: "evaluate",
      });
      const x = headContext.activation("chosen", count, config.d_model);
      // Picking rows by their numbers is what an embedding does.
      embeddingForward(head, "chosen", { tokens: rows, parts: [states], x });
      const logits = head.keep(headLogits(headContext, { architecture, x }));
      const built = await buildPlans(gpu, [layers, head]);
      return { batch, length, tokens, rows, logits, built, arenas };
    } catch (error) {
      for (const arena of arenas) arena.destroy();
      this.#buckets.delete(length);
      throw error;
    }
  }

  /** Runs one batch, and reads the wanted rows a chunk at a time. */
  async #run(
    bucket: Bucket,
    members: readonly number[],
    { sequences, take }: {
      readonly sequences: readonly SequenceToScore[];
      readonly take: TakeLogits;
    },
  ): Promise<void> {
    const { gpu, config } = this.#model;
    const { length, logits } = bucket;
    const ids = new Uint32Array(bucket.batch * length);
    const wanted: { readonly sequence: number; readonly position: number; readonly row: number }[] =
      [];
    for (const [i, sequence] of members.entries()) {
      const { tokens, from } = sequences[sequence]!;
      ids.set(Array.from(tokens), i * length);
      for (let position = from; position < tokens.length; position++) {
        wanted.push({ sequence, position, row: i * length + position });
      }
    }
    upload(gpu, bucket.tokens, ids);
    const [layers, head] = bucket.built.plans;
    layers!.run();
    const reads: { chunk: typeof wanted; values: ReturnType<typeof download> }[] = [];
    const settle = async () => {
      const { chunk, values } = reads.shift()!;
      const read = await values as Float32Array;
      for (const [i, { sequence, position }] of chunk.entries()) {
        const start = i * logits.width;
        take(sequence, position, read.subarray(start, start + config.vocab_size));
      }
    };
    for (let at = 0; at < wanted.length; at += bucket.rows.size) {
      const chunk = wanted.slice(at, at + bucket.rows.size);
      const rows = new Uint32Array(bucket.rows.size);
      rows.set(chunk.map(({ row }) => row));
      upload(gpu, bucket.rows, rows);
      head!.run();
      const values = download(gpu, logits);
      // Should a read before fail, this one's failure is told by the same error.
      values.catch(() => {});
      reads.push({ chunk, values });
      if (reads.length === MOST_READS) await settle();
    }
    while (reads.length > 0) await settle();
  }
}

function destroy({ built, arenas }: Bucket): void {
  built.destroy();
  for (const arena of arenas) arena.destroy();
}
