/**
 * Sampling on the device: a chosen token is the next step's input there, and the host reads the tokens of several steps at once.
 *
 * @module
 */

import { buildPlans, type BuiltPlan, type BuiltPlans } from "../gpu/build.ts";
import type { Gpu } from "../gpu/device.ts";
import { Arena } from "../gpu/memory.ts";
import { Plan } from "../gpu/plan.ts";
import { Tensor } from "../gpu/tensor.ts";
import { download, packFields, upload } from "../gpu/transfer.ts";
import {
  CHOICE_FIELDS,
  chooseToken,
  CHOSEN_WORDS,
  seenWords,
} from "../ops/decoding/choose_token.ts";
import type { Sampling } from "./sampling.ts";

/** Steps of a submission at most. */
export const MOST_STEPS = 16;

/** A token that the device chose. */
export interface Choice {
  readonly token: number;
  /** Its logit after the repetition penalty. If it is not finite, nor is the model's: no token could be chosen. */
  readonly logit: number;
}

/** The parts of a recorded decoding step that sampling is joined to. */
export interface DecodingStep {
  /** The step of a single token. */
  readonly plan: BuiltPlan;
  /** Its input, `[1]` u32. */
  readonly token: Tensor;
  /** Position of the token, `[1]` u32. */
  readonly position: Tensor;
  /** The logits that the step writes, `[1, stride]`. */
  readonly logits: Tensor;
}

/** Goes on with a sequence by several tokens in one submission. */
export class DeviceSampling implements Disposable {
  readonly #gpu: Gpu;
  readonly #vocabulary: number;
  readonly #step: DecodingStep;
  readonly #tensors: Readonly<
    Record<"options" | "seen" | "chosen" | "draws" | "positions" | "choices", Tensor>
  >;
  readonly #arenas: readonly Arena[];
  #built: BuiltPlans | undefined;

  private constructor(gpu: Gpu, step: DecodingStep, vocabulary: number) {
    this.#gpu = gpu;
    this.#vocabulary = vocabulary;
    this.#step = step;
    const words = (name: string, ...shape: number[]) =>
      new Tensor(name, shape, { dtype: "u32", owner: "batch" });
    this.#tensors = {
      options: new Tensor("sampling options", [CHOICE_FIELDS.length], { owner: "batch" }),
      seen: words("seen", seenWords(vocabulary)),
      chosen: words("chosen", CHOSEN_WORDS),
      draws: new Tensor("draws", [MOST_STEPS], { owner: "batch" }),
      positions: words("positions", MOST_STEPS),
      choices: words("choices", MOST_STEPS, CHOSEN_WORDS),
    };
    this.#arenas = Object.values(this.#tensors)
      .map((tensor) => new Arena(gpu, tensor.name, [tensor]));
  }

  /** Compiles the kernels. */
  static async create(
    gpu: Gpu,
    step: DecodingStep,
    { vocabulary }: { vocabulary: number },
  ): Promise<DeviceSampling> {
    const sampling = new DeviceSampling(gpu, step, vocabulary);
    try {
      const plan = new Plan(gpu, "choose");
      const { options, seen, chosen } = sampling.#tensors;
      const { token, logits } = step;
      chooseToken(plan, "choose", { logits, options, seen, token, chosen }, { vocabulary });
      sampling.#built = await buildPlans(gpu, [plan]);
    } catch (error) {
      sampling[Symbol.dispose]();
      throw error;
    }
    return sampling;
  }

  /** Bytes of its buffers. */
  get bytes(): number {
    return this.#arenas.reduce((n, { bytes }) => n + bytes, this.#built!.pool.bytes);
  }

  /**
   * Feeds `token` and then every chosen token but the last.
   *
   * @param sampling Gives the options, the random numbers, and the tokens that were there. It is told the chosen ones.
   * @param at `position` of `token`, and how many tokens to choose, from 1 to {@linkcode MOST_STEPS}.
   */
  async choose(
    token: number,
    sampling: Sampling,
    { position, count }: { readonly position: number; readonly count: number },
  ): Promise<Choice[]> {
    const gpu = this.#gpu;
    const { options, seen, chosen, draws, positions, choices } = this.#tensors;
    const { temperature, top_k, top_p, min_p, repetition_penalty } = sampling.options;
    upload(
      gpu,
      options,
      packFields(CHOICE_FIELDS, {
        repetition_penalty,
        draws: temperature > 0 ? 1 : 0,
        temperature,
        top_k: top_k < this.#vocabulary ? top_k : 0,
        min_p,
        nucleus: top_p < 1 ? 1 : 0,
        top_p,
      }),
    );
    const bits = new Uint32Array(seen.size);
    for (const id of sampling.seen) bits[id >>> 5]! |= 1 << (id & 31);
    upload(gpu, seen, bits);
    upload(gpu, this.#step.token, [token]);
    const steps = Array.from({ length: MOST_STEPS }, (_, i) => position + i);
    upload(gpu, positions, steps);
    upload(gpu, draws, Object.assign(new Float32Array(MOST_STEPS), sampling.draws(count)));

    gpu.check();
    const encoder = gpu.device.createCommandEncoder({ label: "decode and choose" });
    const copy = (
      from: readonly [tensor: Tensor, word: number],
      to: readonly [tensor: Tensor, word: number],
      words: number,
    ) => {
      const [source, target] = [from, to].map(([{ memory }, word]) => ({
        buffer: memory.buffer,
        offset: memory.offset + 4 * word,
      }));
      encoder.copyBufferToBuffer(
        source!.buffer,
        source!.offset,
        target!.buffer,
        target!.offset,
        4 * words,
      );
    };
    for (let i = 0; i < count; i++) {
      copy([positions, i], [this.#step.position, 0], 1);
      copy([draws, i], [options, CHOICE_FIELDS.indexOf("draw")], 1);
      this.#step.plan.encode(encoder);
      this.#built!.plans[0]!.encode(encoder);
      copy([chosen, 0], [choices, CHOSEN_WORDS * i], CHOSEN_WORDS);
    }
    gpu.device.queue.submit([encoder.finish()]);
    const read = await download(gpu, choices) as Uint32Array;
    const floats = new Float32Array(read.buffer, read.byteOffset, read.length);
    const made = Array.from({ length: count }, (_, i): Choice => ({
      token: read[CHOSEN_WORDS * i]!,
      logit: floats[CHOSEN_WORDS * i + 1]!,
    }));
    sampling.note(made.map(({ token }) => token));
    return made;
  }

  /** Frees its buffers. */
  [Symbol.dispose](): void {
    this.#built?.destroy();
    for (const arena of this.#arenas) arena.destroy();
  }
}
