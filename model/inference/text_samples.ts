/**
 * Samples of text that a model in training writes: the same texts for the same weights, seed and step.
 *
 * @module
 */

import type { Tokenizer } from "../text/tokenizer.ts";
import { type FinishReason, firstTokens, generateText } from "./generate_text.ts";
import { type GeneratingModel, Generator } from "./generator.ts";
import { NotFiniteError } from "./log_probability.ts";

/** A text that a model wrote. */
export interface TextSample {
  /** The text that it goes on from. */
  readonly prompt: string;
  /** The text after the prompt. */
  readonly text: string;
  /** Why it ends; `not_finite` where the logits of the next token were not. */
  readonly finish: FinishReason | "not_finite";
}

/** Options of {@linkcode TextSampler.create}. */
export interface TextSamplerOptions {
  readonly tokenizer: Tokenizer;
  readonly prompts: readonly string[];
  /** Tokens of a sample at most. */
  readonly tokens: number;
  /** Divides the logits; 0 takes the most likely token. */
  readonly temperature: number;
  /** Chooses the draws, together with the step and the prompt's place in the list. */
  readonly seed: number;
}

/**
 * Writes texts with the weights that a model has when it is asked. The model stays as it is: weights and running statistics are read, and the draws have
 * a generator of their own.
 */
export class TextSampler implements Disposable {
  readonly #generator: Generator;
  readonly #options: TextSamplerOptions;

  private constructor(generator: Generator, options: TextSamplerOptions) {
    this.#generator = generator;
    this.#options = options;
  }

  /**
   * Allocates the cache for the longest prompt, and records the plans.
   *
   * @throws {RangeError} If a prompt has more tokens than the model has positions.
   */
  static async create(model: GeneratingModel, options: TextSamplerOptions): Promise<TextSampler> {
    const { tokenizer, prompts, tokens } = options;
    const { longest } = model.architecture;
    const lengths = prompts.map((prompt) => {
      const { length } = tokenizer.encode(prompt);
      return firstTokens(tokenizer, length).length + length;
    });
    const tooLong = lengths.findIndex((length) => length > longest);
    if (tooLong >= 0) {
      throw new RangeError(
        `train.sample_prompts[${tooLong}] has ${
          lengths[tooLong]
        } tokens with those that begin a text; expected at most ${longest}, the model's positions`,
      );
    }
    const capacity = Math.min(longest, Math.max(...lengths) + tokens);
    return new TextSampler(await Generator.create(model, { capacity }), options);
  }

  /** Writes a text a prompt after the update `step`. */
  async take(step: number): Promise<TextSample[]> {
    const { tokenizer, prompts, tokens, temperature, seed } = this.#options;
    const samples: TextSample[] = [];
    for (const [place, prompt] of prompts.entries()) {
      const pieces = generateText(this.#generator, tokenizer, {
        prompt,
        max_tokens: tokens,
        sampling: { temperature },
        seed: drawSeed(seed, step, place),
      });
      let text = "";
      let finish: TextSample["finish"] | undefined;
      try {
        while (finish === undefined) {
          const next = await pieces.next();
          if (next.done) finish = next.value.finish;
          else text += next.value;
        }
      } catch (error) {
        // Mixed precision may overflow here and train on: its update is skipped.
        if (!(error instanceof NotFiniteError)) throw error;
        finish = "not_finite";
      }
      samples.push({ prompt, text, finish });
    }
    return samples;
  }

  /** Frees the cache and the plans; the model stays. */
  [Symbol.dispose](): void {
    this.#generator[Symbol.dispose]();
  }
}

/** 32 bits of several numbers, by the finaliser of MurmurHash3 after each. */
function drawSeed(...parts: readonly number[]): number {
  let hash = 0x9e3779b9;
  for (const part of parts) {
    hash = Math.imul(hash ^ part, 0x85ebca6b);
    hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
    hash ^= hash >>> 16;
  }
  return hash | 0;
}
