/**
 * The numbers that seed k-means: a hash of a seed and an index, without state.
 *
 * @module
 */

const WORD = 2n ** 32n - 1n;

/** Spreads the bits of a number below 2³². */
function mix(value: bigint): bigint {
  let x = value;
  x ^= x >> 16n;
  x = x * 0x7feb352dn & WORD;
  x ^= x >> 15n;
  x = x * 0x846ca68bn & WORD;
  return x ^ (x >> 16n);
}

/** The `index`-th number of the stream of `seed`, a multiple of 2⁻³² in [0, 1). */
export function uniform(seed: number, index: number): number {
  const start = mix((BigInt(seed) ^ 0x9e3779b9n) & WORD);
  return Number(mix((start + BigInt(index)) & WORD)) / 2 ** 32;
}
