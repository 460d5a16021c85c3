import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import type { Gpu } from "../../gpu/device.ts";
import { openTestGpu, testDevices } from "../../gpu/testing.ts";
import type { DType, Tensor } from "../../gpu/tensor.ts";
import { gelu, geluDerivative } from "../../reference/activation.ts";
import { assertNear, Inputs, noise, runOnce } from "../testing.ts";
import {
  canFuseStored,
  chooseStored,
  orderKept,
  type StoredExecution,
  storedExperts,
  storedExpertsBackward,
} from "./experts_stored.ts";

interface Sizes {
  readonly tokens: number;
  /** Kept experts a token. */
  readonly per: number;
  readonly experts: number;
  readonly width: number;
}

/** Numbers that f16 holds exactly. */
const halves = (count: number, seed: number) =>
  noise(count, seed).map((v) => Math.round(v * 512) / 512);

/** Inputs; `dropped` of the assignments have score 0. */
function caseOf({ tokens, per, experts, width }: Sizes, options: { dropped: number }) {
  const pick = noise(tokens * per, 1);
  const index = Uint32Array.from(pick, (v) => Math.floor((v + 1) / 2 * experts));
  const score = noise(tokens * per, 2).map((v, i) => {
    const drop = (noise(1, 90 + i)[0]! + 1) / 2 < options.dropped;
    return drop ? 0 : Math.fround(0.2 + 0.8 * Math.abs(v));
  });
  return {
    index,
    score,
    u: halves(experts * width, 3),
    v: halves(experts * width, 4),
    x: halves(tokens * width, 5).map((v) => v * 4 / Math.sqrt(width)).map((v) =>
      Math.round(v * 512) / 512
    ),
    dy: halves(tokens * width, 6),
    residual: noise(tokens * width, 7),
    before: noise(experts * width, 8),
  };
}

type Case = ReturnType<typeof caseOf>;

/** All results in float64. `before`: the gradients that an earlier micro-batch left. */
function expected(sizes: Sizes, { index, score, u, v, x, dy, residual }: Case) {
  const { tokens, per, experts, width } = sizes;
  const y = residual.slice();
  const dx = new Float64Array(tokens * width);
  const dscore = new Float64Array(tokens * per);
  const du = new Float64Array(experts * width);
  const dv = new Float64Array(experts * width);
  index.forEach((expert, i) => {
    const s = score[i]!;
    if (s === 0) return;
    const at = Math.floor(i / per) * width;
    const row = expert * width;
    let p = 0;
    let da = 0;
    for (let c = 0; c < width; c++) {
      p += u[row + c]! * x[at + c]!;
      da += v[row + c]! * dy[at + c]!;
    }
    const a = gelu(p) * s;
    const dp = da * s * geluDerivative(p);
    dscore[i] = da * gelu(p);
    for (let c = 0; c < width; c++) {
      y[at + c]! += a * v[row + c]!;
      dx[at + c]! += dp * u[row + c]!;
      du[row + c]! += dp * x[at + c]!;
      dv[row + c]! += a * dy[at + c]!;
    }
  });
  return { y, dx, dscore, du, dv };
}

