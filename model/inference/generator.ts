/**
 * Generation on the device: tokens in, logits of the next one out, with a latent cache in between.
 *
 * @module
 */

import { decoders, recordDecoding } from "../trunk/decoding.ts";
import { buildPlans, type BuiltPlans } from "../gpu/build.ts";
import { Arena } from "../gpu/memory.ts";
import { Plan } from "../gpu/plan.ts";
import { roundUp, Tensor } from "../gpu/tensor.ts";
import { download, upload } from "../gpu/transfer.ts";
import type { InferenceModel } from "./model.ts";
import { LayerContext } from "../layer/context.ts";

/** Tokens of a prompt that are computed at once: on a GPU attention of many is matrix products. */
const CHUNK = { software: 64, gpu: 256 };
/** The cache's rows are a multiple of it: products with the cache take whole steps and tiles then. */
const CACHE_STEP = 64;

interface GeneratorOptions {
  /** Positions that the cache holds: prompt and what is generated after it. */
  readonly capacity: number;
  /** Tokens of a prompt that are computed at once; 256 unless given, on a software adapter 64. */
  readonly chunk?: number;
}

/** There is no room for more tokens. */
export class CapacityError extends RangeError {
  /** Name of the class. */
  override readonly name = "CapacityError";
}

/**
 * One sequence in the making. Two plans are recorded once and serve every position: one for a chunk of a prompt, one for a single token.
 *
 * The numbers are those of the training's forward pass in evaluation mode (running statistics), up to rounding, and the same bits
 * for the same calls.
 *
 * @example
 * ```ts ignore
 * using model = await openInferenceModel(gpu, "model.safetensors");
 * using generator = await Generator.create(model, { capacity: 256 });
 * let logits = await generator.feed(prompt);
 * logits = await generator.feed([argmax(logits)]);
 * ```
 */
export class Generator implements Disposable {
  /** Positions that the cache holds. */
  readonly capacity: number;
  readonly #model: InferenceModel;
  readonly #chunk: number;
  readonly #inputs: { chunk: Tensor; token: Tensor; position: Tensor; row: Tensor };
  readonly #caches: readonly Tensor[];
  readonly #arenas: readonly Arena[];
  readonly #plans: Readonly<Record<"chunk" | "token", Plan>>;
  readonly #logits: Readonly<Record<"chunk" | "token", Tensor>>;
  #built: BuiltPlans | undefined;
  #position = 0;

