/**
 * How far a given choice of experts lies behind the one that a router's own scores make: what a near tie that rounding decides otherwise costs.
 *
 * @module
 */

/** The experts that a row of scores is cut into: those that a rule keeps, and those that were given. */
export interface Cut {
  /** Scores of the best experts, best first; at least as many as are kept or given. */
  readonly best: ArrayLike<number>;
  /** Scores of the given experts, in any order. */
  readonly given: ArrayLike<number>;
}

/** How far the lowest given score is below the lowest of equally many best ones, 0 or more. */
export function scoreLag({ best, given }: Cut): number {
  return Math.max(0, best[given.length - 1]! - Math.min(...Array.from(given)));
}

/**
 * How far a number of experts is from the number that `sum >= mass` gives.
 *
 * @param probabilities Of the experts, best first.
 * @param options `given` experts, where the rule keeps `kept`.
 */
export function massLag(
  probabilities: ArrayLike<number>,
  { given, kept, mass }: { readonly given: number; readonly kept: number; readonly mass: number },
): number {
  if (given === kept) return 0;
  // One more was kept because the sum before it seemed too small, or none because it seemed enough.
  const count = given > kept ? given - 1 : given;
  let sum = 0;
  for (let j = 0; j < count; j++) sum += probabilities[j]!;
  return Math.abs(sum - mass);
}

/** How far a number of experts is from the number whose probabilities reach a threshold. Parameters as of {@linkcode massLag}. */
export function thresholdLag(
  probabilities: ArrayLike<number>,
  { given, kept, threshold }: {
    readonly given: number;
    readonly kept: number;
    readonly threshold: number;
  },
): number {
  if (given === kept) return 0;
  return Math.abs(probabilities[given > kept ? given - 1 : given]! - threshold);
}
