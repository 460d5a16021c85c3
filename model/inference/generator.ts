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
import { type Choice, DeviceSampling, MOST_STEPS } from "./device_sampling.ts";
import type { Sampling } from "./sampling.ts";

/** Tokens of a prompt that are computed at once: on a GPU attention of many is matrix products. */
const CHUNK = { software: 64, gpu: 256 };
/** The cache's rows are a multiple of it: products with the cache take whole steps and tiles then. */
const CACHE_STEP = 64;

/** The parts of a model that a generator needs; a model in training has them too. */
export type GeneratingModel = Pick<InferenceModel, "gpu" | "architecture" | "weights" | "config">;

interface GeneratorOptions {
  /** Positions that the cache holds: prompt and what is generated after it. */
  readonly capacity: number;
  /** Tokens of a prompt that are computed at once; 256 unless given, on a software adapter 64. */
  readonly chunk?: number;
  /** Takes the experts of each pass, in order. They are read back only where this is given. */
  readonly onChoices?: (pass: PassChoices) => void;
}

/** The experts that the tokens of one pass chose. */
export interface PassChoices {
  /** Position of the first token. */
  readonly position: number;
  /** The tokens that were read, T of them. */
  readonly tokens: readonly number[];
  /** One a layer that has experts, in order. */
  readonly layers: readonly {
    /** Prefix of the layer's weights: `layers.3.ffn`. */
    readonly at: string;
    /** Chosen experts, `[T, M·A]`; N or more where a token keeps fewer. */
    readonly index: Uint32Array;
    /** The factor of each in the layer's output, `[T, M]`; 0 of those that are not kept. */
    readonly weight: Float32Array;
  }[];
}

/** A layer's choice in a recorded plan. */
interface RecordedChoice {
  readonly at: string;
  readonly index: Tensor;
  readonly score: Tensor;
}

/** A recorded pass. */
interface Recorded {
  readonly plan: Plan;
  readonly logits: Tensor;
  readonly choices: readonly RecordedChoice[];
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
  readonly #model: GeneratingModel;
  readonly #chunk: number;
  readonly #inputs: { chunk: Tensor; token: Tensor; position: Tensor; row: Tensor };
  readonly #caches: readonly Tensor[];
  readonly #arenas: readonly Arena[];
  readonly #recorded: Readonly<Record<"chunk" | "token", Recorded>>;
  readonly #onChoices: GeneratorOptions["onChoices"];
  #built: BuiltPlans | undefined;
  #sampling: DeviceSampling | undefined;
  #position = 0;

  private constructor(model: GeneratingModel, options: GeneratorOptions) {
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

    this.#onChoices = options.onChoices;
    const record = (label: string, tokens: Tensor): Recorded => {
      const plan = new Plan(gpu, label);
      const choices: RecordedChoice[] = [];
      const context = new LayerContext(plan, weights, {
        batch: 1,
        length: tokens.size,
        mode: "evaluate",
        ...options.onChoices && {
          onChoice: ({ at, index, score }) =>
            void choices.push({ at, index: plan.keep(index), score: plan.keep(score) }),
        },
      });
      const { position, row } = this.#inputs;
      const logits = plan.keep(
        recordDecoding(context, architecture, { tokens, position, row, decoders: layers }),
      );
      return { plan, logits, choices };
    };
    this.#recorded = {
      chunk: record("prefill", this.#inputs.chunk),
      token: record("decode", this.#inputs.token),
    };
  }

  /**
   * Records the plans and allocates the cache.
   *
   * @throws {RangeError} If the capacity is no whole number from 1 or more than the model's positions, or its cache does not fit a
   *   binding.
   */
  static async create(model: GeneratingModel, options: GeneratorOptions): Promise<Generator> {
    const generator = new Generator(model, options);
    try {
      const { chunk, token } = generator.#recorded;
      generator.#built = await buildPlans(model.gpu, [chunk.plan, token.plan]);
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

  /** The model that it generates with. */
  get model(): GeneratingModel {
    return this.#model;
  }

  /** The caches of all layers, `[at least the capacity, …]` each, for those who copy them. */
  get caches(): readonly Tensor[] {
    return this.#caches;
  }

  /** Bytes of the cache. */
  get cacheBytes(): number {
    return this.#caches.reduce((bytes, tensor) => bytes + tensor.bytes, 0);
  }

  /** Bytes of the model, the cache and what a pass needs, together. */
  get bytes(): number {
    const weights = this.#model.weights.memory.reduce((n, { bytes }) => n + bytes, 0);
    const own = this.#built!.pool.bytes + (this.#sampling?.bytes ?? 0);
    return weights + this.#arenas.reduce((n, arena) => n + arena.bytes, own);
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
    const { gpu, config: { vocab_size } } = this.#model;
    const count = tokens.length;
    if (count === 0) throw new RangeError("There is no token to feed; expected at least one");
    this.#check(tokens, count);
    let { logits } = this.#recorded.token;
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
      logits = this.#recorded[kind].logits;
      if (this.#onChoices) {
        const read = Array.from(ids.subarray(0, real));
        this.#onChoices(await this.#choices(this.#recorded[kind].choices, read));
      }
      this.#position += real;
      at += real;
    }
    return (await download(gpu, logits) as Float32Array).subarray(0, vocab_size);
  }

  /** Whether the experts of each pass are read back: then a token is a pass of its own, and {@linkcode choose} refuses. */
  get traced(): boolean {
    return this.#onChoices !== undefined;
  }

  /** Compiles the kernels that {@linkcode choose} needs, once; it does so itself otherwise. */
  async prepareToChoose(): Promise<void> {
    const { gpu, config: { vocab_size: vocabulary } } = this.#model;
    this.#sampling ??= await DeviceSampling.create(gpu, {
      plan: this.#built!.plans[1]!,
      token: this.#inputs.token,
      position: this.#inputs.position,
      logits: this.#recorded.token.logits,
    }, { vocabulary });
  }

