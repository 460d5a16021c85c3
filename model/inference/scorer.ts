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
import { ASKED_WORDS, likeliest } from "../ops/decoding/likeliest.ts";
import { embeddingForward } from "../ops/elementwise/embedding.ts";
import { NO_TARGET } from "../ops/elementwise/cross_entropy.ts";
import { headLogits } from "../trunk/head.ts";
import { recordForward } from "../trunk/network.ts";
import { FOUND_WORDS, FoundPrediction, MOST_LIKELIEST } from "./found_prediction.ts";
import type { Prediction } from "./log_probability.ts";
import type { InferenceModel } from "./model.ts";

/** Tokens of the shortest sequences that have a plan of their own; each other plan's are twice as long. */
const SHORTEST = 16;
/** Sequences of a batch at most. */
const MOST_SEQUENCES = 64;
/** Rows of logits that are computed at once, at most, and their bytes. */
const MOST_ROWS = 32;
const MOST_LOGITS_BYTES = 2 ** 24;
/** Reads that wait at the same time: on Deno each takes ten milliseconds, however little it reads. */
const MOST_READS = 4;

/** A sequence to score. */
export interface SequenceToScore {
  /** At least one. */
  readonly tokens: ArrayLike<number>;
  /** Position of the first token after which a prediction is wanted; one is wanted after every later token, too. */
  readonly from: number;
  /** The token after the last one, if its probability is wanted. */
  readonly next?: number | undefined;
  /** Likeliest tokens of each prediction, 1 unless given and at most {@linkcode MOST_LIKELIEST}. */
  readonly likeliest?: number | undefined;
  /** Whether all logits after the last token are wanted, too. */
  readonly logits?: boolean | undefined;
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
  /** Of each row the token that follows, and how many likeliest ones are wanted. */
  readonly asked: Tensor;
  readonly found: Tensor;
  readonly logits: Tensor;
  readonly built: BuiltPlans;
  readonly arenas: readonly Arena[];
}

/** Takes the prediction after a token, by the number of its sequence and the token's position, and the logits `[V]` where they are wanted. */
export type TakePrediction = (
  sequence: number,
  position: number,
  prediction: Prediction,
  logits?: Float32Array,
) => void;

/** A prediction that is wanted. */
interface Wanted {
  readonly sequence: number;
  readonly position: number;
  /** Among the batch's states. */
  readonly row: number;
  readonly next: number | undefined;
  readonly count: number;
  readonly logits: boolean;
}

