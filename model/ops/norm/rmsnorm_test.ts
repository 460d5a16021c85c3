import { assertEquals, assertThrows } from "@std/assert";
import type { Gpu } from "../../gpu/device.ts";
import { openTestGpu } from "../../gpu/testing.ts";
import { Plan } from "../../gpu/plan.ts";
import type { DType } from "../../gpu/tensor.ts";
import { rmsNormBackward, rmsNormForward } from "../../reference/norm.ts";
import { matrix as reference } from "../../reference/matrix.ts";
import { matrix } from "../gemm/matrix.ts";
import { softwareLanes } from "../subgroup.ts";
import { NormGains } from "./norm_gains.ts";
import { rmsnormBackward, rmsnormForward } from "./rmsnorm.ts";
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
}

/** Runs both passes and compares them with float64; returns the results. `joined`: the gain's gradient ends in the dispatch of several. */
async function check(gpu: Gpu, c: Case, tolerance: number, { joined = false } = {}) {
  const { rows, columns, stride, start, dtype } = c;
  const wide = noise(rows * stride, 1);
  const dyValues = noise(rows * columns, 2);
  const gainValues = noise(columns, 3);
  const before = noise(rows * stride, 4);
  const gainBefore = noise(columns, 5);
  using inputs = new Inputs(gpu);
  const x = inputs.tensor("x", [rows, stride], { values: wide, dtype });
  const dy = inputs.tensor("dy", [rows, columns], { values: dyValues, dtype });
  const gain = inputs.tensor("gain", [columns], { values: gainValues });
  const dx = inputs.tensor("dx", [rows, stride], { values: before });
  const dgain = inputs.tensor("dgain", [columns], { values: gainBefore });
  const epilogue = c.accumulate ? "accumulate" : "none";
  const epsilon = c.epsilon === undefined ? {} : { epsilon: c.epsilon };
  const within = (t: typeof x) => matrix(t, { columns, start });
  const out = await runOnce(gpu, (plan) => {
    const y = plan.tensor("y", [rows, columns], { dtype });
    const scale = plan.tensor("scale", [rows]);
    rmsnormForward(plan, "norm", { x: within(x), gain, y, scale, ...epsilon });
    const gains = joined ? new NormGains(plan) : undefined;
    rmsnormBackward(plan, "norm", {
      x: within(x),
      gain,
      scale,
      dy,
      dx: within(dx),
      epilogue,
      dgain: { tensor: dgain, epilogue },
      gains,
    });
    gains?.finish();
    return { y, dx, dgain };
  });
  const inside = Float64Array.from(
    { length: rows * columns },
    (_, i) => wide[Math.floor(i / columns) * stride + start + i % columns]!,
  );
  const saved = rmsNormForward(reference(rows, columns, inside), gainValues, epsilon);
  const gradients = rmsNormBackward(saved, reference(rows, columns, dyValues));
  const expectedDx = before.slice();
  gradients.x.data.forEach((g, i) => {
    const at = Math.floor(i / columns) * stride + start + i % columns;
    expectedDx[at] = g + (c.accumulate ? before[at]! : 0);
  });
  const what = JSON.stringify(c);
  assertNear(out.y, saved.y.data, { tolerance, what: `y of ${what}` });
  assertNear(out.dx, expectedDx, { tolerance, what: `dx of ${what}` });
  assertNear(out.dgain, gradients.gain.map((g, i) => g + (c.accumulate ? gainBefore[i]! : 0)), {
    tolerance,
    what: `dgain of ${what}`,
  });
  return out;
}

const CASES: readonly Case[] = [
  { rows: 1, columns: 4, stride: 4, start: 0, dtype: "f32", accumulate: false },
  { rows: 37, columns: 20, stride: 28, start: 0, dtype: "f32", accumulate: true },
  { rows: 131, columns: 12, stride: 28, start: 8, dtype: "f32", accumulate: false },
  { rows: 3, columns: 132, stride: 132, start: 0, dtype: "f32", accumulate: false, epsilon: 0.1 },
  { rows: 4099, columns: 64, stride: 64, start: 0, dtype: "f32", accumulate: true },
  { rows: 9, columns: 516, stride: 516, start: 0, dtype: "f32", accumulate: true },
];

