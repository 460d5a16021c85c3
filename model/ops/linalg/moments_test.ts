import { assertThrows } from "@std/assert";
import { Plan } from "../../gpu/plan.ts";
import { openTestGpu } from "../../gpu/testing.ts";
import { assertNear, Inputs, noise, runOnce } from "../testing.ts";
import { addToDiagonal, centreRows, readDiagonal, scaledSum, secondMoment } from "./moments.ts";

/** Rows `[rows, width]` whose numbers beyond `columns` are zero. */
function padded(rows: number, columns: number, seed: number): Float64Array {
  const width = Math.ceil(columns / 4) * 4;
  const values = noise(rows * columns, seed);
  return Float64Array.from({ length: rows * width }, (_, i) => {
    const [r, c] = [Math.floor(i / width), i % width];
    return c < columns ? values[r * columns + c]! : 0;
  });
}

/** `scale · Xᵀ X` of rows one chunk after the other. */
function expectedMoment(chunks: readonly Float64Array[], columns: number, scale: number) {
  const width = Math.ceil(columns / 4) * 4;
  const out = new Float64Array(columns * width);
  for (const chunk of chunks) {
    for (let at = 0; at < chunk.length; at += width) {
      for (let i = 0; i < columns; i++) {
        for (let j = 0; j < columns; j++) {
          out[i * width + j]! += scale * chunk[at + i]! * chunk[at + j]!;
        }
      }
    }
  }
  return out;
}

Deno.test("secondMoment() sums chunks of any sizes", async () => {
  for (const software of [true, false]) {
    const gpu = await openTestGpu({ software });
    for (
      const [counts, columns] of [[[1], 1], [[29, 1, 70], 13], [[1025, 3], 8]] as const
    ) {
      using inputs = new Inputs(gpu);
      const width = Math.ceil(columns / 4) * 4;
      const chunks = counts.map((rows, i) => padded(rows, columns, i));
      const shape = [columns, width];
      const values = new Float64Array(columns * width).fill(NaN);
      const moment = inputs.tensor("moment", shape, { values });
      const x = chunks.map((values, i) => inputs.tensor(`x${i}`, [counts[i]!, width], { values }));
      const out = await runOnce(gpu, (plan) => {
        secondMoment(plan, "moment", { x, columns, moment, scale: 0.5 });
        return { moment };
      });
      assertNear(out.moment, expectedMoment(chunks, columns, 0.5), {
        tolerance: 1e-6,
        what: `moment of ${counts} rows of ${columns}`,
      });
    }
  }
});

Deno.test("secondMoment() keeps its digits over many rows", async () => {
  const gpu = await openTestGpu({ software: true });
  using inputs = new Inputs(gpu);
  // All terms are positive, so that the sum grows and its last digits are what may be lost.
  const values = padded(40_000, 4, 5).map((v) => Math.abs(v) + 0.5);
  const x = [inputs.tensor("x", [40_000, 4], { values })];
  const out = await runOnce(gpu, (plan) => {
    const moment = plan.tensor("moment", [4, 4]);
    secondMoment(plan, "moment", { x, columns: 4, moment, scale: 1 });
    return { moment };
  });
  assertNear(out.moment, expectedMoment([Float64Array.from(values, Math.fround)], 4, 1), {
    tolerance: 1e-6,
    what: "moment of 40,000 rows",
  });
});

Deno.test("centreRows(), scaledSum() and the diagonal do what they say", async () => {
  const gpu = await openTestGpu();
  using inputs = new Inputs(gpu);
  const values = noise(5 * 8, 1);
  const mean = noise(8, 2);
  const x = inputs.tensor("x", [5, 8], { values });
  const h = inputs.tensor("h", [5, 8], { values });
  const d = inputs.tensor("d", [5]);
  const y = inputs.tensor("y", [5, 8], { values: values.map(() => NaN) });
  const sum = inputs.tensor("sum", [5, 8], { values });
  const out = await runOnce(gpu, (plan) => {
    centreRows(plan, "centre", { x, mean: inputs.tensor("mean", [8], { values: mean }), y });
    scaledSum(plan, "sum", { x, y: sum, scale: 2, accumulate: true });
    readDiagonal(plan, "read", { h, d });
    addToDiagonal(plan, "add", { h, d });
    return { y, sum, d, h };
  });
  const tolerance = 1e-6;
  assertNear(out.y, values.map((v, i) => v - mean[i % 8]!), { tolerance, what: "centred" });
  assertNear(out.sum, values.map((v) => 3 * v), { tolerance, what: "sum" });
  assertNear(out.d, values.filter((_, i) => i % 9 === 0), { tolerance, what: "diagonal" });
  assertNear(out.h, values.map((v, i) => i % 9 === 0 ? 2 * v : v), { tolerance, what: "added" });
});

Deno.test("second moments refuse tensors that do not fit", async () => {
  const gpu = await openTestGpu();
  using inputs = new Inputs(gpu);
  const plan = new Plan(gpu, "test");
  const x = inputs.tensor("x", [5, 8]);
  const y = inputs.tensor("y", [5, 4]);
  const mean = inputs.tensor("mean", [8]);
  assertThrows(
    () => secondMoment(plan, "m", { x: [x], columns: 7, moment: y, scale: 1 }),
    RangeError,
    "y is 5×4, expected 7 rows padded to fours",
  );
  assertThrows(() => centreRows(plan, "c", { x, mean, y }), RangeError, "x is 5×8, y 5×4");
  assertThrows(
    () => scaledSum(plan, "s", { x, y, scale: 1, accumulate: false }),
    RangeError,
    "x has 40 elements and y 20",
  );
  assertThrows(
    () => readDiagonal(plan, "d", { h: x, d: mean }),
    RangeError,
    "x has 5 rows, mean 8",
  );
});
