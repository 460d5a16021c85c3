import { assert, assertEquals, assertThrows } from "@std/assert";
import { runPlan } from "../../gpu/build.ts";
import type { Capabilities } from "../../gpu/capabilities.ts";
import type { Gpu } from "../../gpu/device.ts";
import { Plan } from "../../gpu/plan.ts";
import { type DType, Tensor } from "../../gpu/tensor.ts";
import { openTestGpu } from "../../gpu/testing.ts";
import { upload } from "../../gpu/transfer.ts";
import { Arena } from "../../gpu/memory.ts";
import { assertNear, Inputs, noise, runOnce } from "../testing.ts";
import { codeGradients, factoredGradient, gatherCodes, ownRows } from "./factored_codes.ts";

const [AXES, SIZE, LATENT] = [3, 5, 8];

/** Rows of the factored table that `n` kept experts use; a few ids far more often than others. */
function coordsOf(n: number): Uint32Array {
  return Uint32Array.from(noise(n * AXES, 8), (v, i) => {
    const id = Math.floor(SIZE * v * v);
    return (i % AXES) * SIZE + id;
  });
}

async function run(gpu: Gpu, n: number, options: { dtype?: DType; accumulate?: boolean } = {}) {
  using inputs = new Inputs(gpu);
  const values = noise(AXES * SIZE * LATENT, 9);
  const z = inputs.tensor("z", [AXES, SIZE, LATENT], { values, dtype: options.dtype ?? "f32" });
  const coords = inputs.tensor("coords", [n, AXES], { values: coordsOf(n), dtype: "u32" });
  const before = noise(values.length, 10);
  const dz = inputs.tensor("dz", [AXES, SIZE, LATENT], { values: before });
  const gradients = noise(n * LATENT, 11);
  const plan = new Plan(gpu, "factored");
  const codes = gatherCodes(plan, "codes", { z, coords, axes: AXES });
  const dcodes = codeGradients(plan, "codes", codes);
  // The gradient of the codes, from the host.
  let first = 0;
  for (const part of dcodes) {
    const from = first;
    const held = new Tensor("held", part.shape);
    arenas.push(new Arena(gpu, "held", [held]));
    upload(gpu, held, gradients.subarray(from * LATENT, (from + part.rows) * LATENT));
    plan.copy(held, part);
    first += part.rows;
  }
  factoredGradient(plan, "codes", {
    dcodes,
    coords,
    axes: AXES,
    gradient: { tensor: dz, epilogue: options.accumulate ? "accumulate" : "none" },
  });
  const found = await runPlan(plan, {
    dz,
    ...Object.fromEntries(codes.map((part, i) => [`codes${i}`, part])),
  });
  const { dz: gradient, ...parts } = found as Record<string, Float32Array>;
  const expected = { codes: new Float64Array(n * LATENT), dz: new Float64Array(values.length) };
  if (options.accumulate) expected.dz.set(before);
  coordsOf(n).forEach((row, i) => {
    const expert = Math.floor(i / AXES);
    for (let c = 0; c < LATENT; c++) {
      expected.codes[expert * LATENT + c]! += values[row * LATENT + c]!;
      expected.dz[row * LATENT + c]! += gradients[expert * LATENT + c]!;
    }
  });
  return {
    codes: Object.values(parts).flatMap((part) => [...part]),
    parts: Object.keys(parts).length,
    dz: gradient!,
    expected,
  };
}

/** Buffers of the test under way. */
const arenas: Arena[] = [];

const DEVICES: readonly (readonly [string, Partial<Capabilities>])[] = [
  ["software", { software: true }],
  ["workgroups", { software: false }],
];

for (const [device, restrict] of DEVICES) {
  Deno.test(`gatherCodes() and factoredGradient() are sums over axes and over experts, ${device}`, async () => {
    const gpu = await openTestGpu(restrict);
    for (const [n, dtype] of [[1, "f32"], [67, "f32"], [700, "f32"], [67, "f16"]] as const) {
      const { codes, dz, expected } = await run(gpu, n, { dtype });
      const tolerance = dtype === "f16" ? 2e-3 : 1e-5;
      assertNear(codes, expected.codes, { tolerance, what: "codes" });
      assertNear(dz, expected.dz, { tolerance: 1e-5, what: "gradient" });
    }
    const { dz, expected } = await run(gpu, 67, { accumulate: true });
    assertNear(dz, expected.dz, { tolerance: 1e-5, what: "gradient added" });
    for (const arena of arenas.splice(0)) arena.destroy();
  });
}

Deno.test("Codes in parts that fit a binding are the same", async () => {
  const gpu = await openTestGpu({ max_binding_bytes: 64 * LATENT * 4 });
  // Keys of an axis each take as many bytes as so many codes.
  const whole = await run(await openTestGpu(), 150);
  const parts = await run(gpu, 150);
  assertEquals([whole.parts, parts.parts], [1, 3]);
  assertEquals(parts.codes, whole.codes);
  assertNear(parts.dz, parts.expected.dz, { tolerance: 1e-5, what: "gradient in parts" });
  for (const arena of arenas.splice(0)) arena.destroy();
  const tiny = new Plan(await openTestGpu({ max_binding_bytes: 1024 }), "tiny");
  const z = new Tensor("z", [AXES, SIZE, LATENT]);
  const coords = new Tensor("coords", [4, AXES], { dtype: "u32" });
  assertThrows(
    () => gatherCodes(tiny, "codes", { z, coords, axes: AXES }),
    RangeError,
    "64 codes of 8 numbers take more than 1024 bytes",
  );
});

Deno.test("ownRows() count from 0, sorted as they are", async () => {
  const gpu = await openTestGpu();
  const found = await runOnce(gpu, (plan) => {
    const { index, sorted } = ownRows(plan, 3, 4);
    assertEquals(index.shape, [3, 4]);
    assert(index.base === sorted.begin.base);
    const copies = { index, order: sorted.order, begin: sorted.begin };
    return Object.fromEntries(
      Object.entries(copies).map(([name, tensor]) => {
        const out = plan.tensor(name, tensor.shape, { dtype: "u32" });
        plan.copy(tensor, out);
        return [name, out];
      }),
    ) as Record<keyof typeof copies, Tensor>;
  });
  const count = (n: number) => Array.from({ length: n }, (_, i) => i);
  assertEquals([...found.index], count(12));
  assertEquals([...found.order], count(12));
  assertEquals([...found.begin], count(13));
});