  /**
   * Appends a token and then those that the device chooses, all but the last, in one submission. The host waits once for all of them. The position is
   * that after `count` tokens, whichever of them the caller uses: who drops some has to reset the sequence.
   *
   * @param sampling Chooses, up to f32 rounding, the tokens that it would choose from the logits of {@linkcode feed}.
   * @param count Tokens to choose, from 1 to {@linkcode MOST_STEPS}.
   * @returns The chosen tokens. After one whose logit is not finite they mean nothing.
   * @throws {CapacityError} If `count` tokens do not fit; nothing was appended then.
   * @throws {RangeError} If the token is outside the vocabulary, or `count` outside its range.
   */
  async choose(token: number, sampling: Sampling, count: number): Promise<readonly Choice[]> {
    const { gpu } = this.#model;
    if (this.traced) throw new Error("Tokens are chosen one by one where experts are read back");
    if (!(Number.isInteger(count) && count >= 1 && count <= MOST_STEPS)) {
      throw new RangeError(`${count} tokens are to be chosen; expected 1 to ${MOST_STEPS}`);
    }
    this.#check([token], count);
    await this.prepareToChoose();
    upload(gpu, this.#inputs.row, [0]);
    const position = this.#position;
    this.#position += count;
    const [chosen] = await this.#sampling!.choose([{ token, position, sampling }], count);
    return chosen!;
  }

  /** Refuses tokens that are none, and `count` positions that do not fit. */
  #check(tokens: ArrayLike<number>, count: number): void {
    const { vocab_size } = this.#model.config;
    for (let i = 0; i < tokens.length; i++) {
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
  }

  /** Reads back the choices of the pass that ran last, of the tokens that it read. */
  async #choices(
    choices: readonly RecordedChoice[],
    tokens: readonly number[],
  ): Promise<PassChoices> {
    const { gpu } = this.#model;
    const layers = choices.map(async ({ at, index, score }) => {
      const [indices, weights] = await Promise.all([download(gpu, index), download(gpu, score)]);
      // Rows beyond the tokens fill up a chunk.
      const rows = <Numbers extends Uint32Array | Float32Array>(all: Numbers, { width }: Tensor) =>
        all.subarray(0, tokens.length * width) as Numbers;
      return {
        at,
        index: rows(indices as Uint32Array, index),
        weight: rows(weights as Float32Array, score),
      };
    });
    return { position: this.#position, tokens, layers: await Promise.all(layers) };
  }

  /** Frees the cache and the plans; the model stays. */
  [Symbol.dispose](): void {
    this.#sampling?.[Symbol.dispose]();
    this.#built?.destroy();
    for (const arena of this.#arenas) arena.destroy();
  }
}