/** Runs both passes; tables are cut after the rows `cuts`. */
async function run(
  gpu: Gpu,
  sizes: Sizes,
  values: Case,
  options: {
    dtype: DType;
    execution: StoredExecution;
    cuts?: readonly number[];
    accumulate?: boolean;
  },
) {
  const { tokens, per, experts, width } = sizes;
  const { dtype, execution, cuts = [], accumulate = false } = options;
  const ends = [...cuts, experts];
  using inputs = new Inputs(gpu);
  const table = (name: string, of: Float64Array, dtype: DType) =>
    ends.map((end, i) => {
      const begin = i === 0 ? 0 : ends[i - 1]!;
      const values = of.subarray(begin * width, end * width);
      return inputs.tensor(`${name}.${i}`, [end - begin, width], { values, dtype });
    });
  const row = (name: string, of: Float64Array, dtype: DType) =>
    inputs.tensor(name, [tokens, width], { values: of, dtype });
  const kept = {
    index: inputs.tensor("index", [tokens, per], { values: values.index, dtype: "u32" }),
    score: inputs.tensor("score", [tokens, per], { values: values.score }),
  };
  const tables = { u: table("u", values.u, dtype), v: table("v", values.v, dtype) };
  const du = table("du", values.before, "f32");
  const dv = table("dv", values.before, "f32");
  const x = row("x", values.x, dtype);
  const dy = row("dy", values.dy, dtype);
  const y = row("y", values.residual, "f32");
  // Numbers that nobody writes must show.
  const nan = (count: number) => new Float64Array(count).fill(NaN);
  const dx = row("dx", nan(tokens * width), "f32");
  const dscore = inputs.tensor("dscore", [tokens, per], { values: nan(tokens * per) });
  const target = (tensor: Tensor) =>
    ({ tensor, epilogue: accumulate ? "accumulate" : "none" }) as const;
  const parts = (name: string, of: readonly Tensor[]) => of.map((t, i) => [`${name}${i}`, t]);
  const results = await runOnce(gpu, (plan) => {
    const ordered = orderKept(plan, "experts", { kept, experts });
    const shared = { tables, x, kept: ordered, execution };
    const p = storedExperts(plan, "experts", { ...shared, y });
    storedExpertsBackward(plan, "experts", {
      ...shared,
      ...{ p, dy, dx, dscore },
      gradients: { u: du.map(target), v: dv.map(target) },
    });
    return Object.fromEntries(
      [["y", y], ["dx", dx], ["dscore", dscore], ...parts("du", du), ...parts("dv", dv)],
    ) as Record<string, Tensor>;
  });
  const whole = (name: string) =>
    Float32Array.from(ends.flatMap((_, i) => Array.from(results[`${name}${i}`]!)));
  return {
    y: results["y"]!,
    dx: results["dx"]!,
    dscore: results["dscore"]!,
    du: whole("du"),
    dv: whole("dv"),
  };
}

const DEVICES = testDevices([
  ["software", { software: true }],
  ["no subgroups", { software: false, subgroups: false }],
  ["subgroups", { software: false }],
]);
const EXECUTIONS: readonly StoredExecution[] = ["naive", "fused"];

// Odd counts; a width of a few vectors, one that leaves invocations without a column, and two of whole eights, which halves are
// loaded by.
const SIZES: readonly Sizes[] = [
  { tokens: 7, per: 5, experts: 9, width: 20 },
  { tokens: 37, per: 21, experts: 67, width: 132 },
  { tokens: 9, per: 6, experts: 31, width: 136 },
  { tokens: 9, per: 8, experts: 31, width: 64 },
];

for (const [device, restrict] of DEVICES) {
  for (const execution of EXECUTIONS) {
    Deno.test(`storedExperts() is right at odd sizes: ${execution}, ${device}`, async () => {
      const gpu = await openTestGpu(restrict);
      for (const sizes of SIZES) {
        const values = caseOf(sizes, { dropped: 0.2 });
        const exact = expected(sizes, values);
        for (const dtype of ["f32", "f16"] as const) {
          const whole = await run(gpu, sizes, values, { dtype, execution });
          for (const name of ["y", "dx", "dscore", "du", "dv"] as const) {
            const what = `${name} of ${dtype} ${JSON.stringify(sizes)}`;
            assertNear(whole[name], exact[name], { tolerance: 2e-5, what });
          }
          // In parts, the first of which begins and ends within a token's experts.
          const cuts = [Math.floor(sizes.experts / 3), Math.floor(sizes.experts / 2)];
          const parts = await run(gpu, sizes, values, { dtype, execution, cuts });
          assertEquals(parts, whole, `${dtype} in parts`);
        }
      }
    });
  }
}

