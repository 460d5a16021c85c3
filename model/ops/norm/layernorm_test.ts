import { assertEquals, assertThrows } from "@std/assert";
import type { Gpu } from "../../gpu/device.ts";
import { openTestGpu } from "../../gpu/testing.ts";
import { Plan } from "../../gpu/plan.ts";
import type { DType } from "../../gpu/tensor.ts";
import { layerNormBackward, layerNormForward } from "../../reference/norm.ts";
import { matrix as reference } from "../../reference/matrix.ts";
import { matrix } from "../gemm/matrix.ts";
import { layernormBackward, layernormForward } from "./layernorm.ts";
import { assertNear, Inputs, noise, runOnce } from "../testing.ts";

interface Case {
  rows: number;
  columns: number;
  /** Width of the matrix whose columns are normalised, and where they begin. */
  stride: number;
  start: number;
  dtype: DType;
  accumulate: boolean;
  epsilon?: number;
  /** Added to every number of x. */
  offset?: number;
}

/** Runs both passes and compares them with float64; returns the results. */
async function check(gpu: Gpu, c: Case, tolerance: number) {
  const { rows, columns, stride, start, dtype, offset = 0 } = c;
  const wide = noise(rows * stride, 1).map((v) => Math.fround(v + offset));
  const dyValues = noise(rows * columns, 2);
  const weight = noise(columns, 3);
  const bias = noise(columns, 4);
  const before = noise(rows * stride, 5);
  const gainBefore = noise(columns, 6);
  const biasBefore = noise(columns, 7);
  using inputs = new Inputs(gpu);
  const x = inputs.tensor("x", [rows, stride], { values: wide, dtype });
  const dy = inputs.tensor("dy", [rows, columns], { values: dyValues, dtype });
  const vectors = {
    gain: inputs.tensor("gain", [columns], { values: weight }),
    bias: inputs.tensor("bias", [columns], { values: bias }),
  };
  const dx = inputs.tensor("dx", [rows, stride], { values: before });
  const dgain = inputs.tensor("dgain", [columns], { values: gainBefore });
  const dbias = inputs.tensor("dbias", [columns], { values: biasBefore });
  const epilogue = c.accumulate ? "accumulate" : "none";
  const epsilon = c.epsilon === undefined ? {} : { epsilon: c.epsilon };
  const within = (t: typeof x) => matrix(t, { columns, start });
  const out = await runOnce(gpu, (plan) => {
    const y = plan.tensor("y", [rows, columns], { dtype });
    const mean = plan.tensor("mean", [rows]);
    const scale = plan.tensor("scale", [rows]);
    layernormForward(plan, "norm", { x: within(x), ...vectors, y, mean, scale, ...epsilon });
    layernormBackward(plan, "norm", {
      x: within(x),
      gain: vectors.gain,
      mean,
      scale,
      dy,
      dx: within(dx),
      epilogue,
      dgain: { tensor: dgain, epilogue },
      dbias: { tensor: dbias, epilogue },
    });
    return { y, dx, dgain, dbias };
  });
  const inside = Float64Array.from(
    { length: rows * columns },
    (_, i) => wide[Math.floor(i / columns) * stride + start + i % columns]!,
  );
  const saved = layerNormForward(reference(rows, columns, inside), { weight, bias }, epsilon);
  const gradients = layerNormBackward(saved, reference(rows, columns, dyValues));
  const expectedDx = before.slice();
  gradients.x.data.forEach((g, i) => {
    const at = Math.floor(i / columns) * stride + start + i % columns;
    expectedDx[at] = g + (c.accumulate ? before[at]! : 0);
  });
  const after = (gradient: Float64Array, old: Float64Array) =>
    gradient.map((g, i) => g + (c.accumulate ? old[i]! : 0));
  const near = (actual: Float32Array, expected: Float64Array, what: string) =>
    assertNear(actual, expected, { tolerance, what: `${what} of ${JSON.stringify(c)}` });
  near(out.y, saved.y.data, "y");
  near(out.dx, expectedDx, "dx");
  near(out.dgain, after(gradients.weight, gainBefore), "dgain");
  near(out.dbias, after(gradients.bias, biasBefore), "dbias");
  return out;
}

const CASES: readonly Case[] = [
  { rows: 1, columns: 4, stride: 4, start: 0, dtype: "f32", accumulate: false },
  { rows: 3, columns: 132, stride: 132, start: 0, dtype: "f32", accumulate: false },
  { rows: 37, columns: 20, stride: 28, start: 0, dtype: "f32", accumulate: true },
  { rows: 131, columns: 12, stride: 28, start: 8, dtype: "f32", accumulate: false },
  { rows: 9, columns: 516, stride: 516, start: 0, dtype: "f32", accumulate: true, epsilon: 0.1 },
];

for (const software of [true, false]) {
  const name = software ? "software" : "GPU";
  Deno.test(`Layer norm agrees with float64, ${name} variant`, async (t) => {
    const gpu = await openTestGpu({ software });
    for (const c of CASES) await check(gpu, c, 5e-6);
    assertEquals(await check(gpu, CASES[3]!, 5e-6), await check(gpu, CASES[3]!, 5e-6));

    await t.step("f16 operands", async () => {
      await check(gpu, { ...CASES[2]!, dtype: "f16" }, 3e-3);
    });

    await t.step("a mean far from zero costs the variance no digits", async () => {
      // In one pass, E[x²] − mean², the variance of f32 numbers near 1000 would keep one digit.
      await check(gpu, { ...CASES[1]!, offset: 1000 }, 2e-4);
    });
  });
}

Deno.test("Layer norm with packed halves agrees with float64", async () => {
  const gpu = await openTestGpu({ f16: false });
  await check(gpu, { ...CASES[3]!, dtype: "f16" }, 3e-3);
});

Deno.test("Layer norm names shapes that do not fit", async () => {
  const gpu = await openTestGpu();
  using inputs = new Inputs(gpu);
  const tensor = (name: string, ...shape: number[]) => inputs.tensor(name, shape);
  const fitting = {
    x: tensor("x", 3, 8),
    gain: tensor("gain", 8),
    bias: tensor("bias", 8),
    mean: tensor("mean", 3),
    scale: tensor("scale", 3),
    y: tensor("y", 3, 8),
  };
  const record = (wrong: Partial<typeof fitting>) => () =>
    layernormForward(new Plan(gpu, "test"), "norm", { ...fitting, ...wrong });
  assertThrows(record({ y: tensor("y", 3, 12) }), RangeError, "norm: x is 3×8, y 3×12");
  assertThrows(
    record({ bias: tensor("bias", 12) }),
    RangeError,
    "norm: x is 3×8, but the bias has 12 elements; expected 8",
  );
  assertThrows(
    record({ mean: tensor("mean", 8) }),
    RangeError,
    "norm: x is 3×8, but the mean has 8 elements; expected 3",
  );
  assertThrows(
    record({ x: tensor("x", 3, 10), y: tensor("y", 3, 10) }),
    RangeError,
    "stride 10",
  );
});
