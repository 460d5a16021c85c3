import { assert, assertEquals, assertThrows } from "@std/assert";
import { Plan } from "../../gpu/plan.ts";
import { openTestGpu } from "../../gpu/testing.ts";
import { hessian, inverseFactor } from "../../reference/sparse/sparsegpt.ts";
import { matrix } from "../../reference/matrix.ts";
import { assertNear, Inputs, noise, runOnce } from "../testing.ts";
import { inverseCholesky } from "./cholesky.ts";

/** A matrix with its rows padded to fours. */
function padded(values: Float64Array, columns: number): Float64Array {
  const stride = Math.ceil(columns / 4) * 4;
  const rows = values.length / columns;
  return Float64Array.from({ length: rows * stride }, (_, i) => {
    const [r, c] = [Math.floor(i / stride), i % stride];
    return c < columns ? values[r * columns + c]! : 0;
  });
}

Deno.test("inverseCholesky() factors the inverse of matrices of any size", async () => {
  for (const software of [true, false]) {
    const gpu = await openTestGpu({ software });
    for (const n of software ? [1, 5, 31, 32, 33, 64, 97, 130] : [33, 97]) {
      using inputs = new Inputs(gpu);
      const h = hessian(matrix(2 * n + 3, n, noise((2 * n + 3) * n, n)));
      for (let i = 0; i < n; i++) h.data[i * n + i]! += 0.05;
      const expected = padded(inverseFactor(h, 0).u.data, n);
      const shape = [n, Math.ceil(n / 4) * 4];
      const u = inputs.tensor("u", shape, { values: expected.map(() => NaN) });
      const failed = inputs.tensor("failed", [4], { values: [0, 0, 0, 0], dtype: "u32" });
      const values = padded(h.data, n);
      const out = await runOnce(gpu, (plan) => {
        inverseCholesky(plan, "factor", { h: inputs.tensor("h", shape, { values }), u, failed });
        return { u, failed };
      });
      assertNear(out.u, expected, { tolerance: 2e-5, what: `factor of ${n}×${n}` });
      assert(out.u.every((v, i) => i % shape[1]! >= Math.floor(i / shape[1]!) || v === 0));
      assertEquals(out.failed[0], 0);
    }
  }
});

Deno.test("inverseCholesky() says that a matrix is not positive definite", async () => {
  const gpu = await openTestGpu();
  for (const [n, at] of [[5, 0], [70, 69], [70, 3]] as const) {
    using inputs = new Inputs(gpu);
    const values = new Float64Array(n * Math.ceil(n / 4) * 4);
    for (let i = 0; i < n; i++) values[i * Math.ceil(n / 4) * 4 + i] = i === at ? -1 : 1;
    const shape = [n, Math.ceil(n / 4) * 4];
    const failed = inputs.tensor("failed", [4], { values: [0, 0, 0, 0], dtype: "u32" });
    const out = await runOnce(gpu, (plan) => {
      const h = inputs.tensor("h", shape, { values });
      inverseCholesky(plan, "factor", { h, u: inputs.tensor("u", shape), failed });
      return { failed };
    });
    assertEquals(out.failed[0], 1);
  }
});

Deno.test("inverseCholesky() refuses matrices that are not square", async () => {
  const gpu = await openTestGpu();
  using inputs = new Inputs(gpu);
  const failed = inputs.tensor("failed", [4], { dtype: "u32" });
  const record = (h: number[], u: number[]) => () =>
    inverseCholesky(new Plan(gpu, "test"), "factor", {
      h: inputs.tensor("h", h),
      u: inputs.tensor("u", u),
      failed,
    });
  assertThrows(record([5, 8], [5, 4]), RangeError, "h is 5×8 and u 5×4");
  assertThrows(record([5, 12], [5, 12]), RangeError, "h is 5×12");
});
