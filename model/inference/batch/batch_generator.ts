/**
 * Generation of several sequences at once: each pass takes a token of every sequence, so the weights are read once for all of them.
 *
 * @module
 */

import { buildPlans, type BuiltPlans } from "../../gpu/build.ts";
import { Arena } from "../../gpu/memory.ts";
import { Plan } from "../../gpu/plan.ts";
import { BYTES, Tensor } from "../../gpu/tensor.ts";
import { download, upload } from "../../gpu/transfer.ts";
import { LayerContext } from "../../layer/context.ts";
import { decoders, recordDecoding } from "../../trunk/decoding.ts";
import { type Choice, DeviceSampling, MOST_STEPS } from "../device_sampling.ts";
import { CapacityError, type Generator } from "../generator.ts";
import type { Sampling } from "../sampling.ts";

/** A sequence that goes on: the token to feed, and how those after it are chosen. */
export interface NextToken {
  readonly token: number;
  readonly sampling: Sampling;
}

/**
 * Sequences in the making, each with a cache and a position of its own. A generator reads their prompts, one after the other, and its cache is copied.
 *
 * A sequence's numbers do not depend on the others. They are those of the generator up to rounding, and the same bits for the same calls.
 *
 * @example
 * ```ts ignore
 * using generator = await Generator.create(model, { capacity: 256 });
 * using batch = await BatchGenerator.create(generator, { sequences: 2 });
 * const [first, second] = [await batch.read(prompt, [0]), await batch.read(other, [1])];
 * const logits = await batch.feed([argmax(first), argmax(second)]);
 * ```
 */
export class BatchGenerator implements Disposable {
  /** Sequences. */
  readonly sequences: number;
  readonly #reader: Generator;
  readonly #inputs: { readonly token: Tensor; readonly position: Tensor };
  readonly #caches: readonly Tensor[];
  readonly #arenas: readonly Arena[];
  readonly #plan: Plan;
  readonly #logits: Tensor;
  readonly #positions: number[];
  #built: BuiltPlans | undefined;
  #sampling: DeviceSampling | undefined;