const VARIANTS = [
  { name: "software", restrict: { software: true } },
  { name: "software without subgroups", restrict: { software: true, subgroups: false } },
  { name: "GPU", restrict: { software: false } },
];

for (const { name, restrict } of VARIANTS) {
  Deno.test(`RMS norm agrees with float64, ${name} variant`, async () => {
    const gpu = await openTestGpu(restrict);
    for (const c of CASES) await check(gpu, c, 5e-6);
    assertEquals(await check(gpu, CASES[2]!, 5e-6), await check(gpu, CASES[2]!, 5e-6));
    await check(gpu, { ...CASES[1]!, dtype: "f16" }, 3e-3);
    const joined = { joined: true };
    for (const c of CASES) {
      assertEquals(await check(gpu, c, 5e-6, joined), await check(gpu, c, 5e-6));
    }
  });
}

Deno.test("the gradients of many norms' gains end in few dispatches", async () => {
  const gpu = await openTestGpu({ software: true });
  if (softwareLanes(gpu.capabilities) === undefined) return;
  const rows = 70;
  const widths = Array.from({ length: 19 }, (_, i) => 4 + 8 * (i % 11));
  using inputs = new Inputs(gpu);
  const norms = widths.map((width, i) => {
    const vector = (name: string) =>
      inputs.tensor(`${name}${i}`, [width], { values: noise(width, i) });
    const matrixOf = (name: string, seed: number) =>
      inputs.tensor(`${name}${i}`, [rows, width], { values: noise(rows * width, seed) });
    return {
      ...{ x: matrixOf("x", i), dy: matrixOf("dy", i + 100), dx: matrixOf("dx", i) },
      ...{ gain: vector("gain"), apart: vector("apart"), joined: vector("joined") },
      // The first micro-batch wrote those of the last norms.
      epilogue: i < 17 ? "none" as const : "accumulate" as const,
    };
  });
  let dispatches: unknown[] = [];
  const out = await runOnce(gpu, (plan) => {
    const gains = new NormGains(plan);
    for (const [i, { x, dy, dx, gain, epilogue, ...to }] of norms.entries()) {
      const y = plan.tensor(`y${i}`, x.shape);
      const scale = plan.tensor(`scale${i}`, [rows]);
      rmsnormForward(plan, "norm", { x, gain, y, scale });
      for (const joined of [false, true]) {
        rmsnormBackward(plan, "norm", {
          ...{ x, gain, scale, dy, dx },
          dgain: { tensor: joined ? to.joined : to.apart, epilogue },
          gains: joined ? gains : undefined,
        });
      }
    }
    gains.finish();
    gains.finish();
    dispatches = plan.steps.flatMap((step) =>
      step.kind === "dispatch" && step.call.name === "norm_gains_lanes"
        ? [step.call.constants?.["COUNT"]]
        : []
    );
    return Object.fromEntries(
      norms.flatMap(({ apart, joined }, i) => [[`apart${i}`, apart], [`joined${i}`, joined]]),
    );
  });
  for (const i of widths.keys()) assertEquals(out[`joined${i}`], out[`apart${i}`]);
  if (gpu.capabilities.max_storage_buffers >= 32) assertEquals(dispatches, [16, 1, 2]);
});

Deno.test("RMS norm with packed halves agrees with float64", async () => {
  const gpu = await openTestGpu({ f16: false });
  await check(gpu, { ...CASES[2]!, dtype: "f16" }, 3e-3);
});

Deno.test("RMS norm names shapes that do not fit", async () => {
  const gpu = await openTestGpu();
  using inputs = new Inputs(gpu);
  const x = inputs.tensor("x", [3, 8]);
  const gain = inputs.tensor("gain", [8]);
  const scale = inputs.tensor("scale", [3]);
  const y = inputs.tensor("y", [3, 12]);
  assertThrows(
    () => rmsnormForward(new Plan(gpu, "test"), "norm", { x, gain, y, scale }),
    RangeError,
    "norm: x is 3×8, y 3×12",
  );
});
