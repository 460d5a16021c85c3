/**
 * Predictions from the numbers that the device finds in rows of logits.
 *
 * @module
 */

import { foundWords } from "../ops/decoding/likeliest.ts";
import {
  notFinite,
  type Prediction,
  type PredictionOptions,
  type TokenLogProbability,
} from "./log_probability.ts";

/** The most likely tokens of a prediction that can be asked for. */
export const MOST_LIKELIEST = 20;

/** Words of a row of `likeliest()`. */
export const FOUND_WORDS = foundWords(MOST_LIKELIEST);

/** Stands in the place of a token beyond the vocabulary. */
const NO_TOKEN = 0xffffffff;

/**
 * A row of `likeliest()` as a prediction. Logits are exact, and the sum of probabilities is f32; logarithms and differences are float64.
 *
 * Its words are read when a property is, and have to be there then.
 */
export class FoundPrediction implements Prediction {
  readonly #words: Uint32Array;
  readonly #floats: Float32Array;
  readonly #options: PredictionOptions;

  /** @param words `[FOUND_WORDS]`. */
  constructor(words: Uint32Array, options: PredictionOptions) {
    this.#words = words;
    this.#floats = new Float32Array(words.buffer, words.byteOffset, words.length);
    this.#options = options;
  }

  get log_probability(): number | undefined {
    const total = this.#total;
    return this.#options.next === undefined ? undefined : this.#floats[1]! - total;
  }

  get likeliest(): readonly TokenLogProbability[] {
    const total = this.#total;
    const found: TokenLogProbability[] = [];
    for (let i = 0; i < this.#options.count; i++) {
      const token = this.#words[2 + 2 * i]!;
      if (token === NO_TOKEN) break;
      found.push({ token, log_probability: this.#floats[3 + 2 * i]! - total });
    }
    return found;
  }

  /** `ln Σ exp(logits)`. @throws {Error} If a logit is not finite. */
  get #total(): number {
    // A logit that is not finite is found before all others.
    const largest = this.#floats[3]!;
    if (!Number.isFinite(largest)) throw notFinite(this.#words[2]!, largest);
    return largest + Math.log(this.#floats[0]!);
  }
}
