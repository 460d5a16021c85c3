/**
 * From logits to a token: repetition penalty, temperature, top-k, top-p, min-p, and a seeded draw.
 *
 * @module
 */

import { uniformFloat64 } from "pure-rand/distribution/uniformFloat64";
import { mersenne } from "pure-rand/generator/mersenne";
import { z } from "zod";
import { notFinite } from "./log_probability.ts";

/** Schema of how the next token is chosen. The defaults draw from the model's distribution as it is. */
export const samplingSchema = z.strictObject({
  temperature: z.number().min(0).max(100).default(1)
    .describe("divides the logits; 0 takes the most likely token"),
  top_k: z.int().min(0).max(2 ** 24).default(0)
    .describe("draws from the k most likely tokens only; 0 from all"),
  top_p: z.number().gt(0).max(1).default(1)
    .describe("draws from the fewest tokens whose probabilities come to p"),
  min_p: z.number().min(0).max(1).default(0)
    .describe("draws from tokens at least p times as likely as the most likely one"),
  repetition_penalty: z.number().gt(0).max(100).default(1)
    .describe("divides positive and multiplies negative logits of tokens that were there"),
});

/** How the next token is chosen. */
export type SamplingOptions = z.infer<typeof samplingSchema>;

/**
 * Chooses tokens. The same seed, options and logits give the same tokens.
 *
 * @example
 * ```ts
 * import { Sampling } from "./sampling.ts";
 * const greedy = new Sampling({ temperature: 0 }, 1);
 * console.assert(greedy.choose(Float32Array.of(0.5, 2, 1)) === 1);
 * ```
 */
export class Sampling {
  /** Complete, with the defaults. */
  readonly options: SamplingOptions;
  readonly #random: ReturnType<typeof mersenne>;
  readonly #seen = new Set<number>();

  /**
   * @param options Each that is left out has the schema's default.
   * @param seed A whole number of 32 bits.
   * @throws {z.ZodError} If an option is out of its range.
   */
  constructor(options: Partial<SamplingOptions>, seed: number) {
    this.options = samplingSchema.parse(options);
    // Of the generators at hand the one whose first draws for small seeds are not alike.
    this.#random = mersenne(seed);
  }

  /** Whether the first choice is the model's most likely token, whatever was there: no other logit matters. */
  get greedy(): boolean {
    return this.options.temperature === 0 && this.options.repetition_penalty === 1;
  }

  /** The tokens that are there already. */
  get seen(): ReadonlySet<number> {
    return this.#seen;
  }

  /** The random numbers of the next `count` choices, which are made elsewhere; 0 where choices are not drawn. */
  draws(count: number): number[] {
    const drawn = this.options.temperature > 0;
    return Array.from({ length: count }, () => drawn ? uniformFloat64(this.#random) : 0);
  }

  /** Tells what is there already, for the repetition penalty. */
  note(tokens: Iterable<number>): void {
    for (const token of tokens) this.#seen.add(token);
  }

  /**
   * Chooses the next token, and notes it.
   *
   * @param logits `[V]`; not changed.
   * @throws {NotFiniteError} If a logit is not finite.
   */
  choose(logits: Float32Array): number {
    const broken = logits.findIndex((logit) => !Number.isFinite(logit));
    if (broken >= 0) throw notFinite(broken, logits[broken]!);
    const { temperature } = this.options;
    const penalised = this.#penalise(logits);
    const token = temperature === 0
      ? highest(penalised)
      : drawToken(penalised, this.options, uniformFloat64(this.#random));
    this.#seen.add(token);
    return token;
  }

  #penalise(logits: Float32Array): Float32Array {
    const { repetition_penalty: penalty } = this.options;
    if (penalty === 1) return logits;
    const penalised = logits.slice();
    for (const token of this.#seen) {
      const logit = penalised[token];
      if (logit !== undefined) penalised[token] = logit > 0 ? logit / penalty : logit * penalty;
    }
    return penalised;
  }
}

/**
 * The token that a random number draws.
 *
 * @param logits `[V]`, finite.
 * @param options The temperature is above 0; the repetition penalty is not looked at.
 * @param draw From 0 to below 1.
 */
export function drawToken(logits: Float32Array, options: SamplingOptions, draw: number): number {
  const candidates = candidatesOf(logits, options);
  const total = candidates.reduce((sum, { weight }) => sum + weight, 0);
  let rest = draw * total;
  for (const { token, weight } of candidates) {
    rest -= weight;
    if (rest < 0) return token;
  }
  // Rounding may leave a crumb.
  return candidates.at(-1)!.token;
}

/** A token that may be drawn. */
interface Candidate {
  readonly token: number;
  /** Probability relative to the most likely token's. */
  readonly weight: number;
}

/** The tokens that top-k, min-p and top-p leave: where top-p leaves some out most likely first, of equals the lower number, otherwise by number. */
function candidatesOf(logits: Float32Array, options: SamplingOptions): Candidate[] {
  const { temperature, top_k, top_p, min_p } = options;
  const largest = logits[highest(logits)]!;
  const weigh = (logit: number) => Math.exp((logit - largest) / temperature);
  // A native sort of the numbers alone is much faster than one of the candidates.
  const threshold = top_k > 0 && top_k < logits.length
    ? logits.toSorted()[logits.length - top_k]!
    : -Infinity;
  let candidates: Candidate[] = [];
  for (const [token, logit] of logits.entries()) {
    if (logit >= threshold) candidates.push({ token, weight: weigh(logit) });
  }
  if (candidates.length > top_k && threshold > -Infinity) {
    // Some are as likely as the k-th.
    candidates = candidates.sort(byWeight).slice(0, top_k).sort((a, b) => a.token - b.token);
  }
  // Weights are relative to the most likely token's.
  if (min_p > 0) candidates = candidates.filter(({ weight }) => weight >= min_p);
  if (top_p === 1) return candidates;
  const total = candidates.reduce((sum, { weight }) => sum + weight, 0);
  // All tokens below this weight come to less than 1 − p together, so p is reached before any of them.
  const least = (1 - top_p) * total / candidates.length;
  const sorted = candidates.filter(({ weight }) => weight >= least).sort(byWeight);
  let sum = 0;
  const count = sorted.findIndex(({ weight }) => (sum += weight) >= top_p * total) + 1;
  return count === 0 ? sorted : sorted.slice(0, count);
}

function byWeight(a: Candidate, b: Candidate): number {
  return b.weight - a.weight || a.token - b.token;
}

/** Number of the largest, the first of equals. */
function highest(values: Float32Array): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (values[i]! > values[best]!) best = i;
  return best;
}
