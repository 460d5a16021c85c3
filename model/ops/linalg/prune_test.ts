import { assert, assertEquals, assertThrows } from "@std/assert";
import { Plan } from "../../gpu/plan.ts";
import { openTestGpu } from "../../gpu/testing.ts";
import { matrix } from "../../reference/matrix.ts";
import { hessian, inverseFactor, sparsegpt } from "../../reference/sparse/sparsegpt.ts";
import { levelsOf, prunedOf, PRUNING, type Pruning } from "../../sparse/options.ts";
import { assertNear, Inputs, noise, runOnce } from "../testing.ts";
import { PRUNED, pruneMatrix } from "./prune.ts";

/** Numbers of rows with their padding. */
function padded(values: ArrayLike<number>, columns: number): Float64Array {
  const stride = Math.ceil(columns / 4) * 4;
  return Float64Array.from({ length: values.length / columns * stride }, (_, i) => {
    const [r, c] = [Math.floor(i / stride), i % stride];
    return c < columns ? values[r * columns + c]! : 0;
  });
}

/** Numbers of rows without their padding. */
function unpadded(values: ArrayLike<number>, columns: number): number[] {
  const stride = Math.ceil(columns / 4) * 4;
  return Array.from(values).filter((_, i) => i % stride < columns);
}

interface Sizes {
  out: number;
  inputs: number;
  dead?: readonly number[];
  /** Values of weights lie on so many steps a unit, so that many saliencies are equal. */
  steps?: number;
}

/** Prunes a matrix on the device and in float64, with the factor of float64 rounded to f32. */
async function both(software: boolean, { out, inputs, dead = [], steps }: Sizes, pruning: Pruning) {
  const gpu = await openTestGpu({ software });
  using memory = new Inputs(gpu);
  const rows = 2 * inputs + 5;
  const x = noise(rows * inputs, 3).map((v, i) => dead.includes(i % inputs) ? 0 : v);
  const w = noise(out * inputs, 7).map((v) => steps ? Math.round(v * steps) / steps : v);
  const h = hessian(matrix(rows, inputs, x));
  if (steps) {
    // Inputs that have nothing to do with each other leave equal saliencies equal.
    h.data.fill(0);
    for (let i = 0; i < inputs; i++) h.data[i * (inputs + 1)] = 1;
  }
  const expected = sparsegpt(matrix(out, inputs, w), h, pruning);
  const { u } = inverseFactor(h, pruning.damping);
  const width = Math.ceil(inputs / 4) * 4;
  const { bits, symmetric, pattern, sparsity } = pruning;
  const grid = memory.tensor("grid", [out, 2]);
  const found = await runOnce(gpu, (plan) => {
    const given = { values: padded(w, inputs) };
    const results = {
      w: memory.tensor("w", [out, width], { values: given.values.map(() => NaN) }),
      codes: memory.tensor("codes", [out, width], { dtype: "u32" }),
      losses: memory.tensor("losses", [Math.ceil(out / 4)]),
    };
    pruneMatrix(plan, "prune", {
      ...results,
      dense: memory.tensor("dense", [out, width], given),
      live: memory.tensor("live", [width], {
        values: Float64Array.from({ length: width }, (_, i) => dead.includes(i) ? 0 : 1),
      }),
      u: memory.tensor("u", [inputs, width], { values: padded(u.data, inputs) }),
      block: pruning.block,
      choice: pattern
        ? { kind: "pattern", zeros: pattern[0], group: pattern[1] }
        : { kind: "sparsity", prunedOf: (n) => prunedOf(n, sparsity) },
      ...(bits && { levels: { ...levelsOf({ bits, symmetric }), symmetric, grid } }),
    });
    return { ...results, grid };
  });
  return { expected, found, inputs };
}