  private constructor(model: InferenceModel, options: GeneratorOptions) {
    const { gpu, weights } = model;
    // A key that changes the run alone is about the training's speed; few tokens have one best way.
    const architecture = model.architecture.forGeneration();
    const { capacity, chunk = CHUNK[gpu.capabilities.software ? "software" : "gpu"] } = options;
    for (const [name, value] of Object.entries({ capacity, chunk })) {
      if (!Number.isInteger(value) || value < 1) {
        throw new RangeError(`The generator's ${name} is ${value}; expected a whole number from 1`);
      }
    }
    if (capacity > architecture.longest) {
      throw new RangeError(
        `A context of ${capacity} tokens is longer than the ${architecture.longest} positions of the model`,
      );
    }
    this.#model = model;
    this.capacity = capacity;
    this.#chunk = Math.min(chunk, capacity);
    const ids = (name: string, size: number) =>
      new Tensor(name, [size], { dtype: "u32", owner: "batch" });
    this.#inputs = {
      chunk: ids("chunk", this.#chunk),
      token: ids("token", 1),
      position: ids("position", 1),
      row: ids("row", 1),
    };
    // The rows that fill up a last chunk go somewhere, too.
    const layers = decoders(architecture, {
      capacity: roundUp(capacity + this.#chunk - 1, CACHE_STEP),
      dtype: weights.precision === "mixed" ? "f16" : "f32",
    });
    this.#caches = layers.flatMap(({ cache }) => cache);
    // An arena a tensor, for a dispatch may not read and write one buffer.
    this.#arenas = [...Object.values(this.#inputs), ...this.#caches]
      .map((tensor) => new Arena(gpu, tensor.name, [tensor]));

    const record = (label: string, tokens: Tensor) => {
      const plan = new Plan(gpu, label);
      const context = new LayerContext(plan, weights, {
        batch: 1,
        length: tokens.size,
        mode: "evaluate",
      });
      const { position, row } = this.#inputs;
      return {
        plan,
        logits: plan.keep(
          recordDecoding(context, architecture, { tokens, position, row, decoders: layers }),
        ),
      };
    };
    const chunkPlan = record("prefill", this.#inputs.chunk);
    const tokenPlan = record("decode", this.#inputs.token);
    this.#plans = { chunk: chunkPlan.plan, token: tokenPlan.plan };
    this.#logits = { chunk: chunkPlan.logits, token: tokenPlan.logits };
  }

  /**
   * Records the plans and allocates the cache.
   *
   * @throws {RangeError} If the capacity is no whole number from 1 or more than the model's positions, or its cache does not fit a
   *   binding.
   */
  static async create(model: InferenceModel, options: GeneratorOptions): Promise<Generator> {
    const generator = new Generator(model, options);
    try {
      const { chunk, token } = generator.#plans;
      generator.#built = await buildPlans(model.gpu, [chunk, token]);
    } catch (error) {
      generator[Symbol.dispose]();
      throw error;
    }
    return generator;
  }

  /** Tokens fed so far. */
  get position(): number {
    return this.#position;
  }

  /** Bytes of the cache. */
  get cacheBytes(): number {
    return this.#caches.reduce((bytes, tensor) => bytes + tensor.bytes, 0);
  }

  /** Bytes of the model, the cache and what a pass needs, together. */
  get bytes(): number {
    const weights = this.#model.weights.memory.reduce((n, { bytes }) => n + bytes, 0);
    return weights + this.#arenas.reduce((n, arena) => n + arena.bytes, this.#built!.pool.bytes);
  }

  /** Forgets the sequence. */
  reset(): void {
    this.#position = 0;
    // A row beyond a token counts as zero times itself, and a token that overflowed may have left NaN there.
    const { device } = this.#model.gpu;
    const encoder = device.createCommandEncoder({ label: "reset" });
    for (const tensor of this.#caches) {
      encoder.clearBuffer(tensor.memory.buffer, tensor.memory.offset, tensor.bytes);
    }
    device.queue.submit([encoder.finish()]);
  }

  /**
   * Appends tokens to the sequence.
   *
   * @returns Logits of the token after the last one, `[V]`.
   * @throws {CapacityError} If they do not fit; nothing was appended then.
   * @throws {RangeError} If there are none, or one is outside the vocabulary.
   */
  async feed(tokens: ArrayLike<number>): Promise<Float32Array> {
    const { gpu, config } = this.#model;
    const { vocab_size } = config;
    const count = tokens.length;
    if (count === 0) throw new RangeError("There is no token to feed; expected at least one");
    for (let i = 0; i < count; i++) {
      const token = tokens[i]!;
      if (!(Number.isInteger(token) && token >= 0 && token < vocab_size)) {
        throw new RangeError(`Token ${token} is not in the vocabulary of ${vocab_size} tokens`);
      }
    }
    if (this.#position + count > this.capacity) {
      throw new CapacityError(
        `${this.#position + count} tokens do not fit the context of ${this.capacity} tokens`,
      );
    }
    let logits = this.#logits.token;
    for (let at = 0; at < count;) {
      const left = count - at;
      const kind = left > 1 && this.#chunk > 1 ? "chunk" : "token";
      const real = kind === "chunk" ? Math.min(left, this.#chunk) : 1;
      const ids = new Uint32Array(this.#inputs[kind].size);
      for (let i = 0; i < real; i++) ids[i] = tokens[at + i]!;
      upload(gpu, this.#inputs[kind], ids);
      upload(gpu, this.#inputs.position, [this.#position]);
      upload(gpu, this.#inputs.row, [real - 1]);
      this.#built!.plans[kind === "chunk" ? 0 : 1]!.run();
      logits = this.#logits[kind];
      this.#position += real;
      at += real;
    }
    return (await download(gpu, logits) as Float32Array).subarray(0, vocab_size);
  }

  /** Frees the cache and the plans; the model stays. */
  [Symbol.dispose](): void {
    this.#built?.destroy();
    for (const arena of this.#arenas) arena.destroy();
  }
}
