import { assertEquals, assertThrows } from "@std/assert";
import { openTestGpu } from "../../gpu/testing.ts";
import { Plan } from "../../gpu/plan.ts";
import type { DType } from "../../gpu/tensor.ts";
import { matrix } from "../../reference/matrix.ts";
import * as reference from "../../reference/positions.ts";
import { addPositions, positionsBackward } from "./positions.ts";
import { assertNear, Inputs, noise, runOnce } from "../testing.ts";

const POSITIONS = 11;

const SHAPES = [
  { rows: 1, length: 1, width: 4 },
  { rows: 3, length: 3, width: 132 },
  { rows: 21, length: 7, width: 20 },
  { rows: 22, length: POSITIONS, width: 12 },
];

Deno.test("addPositions() adds each token's row, from any start of each sequence", async () => {
  const gpu = await openTestGpu();
  for (const { rows, length, width } of SHAPES) {
    // f16 tables are what mixed precision reads.
    for (const dtype of ["f32", "f16"] as const satisfies DType[]) {
      const sequences = Math.ceil(rows / length);
      const last = POSITIONS - length;
      for (
        const starts of [
          undefined,
          Array.from({ length: sequences }, (_, i) => i % 2 ? 0 : last),
        ]
      ) {
        using inputs = new Inputs(gpu);
        const values = noise(rows * width, 1);
        const learned = noise(POSITIONS * width, 2);
        const x = inputs.tensor("x", [rows, width], { values });
        const table = inputs.tensor("table", [POSITIONS, width], { values: learned, dtype });
        const position = starts &&
          { position: inputs.tensor("position", [sequences], { values: starts, dtype: "u32" }) };
        const out = await runOnce(gpu, (plan) => {
          addPositions(plan, "positions", { x, table, length, ...position });
          return { x };
        });
        const expected = Array.from({ length: sequences }, (_, i) => {
          const own = values.subarray(i * length * width, (i + 1) * length * width);
          const sum = reference.addPositions(
            matrix(own.length / width, width, own),
            matrix(POSITIONS, width, learned),
            { length, start: starts?.[i] ?? 0 },
          );
          return [...sum.data];
        }).flat();
        const what = JSON.stringify({ rows, length, width, dtype, starts });
        assertNear(out.x, expected, { tolerance: dtype === "f32" ? 1e-7 : 5e-4, what });
      }
    }
  }
});

Deno.test("positionsBackward() sums over the sequences, in the same order each time", async () => {
  const gpu = await openTestGpu();
  for (const { rows, length, width } of SHAPES) {
    for (const epilogue of ["none", "accumulate"] as const) {
      const upstream = noise(rows * width, 3);
      const before = noise(POSITIONS * width, 4);
      const run = async () => {
        using inputs = new Inputs(gpu);
        const dx = inputs.tensor("dx", [rows, width], { values: upstream });
        const d_table = inputs.tensor("d_table", [POSITIONS, width], { values: before });
        return await runOnce(gpu, (plan) => {
          positionsBackward(plan, "positions", { dx, d_table, length, epilogue });
          return { d_table };
        });
      };
      const out = await run();
      const sums = reference.positionsBackward(matrix(rows, width, upstream), {
        length,
        positions: POSITIONS,
      });
      const expected = epilogue === "none" ? sums.data : sums.data.map((v, i) => v + before[i]!);
      const what = JSON.stringify({ rows, length, width, epilogue });
      assertNear(out.d_table, expected, { tolerance: 3e-7, what });
      assertEquals(await run(), out);
    }
  }
});

Deno.test("Learned positions name sequences that do not fit", async () => {
  const gpu = await openTestGpu();
  using inputs = new Inputs(gpu);
  const x = inputs.tensor("x", [12, 8]);
  const table = inputs.tensor("table", [5, 8]);
  const plan = new Plan(gpu, "test");
  assertThrows(
    () => addPositions(plan, "positions", { x, table, length: 6 }),
    RangeError,
    "positions: a sequence of 6 tokens is longer than the 5 positions of table",
  );
  assertThrows(
    () => positionsBackward(plan, "positions", { dx: x, d_table: table, length: 5 }),
    RangeError,
    "positions: x has 12 rows, no whole sequences of 5 tokens",
  );
  const wide = inputs.tensor("wide", [12, 12]);
  assertThrows(
    () => addPositions(plan, "positions", { x: wide, table, length: 4 }),
    RangeError,
    "positions: wide is 12 wide, table 8",
  );
});
