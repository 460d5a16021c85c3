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

/**
 * `ln Σ exp(logits)`, in float64.
 *
 * @throws {Error} If a logit is not finite.
 */
export function logSumExp(logits: ArrayLike<number>): number {
  let largest = -Infinity;
  for (let i = 0; i < logits.length; i++) {
    const logit = logits[i]!;
    if (!Number.isFinite(logit)) {
      throw new Error(`The logit of token ${i} is ${logit}; expected finite numbers`);
    }
    if (logit > largest) largest = logit;
  }
  let sum = 0;
  for (let i = 0; i < logits.length; i++) sum += Math.exp(logits[i]! - largest);
  return largest + Math.log(sum);
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
