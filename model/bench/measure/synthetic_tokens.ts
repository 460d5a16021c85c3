/**
 * Tokens for benchmarks: no text, but as unevenly distributed as one. And normal numbers for the inputs of a layer.
 *
 * @module
 */

import { uniformFloat64 } from "pure-rand/distribution/uniformFloat64";
import { mersenne } from "pure-rand/generator/mersenne";
import type { TokenBatch } from "../../training/sampler.ts";

/**
 * Draws micro-batches of tokens that follow Zipf's law (the `r`-th token is `1/r` times as frequent as the first), the same ones for the
 * same seed.
 *
 * @example
 * ```ts
 * import { zipfBatches } from "./synthetic_tokens.ts";
 * const [batch] = zipfBatches({ vocabulary: 100, tokens: 8, count: 1, seed: 1 });
 * console.assert(batch!.tokens.length === 8 && batch!.targets[0] === batch!.tokens[1]);
 * ```
 */
export function zipfBatches(
  options: { vocabulary: number; tokens: number; count: number; seed: number },
): TokenBatch[] {
  const { vocabulary, tokens, count, seed } = options;
  const cumulative = new Float64Array(vocabulary);
  let sum = 0;
  for (let rank = 0; rank < vocabulary; rank++) cumulative[rank] = sum += 1 / (rank + 1);
  const random = mersenne(seed);
  const draw = () => {
    const wanted = uniformFloat64(random) * sum;
    let [low, high] = [0, vocabulary - 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (cumulative[middle]! > wanted) high = middle;
      else low = middle + 1;
    }
    return low;
  };
  return Array.from({ length: count }, () => {
    const row = Uint32Array.from({ length: tokens + 1 }, draw);
    return { tokens: row.slice(0, tokens), targets: row.slice(1) };
  });
}

/** Draws lists of numbers from a standard normal distribution, the same ones for the same seed and calls (Box and Muller, 1958). */
export function normalNumbers(seed: number): (count: number) => Float32Array<ArrayBuffer> {
  const random = mersenne(seed);
  return (count) =>
    Float32Array.from({ length: count }, () => {
      // Above 0, of which there is no logarithm.
      const radius = Math.sqrt(-2 * Math.log(1 - uniformFloat64(random)));
      return radius * Math.cos(2 * Math.PI * uniformFloat64(random));
    });
}
