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

/** The parts of a recorded decoding step that sampling is joined to: a token for each of its rows, which are sequences. */
export interface DecodingStep {
  /** The step of a single token of each. */
  readonly plan: BuiltPlan;
  /** Its input, `[rows]` u32. */
  readonly token: Tensor;
  /** Positions of the tokens, `[rows]` u32. */
  readonly position: Tensor;
  /** The logits that the step writes, `[rows, stride]`. */
  readonly logits: Tensor;
}

/** How a row goes on. */
export interface NextTokens {
  /** The token to feed first. */
  readonly token: number;
  /** Its position. */
  readonly position: number;
  /** Gives the options, the random numbers, and the tokens that were there. It is told the chosen ones. */
  readonly sampling: Sampling;
}

/** Goes on with sequences by several tokens in one submission. */
export class DeviceSampling implements Disposable {
  readonly #gpu: Gpu;
  readonly #vocabulary: number;
  readonly #step: DecodingStep;
  readonly #tensors: Readonly<
    Record<"options" | "seen" | "chosen" | "ways" | "positions" | "choices", Tensor>
  >;
  readonly #arenas: readonly Arena[];
  #built: BuiltPlans | undefined;

  private constructor(gpu: Gpu, step: DecodingStep, vocabulary: number) {
    this.#gpu = gpu;
    this.#vocabulary = vocabulary;
    this.#step = step;
    const rows = step.token.size;
    const words = (name: string, ...shape: number[]) =>
      new Tensor(name, shape, { dtype: "u32", owner: "batch" });
    const options = (name: string, ...shape: number[]) =>
      new Tensor(name, [...shape, CHOICE_FIELDS.length], { owner: "batch" });
    this.#tensors = {
      options: options("sampling options", rows),
      seen: words("seen", rows, seenWords(vocabulary)),
      chosen: words("chosen", rows, CHOSEN_WORDS),
      ways: options("sampling options of each step", MOST_STEPS, rows),
      positions: words("positions", MOST_STEPS, rows),
      choices: words("choices", MOST_STEPS, rows, CHOSEN_WORDS),
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
   * Feeds each row's token and then every chosen token but the last.
   *
   * @param rows Of each row of the step how it goes on; undefined where nothing does: token 0 is fed to position 0 then, again and again.
   * @param count Tokens to choose for each, from 1 to {@linkcode MOST_STEPS}.
   * @returns The chosen tokens of each row.
   */
  async choose(rows: readonly (NextTokens | undefined)[], count: number): Promise<Choice[][]> {
    const gpu = this.#gpu;
    const { options, chosen, ways, positions, choices } = this.#tensors;
    const { token, position } = this.#step;
    this.#upload(rows, count);
    gpu.check();
    const encoder = gpu.device.createCommandEncoder({ label: "decode and choose" });
    /** Copies all of the smaller tensor from or to its part of the larger one for a step. */
    const copy = (from: Tensor, to: Tensor, i: number) => {
      const words = Math.min(from.size, to.size);
      const [source, target] = [from, to].map(({ memory, size }) => ({
        buffer: memory.buffer,
        offset: memory.offset + (size > words ? 4 * words * i : 0),
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
      copy(positions, position, i);
      copy(ways, options, i);
      this.#step.plan.encode(encoder);
      this.#built!.plans[0]!.encode(encoder);
      copy(chosen, choices, i);
    }
    gpu.device.queue.submit([encoder.finish()]);
    const read = await download(gpu, choices) as Uint32Array;
    const floats = new Float32Array(read.buffer, read.byteOffset, read.length);
    return rows.map((row, r) => {
      if (!row) return [];
      const made = Array.from({ length: count }, (_, i): Choice => {
        const at = CHOSEN_WORDS * (i * token.size + r);
        return { token: read[at]!, logit: floats[at + 1]! };
      });
      row.sampling.note(made.map(({ token }) => token));
      return made;
    });
  }

  /** Writes what the steps read: tokens, positions, the tokens that were there, options and draws. */
  #upload(rows: readonly (NextTokens | undefined)[], count: number): void {
    const gpu = this.#gpu;
    const { seen, ways, positions } = this.#tensors;
    const fields = CHOICE_FIELDS.length;
    const words = seen.width;
    const bits = new Uint32Array(seen.size);
    const numbers = new Float32Array(ways.size);
    const places = new Uint32Array(positions.size);
    rows.forEach((row, r) => {
      if (!row) return;
      const { temperature, top_k, top_p, min_p, repetition_penalty } = row.sampling.options;
      for (const id of row.sampling.seen) bits[words * r + (id >>> 5)]! |= 1 << (id & 31);
      row.sampling.draws(count).forEach((draw, i) => {
        const at = i * rows.length + r;
        places[at] = row.position + i;
        numbers.set(
          packFields(CHOICE_FIELDS, {
            repetition_penalty,
            draws: temperature > 0 ? 1 : 0,
            temperature,
            top_k: top_k < this.#vocabulary ? top_k : 0,
            min_p,
            nucleus: top_p < 1 ? 1 : 0,
            top_p,
            draw,
          }),
          fields * at,
        );
      });
    });
    upload(gpu, seen, bits);
    upload(gpu, ways, numbers);
    upload(gpu, positions, places);
    upload(gpu, this.#step.token, rows.map((row) => row?.token ?? 0));
  }

  /** Frees its buffers. */
  [Symbol.dispose](): void {
    this.#built?.destroy();
    for (const arena of this.#arenas) arena.destroy();
  }
}
