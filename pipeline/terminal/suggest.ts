/**
 * Suggestions for mistyped names.
 *
 * @module
 */

import { nearest } from "./closest.ts";

/**
 * ` Did you mean …?` when a known word is close to the given one, otherwise empty.
 *
 * ```ts
 * import { suggestion } from "./suggest.ts";
 * console.assert(suggestion("trian", ["train", "report"]) === " Did you mean `train`?");
 * console.assert(suggestion("bread", ["train", "report"]) === "");
 * ```
 */
export function suggestion(given: string, known: readonly string[]): string {
  const closest = nearest(given, known);
  return closest === undefined ? "" : ` Did you mean \`${closest}\`?`;
}
