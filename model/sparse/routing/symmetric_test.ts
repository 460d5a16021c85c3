import fc from "fast-check";
import { assert, assertEquals } from "@std/assert";
import { noise } from "../../ops/testing.ts";
import { matmul, matrix, transpose } from "../../reference/matrix.ts";
import { jacobiEigen } from "../../reference/sparse/pca.ts";
import { fixSigns, orthonormalizer, symmetricEigen } from "./symmetric.ts";

/** Largest difference from the identity. */
function fromIdentity(values: ArrayLike<number>, n: number): number {
  return Array.from(values)
    .reduce((most, v, i) => Math.max(most, Math.abs(v - (i % (n + 1) === 0 ? 1 : 0))), 0);
}

Deno.test("symmetricEigen() finds orthonormal eigenvectors, and the values that rotations find", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 1, max: 999 }), (n, seed) => {
      const half = noise(n * n, seed);
      const a = matrix(n, n, half.map((v, i) => v + half[(i % n) * n + Math.floor(i / n)]!));
      const { values, vectors } = symmetricEigen(a.data, n);
      const v = matrix(n, n, vectors);
      assert(fromIdentity(matmul(transpose(v), v).data, n) < 1e-12);
      const av = matmul(a, v).data;
      av.forEach((x, i) => assert(Math.abs(x - vectors[i]! * values[i % n]!) < 1e-12));
      values.forEach((value, i) => assert(i === 0 || value <= values[i - 1]!));
      const expected = jacobiEigen(a).values;
      values.forEach((value, i) => assert(Math.abs(value - expected[i]!) < 1e-12));
    }),
    { numRuns: 40 },
  );
});

Deno.test("fixSigns() makes the first of the largest entries positive", () => {
  const vectors = Float64Array.of(1, 2, -3, -1, -2, 3, 0, 2, 1);
  fixSigns(vectors, 3);
  assertEquals([...vectors], [1, 2, 3, -1, -2, -3, 0, 2, -1]);
});

Deno.test("orthonormalizer() makes columns orthonormal, again where they are all but dependent", () => {
  for (const close of [1, 1e-2, 1e-5, 0]) {
    const [rows, n] = [30, 6];
    let y = matrix(rows, n, noise(rows * n, 4));
    // All columns are the first, nearly, and of other lengths.
    y.data.forEach((v, i) => y.data[i] = (y.data[i - i % n]! + close * v) * 10 ** (i % n));
    for (let pass = 0; pass < 6; pass++) {
      // As a GPU would hand it over.
      const product = Float32Array.from(matmul(transpose(y), y).data);
      y = matmul(y, matrix(n, n, orthonormalizer(product, n)));
      assert(y.data.every(Number.isFinite));
    }
    const error = fromIdentity(matmul(transpose(y), y).data, n);
    assert(close === 0 || error < 1e-5, `${close}: ${error}`);
  }
});
