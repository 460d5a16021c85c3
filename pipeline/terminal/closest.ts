/**
 * "Did you mean": the word that was probably meant.
 *
 * @module
 */

import { closestString, levenshteinDistance } from "@std/text";

/**
 * The candidate that is closest to `word`, if it is close: at most a third of its letters differ, or two neighbours are
 * swapped.
 *
 * @example
 * ```ts
 * import { nearest } from "./closest.ts";
 * console.assert(nearest("d_latnt", ["d_latent", "d_model"]) === "d_latent");
 * console.assert(nearest("banana", ["d_latent", "d_model"]) === undefined);
 * ```
 */
export function nearest(word: string, candidates: readonly string[]): string | undefined {
  if (candidates.length === 0 || word.length > 100) return undefined;
  const best = closestString(word, candidates);
  const distance = levenshteinDistance(word.toLowerCase(), best.toLowerCase());
  const length = Math.max(word.length, best.length);
  const limit = length <= 3 ? 1 : Math.max(2, Math.floor(length / 3));
  return distance <= limit && distance < word.length ? best : undefined;
}
