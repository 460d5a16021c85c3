import { assertEquals, assertThrows } from "@std/assert";
import { Plan } from "../../gpu/plan.ts";
import { Tensor } from "../../gpu/tensor.ts";
import { openTestGpu } from "../../gpu/testing.ts";
import { cast, castInto } from "./cast.ts";
import { Inputs, noise, runOnce } from "../testing.ts";

Deno.test("cast() rounds to the nearest half and back, native and packed", async () => {
  const kinds = [{}, { f16: false }, { software: false }, { software: false, f16: false }];
  for (const [i, kind] of kinds.entries()) {
    const gpu = await openTestGpu(kind);
    using inputs = new Inputs(gpu);
    // More than a workgroup of a real GPU converts, and no multiple of it.
    const rows = i < 2 ? 23 : 323;
    const values = Float32Array.from(
      [0, -0, 1, 65504, 2 ** -14, 1 / 3, ...noise(11 * rows - 7, 1), -2.5],
    );
    const x = inputs.tensor("x", [rows, 11], { values });
    const out = await runOnce(gpu, (plan) => {
      const half = cast(plan, "half", x, "f16");
      return { half, whole: cast(plan, "whole", half, "f32") };
    });
    const rounded = Float32Array.from(new Float16Array(values));
    // Packing may round towards zero: one unit in the last place.
    const near = (actual: Float32Array) =>
      actual.every((v, i) => Math.abs(v - rounded[i]!) <= Math.abs(rounded[i]!) * 2 ** -10);
    assertEquals([near(out.half), near(out.whole)], [true, true], JSON.stringify(kind));
    assertEquals(out.whole, out.half);
  }
});

Deno.test("cast() gives back a tensor that has the type, and refuses another size", async () => {
  const plan = new Plan(await openTestGpu(), "test");
  const x = new Tensor("x", [4]);
  assertEquals(cast(plan, "same", x, "f32"), x);
  assertEquals(plan.steps.length, 0);
  assertThrows(
    () => castInto(plan, "c", { from: x, to: new Tensor("y", [8], { dtype: "f16" }) }),
    RangeError,
    "c: x has 4 elements, y 8",
  );
});
