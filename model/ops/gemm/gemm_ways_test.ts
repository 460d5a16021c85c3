/** Every way of making a product that a tuning can choose gives the product, and the rule's is one of them. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { Plan } from "../../gpu/plan.ts";
import { DEVICE_PROFILES, profileGpu } from "../../gpu/recording.ts";
import { type DType, Tensor } from "../../gpu/tensor.ts";
import { openTestGpu, testRuntime } from "../../gpu/testing.ts";
import type { Gpu } from "../../gpu/device.ts";
import { gemm } from "./gemm.ts";
import { gpuKernel, splitsOf, turnPays } from "./gemm_kernels.ts";
import { MOST_WAYS, productWays, ruleWay } from "./gemm_ways.ts";
import { matrix } from "./matrix.ts";
import { assertNear, Inputs, noise, runOnce } from "../testing.ts";

const LAYOUTS = ["nn", "nt", "tn"] as const;
const GPUS = DEVICE_PROFILES.filter(({ capabilities }) => !capabilities.software);

/** SwiftShader takes many times as long for a kernel as llvmpipe: on it, small ones stand for all. */
const tested = (name: string) => testRuntime() === "deno" || name.includes("64x64");

/** A product to record: its operands' tensors are not in memory. */
function record(gpu: Gpu, c: {
  m: number;
  n: number;
  k: number;
  layout: (typeof LAYOUTS)[number];
  dtype: DType;
  padding: number;
  choices?: Record<string, string>;
}): Plan {
  const plan = new Plan(gpu, "ways", { tuning: c.choices });
  const operand = (name: string, rows: number, columns: number) =>
    matrix(new Tensor(name, [rows, 8 * Math.ceil(columns / 8) + c.padding], { dtype: c.dtype }), {
      columns,
    });
  gemm(plan, "product", {
    a: c.layout === "tn" ? operand("a", c.k, c.m) : operand("a", c.m, c.k),
    b: c.layout === "nt" ? operand("b", c.n, c.k) : operand("b", c.k, c.n),
    c: operand("c", c.m, c.n),
    layout: c.layout,
  });
  return plan;
}

/** What a plan runs, without the tensors that it does so on. */
function dispatched(plan: Plan): string {
  return JSON.stringify(
    plan.steps.map((step) =>
      step.kind === "dispatch"
        ? { ...step.call, bindings: Object.keys(step.call.bindings) }
        : step.kind
    ),
  );
}

Deno.test("the ways of a product hold the rule's, and each is recorded when it is chosen", () => {
  const size = fc.oneof(
    fc.integer({ min: 1, max: 300 }),
    fc.integer({ min: 300, max: 40000 }),
    fc.constantFrom(64, 1024, 4096, 32768),
  );
  fc.assert(
    fc.property(
      fc.record({
        m: size,
        n: size,
        k: size,
        layout: fc.constantFrom(...LAYOUTS),
        dtype: fc.constantFrom<DType>("f32", "f16"),
        padding: fc.constantFrom(0, 4),
        profile: fc.constantFrom(...GPUS),
      }),
      ({ profile, ...c }) => {
        const gpu = profileGpu(profile);
        // What no binding can hold asks nothing.
        const bytes = 4 * Math.max(c.m * (c.n + 12), c.m * (c.k + 12), c.n * (c.k + 12));
        fc.pre(64 * bytes < gpu.capabilities.max_binding_bytes);
        const rule = record(gpu, c);
        for (const { question: { id, candidates } } of rule.questions) {
          assert(candidates.length <= MOST_WAYS);
          assertEquals(new Set(candidates).size, candidates.length);
          for (const name of candidates) {
            const plan = record(gpu, { ...c, choices: { [id]: name } });
            assertEquals(
              dispatched(plan) === dispatched(rule),
              name === candidates[0],
              `${id}: ${name}`,
            );
          }
        }
      },
    ),
    { numRuns: 60, seed: 7 },
  );
});

Deno.test("a question can be asked again by itself", () => {
  for (const profile of GPUS) {
    const gpu = profileGpu(profile);
    for (const [m, n, k] of [[1024, 512, 640], [300, 37, 5000], [512, 1030, 72]] as const) {
      for (const layout of LAYOUTS) {
        for (const dtype of ["f32", "f16"] as const) {
          const asked = record(gpu, { m, n, k, layout, dtype, padding: 4 }).questions;
          assert(asked.length > 0);
          for (const { question } of asked) {
            for (const name of question.candidates) {
              const plan = new Plan(gpu, "alone", { tuning: { [question.id]: name } });
              question.record(plan, (name, shape, dtype) => new Tensor(name, shape, { dtype }));
              assertEquals(plan.questions.map(({ question: { id } }) => id), [question.id]);
            }
          }
        }
      }
    }
  }
});

