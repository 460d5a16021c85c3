/**
 * The results of a golden layer for the experts that an implementation kept, where halves decided a near tie otherwise: numbers
 * are then compared given the same choice, and the tokens that chose otherwise are counted.
 *
 * @module
 */

import type { GoldenResults, GoldenTensor, LayerCase } from "./golden.ts";
import { referenceLayer } from "./reference.ts";

/** Tokens that kept other experts than a file says, or kept them in another order, and what the file would hold for theirs. */
interface GivenChoice {
  /** Tokens whose kept experts are others, whatever their order. */
  readonly tokens: number;
  /** Results in float64 for the experts that were kept. The kept experts themselves are those of the file. */
  readonly expected: ReadonlyMap<string, GoldenTensor>;
}

/** Kept experts of a token in ascending order within each head. */
function sets(index: ArrayLike<number>, token: number, shape: readonly number[]): string {
  const [, heads, top_k] = shape as [number, number, number];
  return Array.from({ length: heads }, (_, head) => {
    const at = (token * heads + head) * top_k;
    return Array.from({ length: top_k }, (_, j) => index[at + j]!).sort((a, b) => a - b).join();
  }).join(";");
}

/** The results that a layer's are compared with; undefined where it kept the file's experts in the file's order. */
export function givenChoice(golden: LayerCase, results: GoldenResults): GivenChoice | undefined {
  const expected = golden.expected.get("out.index")!;
  const index = results.get("out.index");
  const { num_experts } = golden.ffn;
  // Numbers that are no choice of experts are a miss, not another choice.
  if (index?.length !== expected.data.length) return undefined;
  const all = Array.from(index);
  if (!all.every((e) => Number.isInteger(e) && e >= 0 && e < num_experts)) return undefined;
  if (all.every((e, i) => e === expected.data[i])) return undefined;
  const others = Array.from({ length: golden.tokens }, (_, token) => token).filter((token) =>
    sets(index, token, expected.shape) !== sets(expected.data, token, expected.shape)
  );
  const given = referenceLayer(golden, Int32Array.from(all));
  return {
    tokens: others.length,
    expected: new Map(Array.from(golden.expected, ([name, tensor]) => {
      const data = name === "out.index" ? undefined : given.get(name);
      return [name, data ? { ...tensor, data: Float64Array.from(data) } : tensor];
    })),
  };
}
