/**
 * Logarithms of probabilities from logits, in float64.
 *
 * @module
 */

/** A token with the logarithm of its probability. */
export interface TokenLogProbability {
  readonly token: number;
  /** Natural logarithm of the probability, at most 0. */
  readonly log_probability: number;
}

/** A model's expectation after a token. The properties throw if a logit is not finite. */
export interface Prediction {
  /** Natural logarithm of the probability of the token that follows; undefined where none was named. */
  readonly log_probability: number | undefined;
  /** As many as were asked for, most likely first; of equals the lower number comes first. */
  readonly likeliest: readonly TokenLogProbability[];
}

/** The questions to a prediction. */
export interface PredictionOptions {
  /** The token that follows. */
  readonly next?: number | undefined;
  /** Likeliest tokens, from 1. */
  readonly count: number;
}

/**
 * The prediction that logits `[V]` are, in float64.
 *
 * @throws {Error} If a logit is not finite.
 */
export function predictionOf(
  logits: ArrayLike<number>,
  { next, count }: PredictionOptions,
): Prediction {
  const total = logSumExp(logits);
  return {
    log_probability: next === undefined ? undefined : logits[next]! - total,
    likeliest: mostLikelyTokens(logits, { count, total }),
  };
}

/**
 * `ln Σ exp(logits)`, in float64.
 *
 * @throws {Error} If a logit is not finite.
 */
export function logSumExp(logits: ArrayLike<number>): number {
  let largest = -Infinity;
  for (let i = 0; i < logits.length; i++) {
    const logit = logits[i]!;
    if (!Number.isFinite(logit)) throw notFinite(i, logit);
    if (logit > largest) largest = logit;
  }
  let sum = 0;
  for (let i = 0; i < logits.length; i++) sum += Math.exp(logits[i]! - largest);
  return largest + Math.log(sum);
}

/** A logit is not finite, so no token can be chosen. */
export class NotFiniteError extends Error {
  /** Name of the class. */
  override readonly name = "NotFiniteError";
}

/** The error of a logit that is not finite. */
export function notFinite(token: number, logit: number): NotFiniteError {
  return new NotFiniteError(`The logit of token ${token} is ${logit}; expected finite numbers`);
}

/** Number of the largest logit, the first of equals. */
export function mostLikely(logits: ArrayLike<number>): number {
  let best = 0;
  for (let i = 1; i < logits.length; i++) if (logits[i]! > logits[best]!) best = i;
  return best;
}

/**
 * The `count` most likely tokens, most likely first; of equals the lower number comes first.
 *
 * @param options `total` is {@linkcode logSumExp} of the logits.
 */
export function mostLikelyTokens(
  logits: ArrayLike<number>,
  { count, total }: { readonly count: number; readonly total: number },
): TokenLogProbability[] {
  const best: number[] = [];
  for (let token = 0; token < logits.length; token++) {
    const logit = logits[token]!;
    if (best.length === count && !(logit > logits[best.at(-1)!]!)) continue;
    let at = best.length;
    while (at > 0 && logit > logits[best[at - 1]!]!) at--;
    best.splice(at, 0, token);
    if (best.length > count) best.pop();
  }
  return best.map((token) => ({ token, log_probability: logits[token]! - total }));
}