Deno.test("ways have readable names, and follow what the device offers", () => {
  const halves = { dtype: "f16", aligned: true } as const;
  const shape = { m: 32768, n: 1024, k: 4096, layout: "nn", a: halves, b: halves } as const;
  const kinds = { linear: true, single: false };
  const [deno, dawn] = GPUS.slice(-2).map(({ capabilities }) => capabilities);
  const names = (ways: ReturnType<typeof productWays>) => ways.map(({ name }) => name);
  assertEquals(names(productWays(deno!, { ...shape, ...kinds })), [
    "turned:128x128",
    "128x128",
    "256x64",
    "128x64",
    "64x64",
    "turned:256x64",
  ]);
  assertEquals(names(productWays(dawn!, { ...shape, ...kinds })), [
    "matrix:128x128",
    "matrix:128x64",
  ]);
  const long = { ...shape, ...kinds, m: 512, n: 128, k: 262144, layout: "tn" as const };
  assert(names(productWays(dawn!, long)).includes("matrix:128x128/64"));
  const kernel = gpuKernel(dawn!, long);
  assertEquals(ruleWay(dawn!, long).splits, splitsOf(kernel, long));
  assert(!turnPays(kernel, long));
});

Deno.test("a choice that the device does not offer is refused with the question, the value and what there is", () => {
  const gpu = profileGpu(GPUS.at(-2)!);
  const c = { m: 256, n: 128, k: 64, layout: "nn", dtype: "f32", padding: 0 } as const;
  const id = "product.nn.256x128x64.f32.f32.f32";
  assertThrows(
    () => record(gpu, { ...c, choices: { [id]: "matrix:128x128" } }),
    RangeError,
    `The tuning answers ${id} with "matrix:128x128"; this device offers 64x64, 128x128, 256x64, 128x64`,
  );
  // Names of an object's own methods are no answers.
  assertEquals(record(gpu, { ...c, choices: { toString: "x" } }).questions.length, 1);
});

Deno.test("every way gives the product", async (t) => {
  const gpu = await openTestGpu({ software: false });
  const cases = [
    // Each variant of a kernel takes a software adapter a second to compile: of these those that cut the sum.
    { m: 190, n: 118, k: 600, layout: "nn", dtype: "f32", every: 7, ways: /\// },
    // Long enough to be worth transposing.
    { m: 385, n: 637, k: 2060, layout: "nt", dtype: "f16", every: 96, ways: /./ },
  ] as const;
  for (const { m, n, k, layout, dtype, every, ways } of cases) {
    using inputs = new Inputs(gpu);
    const operand = (name: string, rows: number, columns: number, seed: number) => {
      const stride = 8 * Math.ceil(columns / 8);
      const random = noise(rows * stride, seed);
      const values = dtype === "f16" ? Float64Array.from(Float16Array.from(random)) : random;
      for (let i = 0; i < values.length; i++) if (i % stride >= columns) values[i] = 0;
      return {
        matrix: matrix(inputs.tensor(name, [rows, stride], { values, dtype }), { columns }),
        at: (row: number, column: number) => values[row * stride + column]!,
      };
    };
    const a = operand("a", m, k, 1);
    const b = layout === "nt" ? operand("b", n, k, 2) : operand("b", k, n, 2);
    const stride = 4 * Math.ceil(n / 4);
    const out = inputs.tensor("c", [m, stride]);
    const expected: number[] = [];
    for (let row = 0; row < m; row += every) {
      for (let column = 0; column < n; column++) {
        let sum = 0;
        for (let i = 0; i < k; i++) {
          sum += a.at(row, i) * (layout === "nt" ? b.at(column, i) : b.at(i, column));
        }
        expected.push(sum);
      }
    }
    const product = (plan: Plan) => {
      const c = matrix(out, { columns: n });
      gemm(plan, "product", { a: a.matrix, b: b.matrix, c, layout });
      return { out };
    };
    const asked = new Plan(gpu, "asked");
    product(asked);
    const [{ question }] = asked.questions as [(typeof asked.questions)[number]];
    assert(question.candidates.length > 4, question.candidates.join(" "));
    for (const name of question.candidates.filter((name) => ways.test(name) && tested(name))) {
      await t.step(`${question.id}: ${name}`, async () => {
        const tuning = { [question.id]: name };
        const { out } = await runOnce(gpu, product, { tuning });
        const compared = [];
        for (let row = 0; row < m; row += every) {
          compared.push(...out.subarray(row * stride, row * stride + n));
        }
        assertNear(compared, expected, { tolerance: 1e-5, what: name });
      });
    }
  }
});
