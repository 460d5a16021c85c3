import { assert, assertEquals, assertRejects } from "@std/assert";
import { openTestGpu } from "../../gpu/testing.ts";
import { assertNear, noise } from "../../ops/testing.ts";
import { matmul, matrix, transpose } from "../../reference/matrix.ts";
import { fitPca as reference } from "../../reference/sparse/pca.ts";
import { fitPca } from "./pca.ts";
import { Tensors, uploadRows } from "../rows.ts";
import { symmetricEigen } from "./symmetric.ts";
import { topEigen } from "./top_eigen.ts";

/** Rows whose directions have variances that fall by a factor each, around a mean that is as large as they are. */
function example(rows: number, width: number, fall: number) {
  const mix = noise(width * width, 8);
  const x = matmul(
    matrix(
      rows,
      width,
      noise(rows * width, 9).map((v, i) => v * fall ** (i % width)),
    ),
    matrix(width, width, mix),
  ).data;
  return Float64Array.from(x, (v, i) => Math.fround(v + 3 * Math.sin(i % width)));
}

Deno.test("fitPca() agrees with float64, on the host and on the GPU, in chunks or not", async () => {
  const gpu = await openTestGpu();
  for (
    const [count, width, kept, most] of [
      [5, 1, 1, undefined],
      [90, 13, 3, 64],
      [150, 13, 12, 64],
      [200, 90, 5, undefined],
    ] as const
  ) {
    for (const hostWidth of [512, 0]) {
      using tensors = new Tensors(gpu);
      const values = example(count, width, 0.9);
      const rows = uploadRows(tensors, values, { width, gpu, ...(most && { most }) });
      assertEquals(rows.chunks.length, most ? Math.ceil(count / most) : 1);
      const found = await fitPca(gpu, rows, { count: kept, hostWidth });
      const expected = reference(matrix(count, width, values), kept);
      const what = `of ${count}×${width}, ${hostWidth}`;
      assertNear(found.mean, expected.mean, { tolerance: 1e-6, what: `mean ${what}` });
      assertNear(found.variance, expected.variance, { tolerance: 3e-6, what: `variance ${what}` });
      assertNear(found.components, expected.components.data, {
        tolerance: 1e-3,
        what: `components ${what}`,
      });
    }
  }
});

/** A positive definite matrix with these eigenvalues, in random directions. */
function withEigenvalues(n: number, value: (index: number) => number) {
  const { vectors } = symmetricEigen(noise(n * n, 6), n);
  const scaled = vectors.map((v, i) => v * Math.sqrt(value(i % n)));
  return matmul(matrix(n, n, scaled), transpose(matrix(n, n, scaled)));
}

const spectra: [string, (index: number) => number][] = [
  ["that fall slowly", (i) => (2 - i / 150) ** 2],
  ["that fall like 1/i", (i) => 1 / (i + 1)],
  ["that fall fast", (i) => Math.exp(-i)],
  ["of which one is far above the others", (i) => i === 0 ? 1 : 1e-3 * (1 - i / 300)],
  ["of which two are equal and above the others", (i) => i < 2 ? 1 : 0.01 / (1 + i / 50)],
];

for (const [what, value] of spectra) {
  Deno.test(`topEigen() finds the largest of eigenvalues ${what}`, async () => {
    const gpu = await openTestGpu();
    const [n, wanted] = [150, 7];
    using tensors = new Tensors(gpu);
    const c = withEigenvalues(n, value);
    const found = await topEigen(gpu, tensors.matrix("c", c.data, n), wanted);
    assert(found.residual <= 1e-6);
    assert(found.products < 60, `${found.products} products`);
    const v = matrix(n, wanted, found.vectors);
    const cv = matmul(c, v).data;
    for (let j = 0; j < wanted; j++) {
      assert(Math.abs(found.values[j]! - value(j)) < 3e-6 * value(0), `${j}: ${found.values[j]}`);
      let squares = 0;
      for (let i = j; i < cv.length; i += wanted) {
        squares += (cv[i]! - found.values[j]! * v.data[i]!) ** 2;
      }
      // The residual as the GPU took it, and the rounding to f32.
      assert(Math.sqrt(squares) < 2e-6 * found.values[0]!, `${j}: ${Math.sqrt(squares)}`);
    }
    const again = await topEigen(gpu, tensors.matrix("c", c.data, n), wanted);
    assertEquals(again.vectors, found.vectors);
  });
}

Deno.test("fitPca() refuses rows that say nothing", async () => {
  const gpu = await openTestGpu();
  using tensors = new Tensors(gpu);
  const one = uploadRows(tensors, [1, 2, 3], { width: 3, gpu });
  await assertRejects(() => fitPca(gpu, one, { count: 1 }), RangeError, "PCA of 1 rows");
  const same = uploadRows(tensors, new Float64Array(60).fill(2), { width: 3, gpu });
  await assertRejects(() => fitPca(gpu, same, { count: 1, hostWidth: 0 }), RangeError, "differ");
  for (const wrong of [NaN, Infinity]) {
    const rows = uploadRows(tensors, [1, 2, 3, wrong, 5, 6], { width: 3, gpu });
    await assertRejects(() => fitPca(gpu, rows, { count: 1 }), RangeError, "is not finite");
  }
});
