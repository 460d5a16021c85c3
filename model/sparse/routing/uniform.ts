/**
 * Random numbers that seed k-means and choose windows: a hash of a seed and an index, in unsigned 32-bit integers, without state.
 *
 * @module
 */

/** Spreads the bits of a word. */
function mix(value: number): number {
  let x = value >>> 0;
  x = Math.imul(x ^ (x >>> 16), 0x7feb352d);
  x = Math.imul(x ^ (x >>> 15), 0x846ca68b);
  return (x ^ (x >>> 16)) >>> 0;
}

/**
 * The `index`-th number of the stream of `seed`: a multiple of 2⁻³² in [0, 1).
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { uniform } from "./uniform.ts";
 *
 * assertEquals(uniform(0, 0) * 2 ** 32, 2926543089);
 * ```
 */
export function uniform(seed: number, index: number): number {
  return mix((mix(seed ^ 0x9e3779b9) + index) >>> 0) / 2 ** 32;
}

/** The seed of a site: each of the two sites of each block has its own. */
export function siteSeed(seed: number, block: number, site: 0 | 1): number {
  return (seed + 2 * block + site) >>> 0;
}

/**
 * Where windows of calibration begin in a text of so many tokens: `⌊u(seed, j) · (tokens − length)⌋`.
 *
 * @throws {RangeError} If no window fits.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { windowStarts } from "./uniform.ts";
 *
 * assertEquals(windowStarts(0, 2, { tokens: 1000, length: 100 }), [613, 564]);
 * ```
 */
export function windowStarts(
  seed: number,
  count: number,
  { tokens, length }: { tokens: number; length: number },
): number[] {
  if (length > tokens) {
    throw new RangeError(`No window of ${length} tokens fits in a text of ${tokens}`);
  }
  return Array.from({ length: count }, (_, j) => Math.floor(uniform(seed, j) * (tokens - length)));
}