const cases: [string, Sizes, Partial<Pruning>][] = [
  ["half of each block", { out: 9, inputs: 37 }, { sparsity: 0.5, block: 16 }],
  ["no weight", { out: 5, inputs: 20 }, { block: 8 }],
  ["almost all weights", { out: 5, inputs: 20 }, { sparsity: 0.99, block: 8 }],
  ["blocks that end within a vec4", { out: 6, inputs: 33 }, { sparsity: 0.4, block: 10 }],
  ["one block of all", { out: 6, inputs: 33 }, { sparsity: 0.4 }],
  ["a block wider than a workgroup", { out: 5, inputs: 301 }, { sparsity: 0.5, block: 150 }],
  ["one row and one column", { out: 1, inputs: 1 }, { sparsity: 0.5 }],
  ["dead inputs", { out: 7, inputs: 24, dead: [0, 5, 23] }, { sparsity: 0.5, block: 8 }],
  ["equal saliencies", { out: 70, inputs: 80, steps: 2 }, { sparsity: 0.5, block: 64 }],
  ["more equal saliencies than two bytes count", { out: 1100, inputs: 64, steps: 2 }, {
    sparsity: 0.5,
    block: 64,
  }],
  ["two of four", { out: 9, inputs: 40 }, { pattern: [2, 4], block: 16 }],
  ["three of five", { out: 9, inputs: 40 }, { pattern: [3, 5], block: 20 }],
  ["equal saliencies, four of eight", { out: 9, inputs: 32, steps: 1 }, { pattern: [4, 8] }],
  ["a pattern over several columns of an invocation", { out: 3, inputs: 300 }, {
    pattern: [50, 100],
    block: 200,
  }],
  ["four bits", { out: 9, inputs: 35 }, { bits: 4, block: 16 }],
  ["three symmetric bits", { out: 9, inputs: 35 }, { bits: 3, symmetric: true, block: 16 }],
  ["two of four in four bits", { out: 9, inputs: 40 }, { pattern: [2, 4], bits: 4, block: 16 }],
  ["half in eight bits", { out: 9, inputs: 35 }, { sparsity: 0.5, bits: 8, block: 16 }],
];

for (const [what, sizes, changes] of cases) {
  Deno.test(`pruneMatrix() prunes ${what} as float64 does`, async () => {
    for (const software of [true, false]) {
      const { expected, found, inputs } = await both(software, sizes, { ...PRUNING, ...changes });
      const codes = unpadded(found.codes, inputs);
      assertEquals(codes.map((code) => code >= PRUNED ? 1 : 0), [...expected.mask]);
      const tolerance = 2e-5;
      assertNear(unpadded(found.w, inputs), expected.weight.data, { tolerance, what });
      // Padding stays zero, for products read it.
      assertEquals(
        found.w.filter((_, i) => i % (found.w.length / sizes.out) >= inputs).some((v) => v !== 0),
        false,
      );
      assertNear([found.losses.reduce((a, b) => a + b, 0)], [expected.loss], { tolerance, what });
      const { quantised } = expected;
      if (!quantised) continue;
      const { lowest } = levelsOf({ bits: changes.bits!, symmetric: changes.symmetric ?? false });
      assertEquals(codes.map((code) => code % PRUNED + lowest), [...quantised.level]);
      assertNear(found.grid.filter((_, i) => i % 2 === 0), quantised.scale, { tolerance, what });
      assertEquals([...found.grid.filter((_, i) => i % 2 === 1)], [...quantised.zero]);
      assert(codes.every((code, i) => code < PRUNED || unpadded(found.w, inputs)[i] === 0));
    }
  });
}

Deno.test("pruneMatrix() gives a row of zeros a grid", async () => {
  for (const symmetric of [true, false]) {
    const pruning = { ...PRUNING, bits: 4, symmetric };
    const { expected, found } = await both(true, { out: 2, inputs: 8, steps: 1e-9 }, pruning);
    assertEquals([...found.w].some((v) => v !== 0), false);
    assertNear([found.grid[0]!], [expected.quantised!.scale[0]!], { tolerance: 1e-6, what: "" });
  }
});

Deno.test("pruneMatrix() refuses tensors of other sizes, and blocks that no workgroup holds", async () => {
  const gpu = await openTestGpu();
  using memory = new Inputs(gpu);
  const record = (width: number, block: number) => () =>
    pruneMatrix(new Plan(gpu, "test"), "prune", {
      dense: memory.tensor("dense", [5, width]),
      live: memory.tensor("live", [1000]),
      u: memory.tensor("u", [1000, 1000]),
      w: memory.tensor("w", [5, width]),
      codes: memory.tensor("codes", [5, width], { dtype: "u32" }),
      losses: memory.tensor("losses", [2]),
      block,
      choice: { kind: "pattern", zeros: 1, group: 2 },
    });
  assertThrows(record(996, 128), RangeError, "dense of 5,996 and a factor of 1000×1000");
  assertThrows(record(1000, 1000), RangeError, "block is 1000, expected 1 to 768 columns");
});
