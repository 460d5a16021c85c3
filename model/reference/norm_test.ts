import { assertAlmostEquals } from "@std/assert";
import { matrix } from "./matrix.ts";
import { layerNormForward, rmsNormForward } from "./norm.ts";

function assertRow(actual: Float64Array, expected: number[]): void {
  expected.forEach((v, i) => assertAlmostEquals(actual[i]!, v, 1e-12));
}

Deno.test("layerNormForward() takes out the mean and the biased deviation of each row", () => {
  // Mean 2.5 and variance 1.25; 10 and 0.
  const x = matrix(2, 4, Float64Array.of(1, 2, 3, 4, 10, 10, 10, 10));
  const weights = { weight: Float64Array.of(1, 2, 1, 1), bias: Float64Array.of(0, 0, 5, 0) };
  const { y } = layerNormForward(x, weights, { epsilon: 1 });
  assertRow(y.data, [-1, -2 / 3, 5 + 1 / 3, 1, 0, 0, 5, 0]);
  const { y: usual } = layerNormForward(x, weights);
  assertRow(usual.data.subarray(3, 4), [1.5 / Math.sqrt(1.25001)]);
});

Deno.test("rmsNormForward() takes another epsilon", () => {
  const x = matrix(1, 2, Float64Array.of(1, 3));
  assertRow(rmsNormForward(x, Float64Array.of(2, 1), { epsilon: 4 }).y.data, [2 / 3, 1]);
});