/**
 * Scores sequences in batches. A sequence is padded at its end to the next power of two, and plans of a length are made when one
 * of that length comes. The numbers are those of an evaluation, up to rounding. The device looks for the likeliest tokens and sums
 * probabilities, and a few numbers a prediction are read.
 *
 * One call at a time.
 *
 * @example
 * ```ts ignore
 * using scorer = new Scorer(model, { capacity: 256 });
 * await scorer.score([{ tokens, from: 0 }], (_sequence, position, { log_probability }) => {
 *   console.log(position, log_probability);
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
   * @throws {RangeError} If a sequence has no token, too many, one outside the vocabulary, or no prediction that is wanted, or asks for no likeliest token or
   *   too many.
   */
  async score(sequences: readonly SequenceToScore[], take: TakePrediction): Promise<void> {
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

  #check({ tokens, from, next, likeliest: count = 1 }: SequenceToScore): void {
    const { vocab_size } = this.#model.config;
    if (tokens.length < 1 || tokens.length > this.capacity) {
      throw new RangeError(
        `A sequence has ${tokens.length} tokens; expected 1 to ${this.capacity}`,
      );
    }
    if (!(Number.isInteger(from) && from >= 0 && from < tokens.length)) {
      throw new RangeError(
        `Predictions are wanted from position ${from}; expected 0 to ${tokens.length - 1}`,
      );
    }
    if (!(Number.isInteger(count) && count >= 1 && count <= MOST_LIKELIEST)) {
      throw new RangeError(
        `${count} likeliest tokens are wanted; expected 1 to ${MOST_LIKELIEST}`,
      );
    }
    for (let i = 0; i < tokens.length + (next === undefined ? 0 : 1); i++) {
      const token = tokens[i] ?? next!;
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
    const ids = (name: string, ...shape: number[]) =>
      new Tensor(name, shape, { dtype: "u32", owner: "batch" });
    const tokens = ids("tokens", batch * length);
    const rows = ids("rows", count);
    const asked = ids("asked", count, ASKED_WORDS);
    const found = ids("found", count, FOUND_WORDS);
    const states = new Tensor("states", [batch * length, config.d_model], { owner: "batch" });
    // An arena a tensor, for a dispatch may not read and write one buffer.
    const arenas = [tokens, rows, asked, found, states]
      .map((tensor) => new Arena(gpu, tensor.name, [tensor]));
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
      const { vocab_size: vocabulary } = config;
      likeliest(head, "likeliest", { logits, asked, found }, { vocabulary });
      const built = await buildPlans(gpu, [layers, head]);
      return { batch, length, tokens, rows, asked, found, logits, built, arenas };
    } catch (error) {
      for (const arena of arenas) arena.destroy();
      this.#buckets.delete(length);
      throw error;
    }
  }

  /** Runs one batch, and reads what is found in the wanted rows a chunk at a time. */
  async #run(
    bucket: Bucket,
    members: readonly number[],
    { sequences, take }: {
      readonly sequences: readonly SequenceToScore[];
      readonly take: TakePrediction;
    },
  ): Promise<void> {
    const { gpu } = this.#model;
    const { length } = bucket;
    const ids = new Uint32Array(bucket.batch * length);
    const wanted: Wanted[] = [];
    for (const [i, sequence] of members.entries()) {
      const { tokens, from, next, likeliest: count = 1, logits = false } = sequences[sequence]!;
      ids.set(Array.from(tokens), i * length);
      for (let position = from; position < tokens.length; position++) {
        const last = position === tokens.length - 1;
        wanted.push({
          sequence,
          position,
          row: i * length + position,
          next: last ? next : tokens[position + 1],
          count,
          logits: last && logits,
        });
      }
    }
    upload(gpu, bucket.tokens, ids);
    const [layers, head] = bucket.built.plans;
    layers!.run();
    const reads: (() => Promise<void>)[] = [];
    for (let at = 0; at < wanted.length; at += bucket.rows.size) {
      const chunk = wanted.slice(at, at + bucket.rows.size);
      const rows = new Uint32Array(bucket.rows.size);
      rows.set(chunk.map(({ row }) => row));
      upload(gpu, bucket.rows, rows);
      // Rows that nobody wants find their likeliest token.
      const asked = new Uint32Array(bucket.asked.size).fill(1);
      asked.set(chunk.flatMap(({ next = NO_TARGET, count }) => [next, count]));
      upload(gpu, bucket.asked, asked);
      head!.run();
      reads.push(this.#read(bucket, chunk, take));
      if (reads.length === MOST_READS) await reads.shift()!();
    }
    while (reads.length > 0) await reads.shift()!();
  }

  /** Begins to read what was found in a chunk's rows. @returns Waits for it, and gives it on. */
  #read({ found, logits }: Bucket, chunk: readonly Wanted[], take: TakePrediction) {
    const { gpu, config: { vocab_size } } = this.#model;
    const whole = chunk.some((wanted) => wanted.logits);
    const values = Promise.all([
      download(gpu, found) as Promise<Uint32Array>,
      whole ? download(gpu, logits) as Promise<Float32Array> : undefined,
    ]);
    // Should a read before fail, this one's failure is told by the same error.
    values.catch(() => {});
    return async () => {
      const [words, all] = await values;
      for (const [i, { sequence, position, next, count, ...wanted }] of chunk.entries()) {
        const own = words.subarray(i * FOUND_WORDS, (i + 1) * FOUND_WORDS);
        const start = i * logits.width;
        take(
          sequence,
          position,
          new FoundPrediction(own, { next, count }),
          wanted.logits ? all!.subarray(start, start + vocab_size) : undefined,
        );
      }
    };
  }
}

function destroy({ built, arenas }: Bucket): void {
  built.destroy();
  for (const arena of arenas) arena.destroy();
}
