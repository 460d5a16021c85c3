import { assertEquals, assertThrows } from "@std/assert";
import { Plan } from "../../gpu/plan.ts";
import { openTestGpu } from "../../gpu/testing.ts";
import { assertNear, Inputs, noise, runOnce } from "../testing.ts";
import { columnSums } from "./column_sums.ts";

Deno.test("columnSums() adds rows of any count, and to what is there", async () => {
  for (const software of [true, false]) {
    const gpu = await openTestGpu({ software });
    for (const dtype of ["f32", "f16"] as const) {
      for (const [rows, columns] of [[1, 4], [29, 20], [2100, 12]] as const) {
        using inputs = new Inputs(gpu);
        const values = noise(rows * columns, 1).map((v) => Math.round(v * 64) / 64);
        const x = inputs.tensor("x", [rows, columns], { values, dtype });
        const before = noise(columns, 2);
        const sums = inputs.tensor("sums", [columns], { values: before.map(() => 7) });
        const more = inputs.tensor("more", [columns], { values: before });
        const out = await runOnce(gpu, (plan) => {
          columnSums(plan, "sums", { x, y: { tensor: sums, epilogue: "none" } });
          columnSums(plan, "more", { x, y: { tensor: more, epilogue: "accumulate" } });
          return { sums, more };
        });
        const expected = new Float64Array(columns);
        values.forEach((v, i) => expected[i % columns]! += v);
        const what = `sums of ${rows}×${columns} ${dtype}`;
        assertNear(out.sums, expected, { tolerance: 1e-6, what });
        assertNear(out.more, expected.map((v, i) => v + before[i]!), { tolerance: 1e-6, what });
      }
    }
  }
});

Deno.test("columnSums() holds columns at zero, and leaves there what was", async () => {
  const gpu = await openTestGpu();
  using inputs = new Inputs(gpu);
  const x = inputs.tensor("x", [9, 24], { values: new Float64Array(9 * 24).fill(1) });
  const values = Float64Array.from({ length: 24 }, (_, i) => i);
  const sums = inputs.tensor("sums", [24], { values });
  const more = inputs.tensor("more", [24], { values });
  // Two steps of six columns, of which two are free, from the fifth on.
  const held = { first: 4, end: 16, step: 6, free: 2 };
  const out = await runOnce(gpu, (plan) => {
    columnSums(plan, "sums", { x, y: { tensor: sums, epilogue: "none" }, held });
    columnSums(plan, "more", { x, y: { tensor: more, epilogue: "accumulate" }, held });
    return { sums, more };
  });
  const zero = new Set([6, 7, 8, 9, 12, 13, 14, 15]);
  const expected = Array.from({ length: 24 }, (_, i) => zero.has(i) ? 0 : 9);
  assertEquals([...out.sums], expected);
  assertEquals([...out.more], expected.map((v, i) => v + i));
});

Deno.test("columnSums() refuses sums of another width", async () => {
  const gpu = await openTestGpu();
  using inputs = new Inputs(gpu);
  const x = inputs.tensor("x", [4, 8]);
  const tensor = inputs.tensor("sums", [4]);
  assertThrows(
    () => columnSums(new Plan(gpu, "test"), "sums", { x, y: { tensor, epilogue: "none" } }),
    RangeError,
    "x is 8 wide, sums has 4 elements",
  );
});