Deno.test("storedExperts() adds to gradients, and leaves those of experts that nobody keeps", async () => {
  const gpu = await openTestGpu();
  const sizes = { tokens: 5, per: 3, experts: 40, width: 12 };
  const values = caseOf(sizes, { dropped: 0.3 });
  const exact = expected(sizes, values);
  const used = new Set([...values.index].filter((_, i) => values.score[i] !== 0));
  assert(used.size < sizes.experts);
  for (const accumulate of [false, true]) {
    const results = await run(gpu, sizes, values, { dtype: "f32", execution: "naive", accumulate });
    for (const name of ["du", "dv"] as const) {
      const sum = exact[name].map((g, i) => accumulate ? g + values.before[i]! : g);
      assertNear(results[name], sum, { tolerance: 1e-5, what: name });
      for (let i = 0; i < sum.length; i++) {
        if (used.has(Math.floor(i / sizes.width))) continue;
        assertEquals(results[name][i], accumulate ? Math.fround(values.before[i]!) : 0);
      }
    }
  }
});

Deno.test("storedExperts() at any shape: both executions agree with float64", async () => {
  const gpu = await openTestGpu();
  await fc.assert(
    fc.asyncProperty(
      fc.record({
        tokens: fc.integer({ min: 1, max: 30 }),
        per: fc.integer({ min: 1, max: 12 }),
        experts: fc.integer({ min: 1, max: 50 }),
        width: fc.integer({ min: 1, max: 12 }).map((n) => 4 * n),
      }),
      fc.constantFrom(...EXECUTIONS),
      async (sizes, execution) => {
        const values = caseOf(sizes, { dropped: 0.1 });
        const results = await run(gpu, sizes, values, { dtype: "f32", execution });
        const exact = expected(sizes, values);
        for (const name of ["y", "dx", "dscore", "du", "dv"] as const) {
          // A single product may cancel.
          assertNear(results[name], exact[name], { tolerance: 2e-4, what: name });
        }
      },
    ),
    { numRuns: 15, seed: 5 },
  );
});

Deno.test("storedExperts() fused splits the kept experts that a software adapter's loops would not reach", async () => {
  const gpu = await openTestGpu({ software: true });
  // 70 experts a token, 2 · 512 rounds each: more than 65,535.
  const sizes = { tokens: 3, per: 70, experts: 30, width: 2048 };
  const values = caseOf(sizes, { dropped: 0 });
  const results = await run(gpu, sizes, values, { dtype: "f32", execution: "fused" });
  const exact = expected(sizes, values);
  for (const name of ["y", "dx", "dscore"] as const) {
    assertNear(results[name], exact[name], { tolerance: 2e-5, what: name });
  }
});

Deno.test("orderKept() sorts a token's experts, equal ones as they came and those without score last", async () => {
  const gpu = await openTestGpu();
  using inputs = new Inputs(gpu);
  const index = inputs.tensor("index", [2, 4], { values: [7, 2, 2, 5, 1, 9, 0, 3], dtype: "u32" });
  const score = inputs.tensor("score", [2, 4], { values: [1, 2, 3, 4, 5, 0, 7, 8] });
  const results = await runOnce(gpu, (plan) => {
    const { index: sorted, score: weight, place } = orderKept(plan, "order", {
      kept: { index, score },
      experts: 10,
    });
    return { sorted, weight, place };
  });
  assertEquals(Array.from(results.sorted), [2, 2, 5, 7, 0, 1, 3, 10]);
  assertEquals(Array.from(results.weight), [2, 3, 4, 1, 7, 5, 8, 0]);
  assertEquals(Array.from(results.place), [3, 0, 1, 2, 1, 3, 0, 2]);
});

Deno.test("chooseStored() fuses many tokens where a workgroup holds a row", async () => {
  const { capabilities } = await openTestGpu({ software: false });
  const choose = (tokens: number, width: number, software = false) =>
    chooseStored({ ...capabilities, software }, { tokens, width });
  assertEquals(choose(32768, 1024), "fused");
  assertEquals(choose(1, 1024), "naive");
  assertEquals(choose(32768, 1024, true), "naive");
  assertEquals(choose(32768, 16384), "naive");
  assertEquals(canFuseStored({ ...capabilities, software: true }, 16384), true);
});
