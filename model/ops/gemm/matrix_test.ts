/** Matrices inside tensors, and their transposes. */

import { assertEquals, assertThrows } from "@std/assert";
import { Plan } from "../../gpu/plan.ts";
import { Tensor } from "../../gpu/tensor.ts";
import { openTestGpu } from "../../gpu/testing.ts";
import { matrix, transpose } from "./matrix.ts";
import { Inputs, noise, runOnce } from "../testing.ts";

Deno.test("transpose() transposes a matrix inside a tensor, and pads its rows with zeros", async () => {
  const gpu = await openTestGpu();
  // Rows and columns that fill tiles and those that do not; halves that begin at whole eights and those that do not.
  for (
    const [dtype, rows, columns, stride, start] of [
      ["f32", 64, 32, 32, 0],
      ["f32", 131, 45, 52, 8],
      ["f16", 131, 45, 52, 8],
      ["f16", 131, 45, 56, 4],
      ["f16", 131, 45, 56, 8],
      ["f16", 128, 32, 32, 0],
      ["f16", 3, 261, 264, 0],
      ["f16", 257, 5, 8, 16],
    ] as const
  ) {
    using inputs = new Inputs(gpu);
    const count = start + rows * stride;
    const values = Float32Array.from(new Float16Array(noise(count, rows)));
    const x = inputs.tensor("x", [count / 4, 4], { values, dtype });
    let name = "";
    const { y } = await runOnce(gpu, (plan) => {
      const transposed = transpose(plan, "transposed", matrix(x, { rows, columns, stride, start }));
      const [step] = plan.steps;
      if (step?.kind === "dispatch") name = step.call.name;
      return { y: transposed.tensor };
    });
    const eights = dtype === "f16" && stride % 8 === 0 && start % 8 === 0;
    assertEquals(name, eights ? "transpose_halves" : "transpose");
    const width = 8 * Math.ceil(rows / 8);
    const expected = Float32Array.from({ length: columns * width }, (_, i) => {
      const [column, row] = [Math.floor(i / width), i % width];
      return row < rows ? values[start + row * stride + column]! : 0;
    });
    assertEquals(y, expected, `${dtype} ${rows}×${columns} of ${stride} from ${start}`);
  }
});

Deno.test("matrix() refuses what is no matrix inside its tensor", async () => {
  const x = new Tensor("x", [4, 8]);
  assertThrows(() => matrix(x, { stride: 6 }), RangeError, "stride 6 and start 0");
  assertThrows(() => matrix(x, { rows: 5 }), RangeError, "exceeds x of 32");
  const transposed = transpose(new Plan(await openTestGpu(), "test"), "transposed", matrix(x));
  assertEquals([transposed.rows, transposed.columns, transposed.stride], [8, 4, 8]);
});