  private constructor(reader: Generator, sequences: number) {
    if (!Number.isInteger(sequences) || sequences < 1) {
      throw new RangeError(`A batch of ${sequences} sequences; expected a whole number from 1`);
    }
    if (reader.traced) {
      throw new Error("Sequences are generated one by one where experts are read back");
    }
    const { gpu, weights } = reader.model;
    const architecture = reader.model.architecture.forGeneration();
    this.sequences = sequences;
    this.#reader = reader;
    this.#positions = Array<number>(sequences).fill(0);
    const ids = (name: string) => new Tensor(name, [sequences], { dtype: "u32", owner: "batch" });
    this.#inputs = { token: ids("token"), position: ids("position") };
    // As many rows as the reader's caches have: attention cuts them into the same spans then, which gives the same bits.
    const [{ rows }] = reader.caches as [Tensor];
    const layers = decoders(architecture, {
      sequences,
      capacity: rows,
      dtype: weights.precision === "mixed" ? "f16" : "f32",
    });
    this.#caches = layers.flatMap(({ cache }) => cache);
    // An arena a tensor, for a dispatch may not read and write one buffer.
    this.#arenas = [...Object.values(this.#inputs), ...this.#caches]
      .map((tensor) => new Arena(gpu, tensor.name, [tensor]));
    this.#plan = new Plan(gpu, "decode batch");
    const context = new LayerContext(this.#plan, weights, {
      batch: sequences,
      length: 1,
      mode: "evaluate",
    });
    const { token: tokens, position } = this.#inputs;
    this.#logits = this.#plan.keep(
      recordDecoding(context, architecture, { tokens, position, decoders: layers }),
    );
  }

  /**
   * Records the plan and allocates the caches.
   *
   * @param reader Reads prompts, and gives the model and the capacity of each sequence. It has to outlive the batch; what it holds is overwritten.
   * @throws {RangeError} If `sequences` is no whole number from 1, or a cache of all of them does not fit a binding.
   */
  static async create(
    reader: Generator,
    { sequences }: { readonly sequences: number },
  ): Promise<BatchGenerator> {
    const batch = new BatchGenerator(reader, sequences);
    try {
      batch.#built = await buildPlans(reader.model.gpu, [batch.#plan]);
    } catch (error) {
      batch[Symbol.dispose]();
      throw error;
    }
    return batch;
  }

  /** The most sequences whose caches fit a device's bindings; at least 1. */
  static most(reader: Generator): number {
    const { max_binding_bytes, max_buffer_bytes } = reader.model.gpu.capabilities;
    const largest = Math.max(...reader.caches.map((cache) => cache.bytes));
    return Math.max(1, Math.floor(Math.min(max_binding_bytes, max_buffer_bytes) / largest));
  }

  /** Positions that each sequence's cache holds. */
  get capacity(): number {
    return this.#reader.capacity;
  }

  /** Tokens of a sequence so far. */
  position(sequence: number): number {
    return this.#positions[sequence]!;
  }

  /** Bytes of the model, the caches and what passes need, the reader's included. */
  get bytes(): number {
    const own = this.#built!.pool.bytes + (this.#sampling?.bytes ?? 0);
    return this.#arenas.reduce((n, arena) => n + arena.bytes, this.#reader.bytes + own);
  }

  /**
   * Begins sequences anew with the same tokens, which are read once.
   *
   * @param sequences Their numbers.
   * @returns Logits of the token after the last one, `[V]`.
   * @throws {CapacityError} If they do not fit.
   * @throws {RangeError} If there are none, or one is outside the vocabulary.
   */
  async read(tokens: ArrayLike<number>, sequences: readonly number[]): Promise<Float32Array> {
    const { device } = this.#reader.model.gpu;
    this.#reader.reset();
    const logits = await this.#reader.feed(tokens);
    const encoder = device.createCommandEncoder({ label: "copy caches" });
    this.#reader.caches.forEach((from, i) => {
      const to = this.#caches[i]!;
      const row = to.width * BYTES[to.dtype];
      for (const sequence of sequences) {
        encoder.copyBufferToBuffer(
          from.memory.buffer,
          from.memory.offset,
          to.memory.buffer,
          to.memory.offset + sequence * from.rows * row,
          tokens.length * row,
        );
      }
    });
    device.queue.submit([encoder.finish()]);
    for (const sequence of sequences) this.#positions[sequence] = tokens.length;
    return logits;
  }

  /**
   * Appends a token to each sequence. One that is given none is forgotten: its position is 0 then.
   *
   * @returns Logits of the token after each, `[V]`; undefined where there was none.
   * @throws {CapacityError} If a token does not fit; nothing was appended then.
   * @throws {RangeError} If there is not an entry a sequence, or a token is outside the vocabulary.
   */
  async feed(tokens: readonly (number | undefined)[]): Promise<(Float32Array | undefined)[]> {
    const { gpu, config: { vocab_size } } = this.#reader.model;
    this.#check(tokens, 1);
    upload(gpu, this.#inputs.token, tokens.map((token) => token ?? 0));
    upload(
      gpu,
      this.#inputs.position,
      tokens.map((token, i) => token === undefined ? 0 : this.#positions[i]!),
    );
    this.#built!.plans[0]!.run();
    this.#advance(tokens, 1);
    const logits = await download(gpu, this.#logits) as Float32Array;
    const { width } = this.#logits;
    return tokens.map((token, i) =>
      token === undefined ? undefined : logits.subarray(i * width, i * width + vocab_size)
    );
  }

  /** Compiles the kernels that {@linkcode choose} needs, once; it does so itself otherwise. */
  async prepareToChoose(): Promise<void> {
    const { gpu, config: { vocab_size: vocabulary } } = this.#reader.model;
    this.#sampling ??= await DeviceSampling.create(gpu, {
      plan: this.#built!.plans[0]!,
      ...this.#inputs,
      logits: this.#logits,
    }, { vocabulary });
  }

  /**
   * Appends a token to each sequence, and then those that the device chooses, all but the last, in one submission: `Generator.choose()` for many. A sequence
   * that is given no token is forgotten.
   *
   * @param count Tokens to choose for each, from 1 to {@linkcode MOST_STEPS}.
   * @returns The chosen tokens of each sequence.
   * @throws {CapacityError} If `count` tokens do not fit a sequence; nothing was appended then.
   * @throws {RangeError} If there is not an entry a sequence, a token is outside the vocabulary, or `count` outside its range.
   */
  async choose(next: readonly (NextToken | undefined)[], count: number): Promise<Choice[][]> {
    if (!(Number.isInteger(count) && count >= 1 && count <= MOST_STEPS)) {
      throw new RangeError(`${count} tokens are to be chosen; expected 1 to ${MOST_STEPS}`);
    }
    const tokens = next.map((one) => one?.token);
    this.#check(tokens, count);
    await this.prepareToChoose();
    const rows = next.map((one, i) => one && { ...one, position: this.#positions[i]! });
    this.#advance(tokens, count);
    return await this.#sampling!.choose(rows, count);
  }

  #advance(tokens: readonly (number | undefined)[], count: number): void {
    tokens.forEach((token, i) => {
      this.#positions[i] = token === undefined ? 0 : this.#positions[i]! + count;
    });
  }

  /** Refuses tokens that are none or not one a sequence, and `count` positions that do not fit. */
  #check(tokens: readonly (number | undefined)[], count: number): void {
    const { vocab_size } = this.#reader.model.config;
    if (tokens.length !== this.sequences) {
      throw new RangeError(`${tokens.length} tokens were given to ${this.sequences} sequences`);
    }
    tokens.forEach((token, i) => {
      if (token === undefined) return;
      if (!(Number.isInteger(token) && token >= 0 && token < vocab_size)) {
        throw new RangeError(`Token ${token} is not in the vocabulary of ${vocab_size} tokens`);
      }
      const position = this.#positions[i]! + count;
      if (position > this.capacity) {
        throw new CapacityError(
          `${position} tokens do not fit the context of ${this.capacity} tokens`,
        );
      }
    });
  }

  /** Frees the caches and the plan; the reader and the model stay. */
  [Symbol.dispose](): void {
    this.#sampling?.[Symbol.dispose]();
    this.#built?.destroy();
    for (const arena of this.#arenas) arena.destroy();
  }
}
