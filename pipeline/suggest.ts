/**
 * Suggestions for mistyped names.
 *
 * @module
 */

import { closestString, levenshteinDistance } from "@std/text";

/**
 * ` Did you mean …?` when a known word is close to what was given, otherwise nothing.
 *
 * ```ts
 * import { suggestion } from "./suggest.ts";
 * console.assert(suggestion("trian", ["train", "report"]) === " Did you mean `train`?");
 * console.assert(suggestion("bread", ["train", "report"]) === "");
 * ```
 */
export function suggestion(given: string, known: readonly string[]): string {
  if (known.length === 0) return "";
  const closest = closestString(given, known);
  const limit = Math.max(2, Math.ceil(given.length / 3));
  const distance = levenshteinDistance(given.toLowerCase(), closest.toLowerCase());
  return distance <= Math.min(limit, Math.max(1, closest.length - 1))
    ? ` Did you mean \`${closest}\`?`
    : "";
}
