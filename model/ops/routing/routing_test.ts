import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import type { Gpu } from "../../gpu/device.ts";
import { openTestGpu, testDevices } from "../../gpu/testing.ts";
import { chooseExperts } from "../../reference/ffn/product_key.ts";
import { route, routeBackward, type RoutingSizes } from "./routing.ts";
import { countUsage } from "./usage.ts";
import { subgroupSize } from "../subgroup.ts";
import { assertNear, Inputs, noise, runOnce } from "../testing.ts";

const HALF = 4;

interface Case {
  readonly sizes: RoutingSizes;
  readonly query: Float64Array;
  readonly keys: readonly [Float64Array, Float64Array];
}

/** Random queries and sub-keys; of few whole numbers when `ties`, so that scores and sums tie exactly. */
function randomCase(sizes: Omit<RoutingSizes, "d_query">, seed: number, ties: boolean): Case {
  const make = (count: number, s: number) =>
    noise(count, s).map((v) => ties ? Math.round(1.5 * v) : Math.fround(v));
  return {
    sizes: { ...sizes, d_query: 2 * HALF },
    query: make(sizes.tokens * sizes.heads * 2 * HALF, seed),
    keys: [make(sizes.sub_keys * HALF, seed + 1), make(sizes.sub_keys * HALF, seed + 2)],
  };
}

/** Scores of a row on an axis, rounded to f32 as the GPU holds them; exact when everything is a whole number. */
function scores({ sizes, query, keys }: Case, row: number, axis: 0 | 1): Float64Array {
  return Float64Array.from({ length: sizes.sub_keys }, (_, key) => {
    let sum = 0;
    for (let i = 0; i < HALF; i++) {
      sum += query[(2 * row + axis) * HALF + i]! * keys[axis][key * HALF + i]!;
    }
    return sum;
  });
}

async function run(gpu: Gpu, test: Case, score_bytes?: number) {
  using inputs = new Inputs(gpu);
  const { sizes } = test;
  const query = inputs.tensor("query", [sizes.tokens, sizes.heads * sizes.d_query], {
    values: test.query,
  });
  const sub_keys = [0, 1].map((axis) =>
    inputs.tensor(`k${axis}`, [sizes.sub_keys, HALF], { values: test.keys[axis]! })
  );
  return await runOnce(gpu, (plan) => {
    const { index, score } = route(plan, "route", {
      sizes,
      query,
      sub_keys: [sub_keys[0]!, sub_keys[1]!],
      ...(score_bytes && { score_bytes }),
    });
    return { index, score };
  });
}

function expectedIndex(test: Case): number[] {
  const { tokens, heads, top_k } = test.sizes;
  return Array.from(
    { length: tokens * heads },
    (_, row) => chooseExperts(scores(test, row, 0), scores(test, row, 1), top_k),
  ).flat();
}

/** The variants of the choice: by invocations, by workgroups, by subgroups. */
const VARIANTS = testDevices([
  ["software", { software: true }],
  ["workgroups", { software: false, subgroups: false }],
  ["subgroups", { software: false }],
]);

for (const [variant, restrict] of VARIANTS) {
  Deno.test(`route() gives ties to the lower expert, ${variant}`, async () => {
    const gpu = await openTestGpu(restrict);
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 5, max: 40 }),
        fc.constantFrom(1, 5),
        fc.integer({ min: 0, max: 999 }),
        async (sub_keys, top_k, seed) => {
          const test = randomCase({ tokens: 7, heads: 2, top_k, sub_keys }, seed, true);
          const { index } = await run(gpu, test);
          assertEquals(Array.from(index), expectedIndex(test));
        },
      ),
      { numRuns: 10, seed: 3 },
    );
  });

  Deno.test(`route() with 1024 sub-keys and 64 experts a head, ${variant}`, async () => {
    const gpu = await openTestGpu(restrict);
    for (const ties of [true, false]) {
      const sizes = { tokens: 5, heads: 2, top_k: 64, sub_keys: 1024 };
      const test = randomCase(sizes, 21, ties);
      const { index, score } = await run(gpu, test);
      if (ties) assertEquals(Array.from(index), expectedIndex(test));
      for (let row = 0; row < 10; row++) {
        const [s1, s2] = [scores(test, row, 0), scores(test, row, 1)];
        const sums = (experts: ArrayLike<number>) =>
          Float64Array.from(experts, (e) => s1[Math.floor(e / 1024)]! + s2[e % 1024]!);
        const kept = index.subarray(64 * row, 64 * row + 64);
        assertEquals(new Set(kept).size, 64);
        const best = sums(chooseExperts(s1, s2, 64));
        assertNear(sums(kept), best, { tolerance: 1e-6, what: "kept sums" });
        const weights = best.map((v) => Math.exp(v - best[0]!));
        const total = weights.reduce((a, b) => a + b);
        assertNear(score.subarray(64 * row, 64 * row + 64), weights.map((w) => w / total), {
          tolerance: 1e-5,
          what: "scores",
        });
      }
    }
  });

  Deno.test(`route() in chunks of tokens is the same bits, ${variant}`, async () => {
    const gpu = await openTestGpu(restrict);
    const test = randomCase({ tokens: 23, heads: 3, top_k: 5, sub_keys: 13 }, 5, false);
    // Chunks of eight tokens: on a GPU up to 16 rows are multiplied by a kernel that adds in another order.
    assertEquals(await run(gpu, test, 16 * 4 * 3 * 8), await run(gpu, test));
  });

  Deno.test(`route() keeps experts that exist whatever the scores, ${variant}`, async () => {
    const gpu = await openTestGpu(restrict);
    const test = randomCase({ tokens: 6, heads: 1, top_k: 5, sub_keys: 9 }, 7, false);
    test.query.fill(NaN, 0, 8);
    test.query.fill(Infinity, 8, 16);
    test.query.fill(-1e38, 16, 24);
    const { index } = await run(gpu, test);
    assert(index.every((expert) => expert < 81), String(index));
    // The rows that are sound are not touched by those that are not.
    assertEquals(Array.from(index).slice(15), expectedIndex(test).slice(15));
  });
}

Deno.test("route() by subgroups gives the bits that workgroups give", async () => {
  const [by, others] = await Promise.all([
    openTestGpu({ software: false }),
    openTestGpu({ software: false, subgroups: false }),
  ]);
  assert(subgroupSize(by.capabilities), "a device with subgroups of one size");
  for (const [top_k, sub_keys] of [[8, 61], [8, 256], [5, 40], [1, 7], [4, 64]] as const) {
    for (const ties of [true, false]) {
      const test = randomCase({ tokens: 41, heads: 3, top_k, sub_keys }, 31 + sub_keys, ties);
      // Rows whose scores tie throughout, but for the two zeros, and rows that overflow.
      test.query.fill(0, 0, 16);
      test.query.fill(-1e38, 16, 24);
      const [a, b] = [await run(by, test), await run(others, test)];
      assertEquals(a.index, b.index);
      assertEquals(a.score.subarray(3 * top_k), b.score.subarray(3 * top_k));
    }
  }
});

Deno.test("routeBackward() in chunks of tokens gives what one chunk gives, on every kind of device", async () => {
  const test = randomCase({ tokens: 23, heads: 3, top_k: 5, sub_keys: 13 }, 9, false);
  const { sizes } = test;
  const all = [];
  const chunks = [1 << 20, 16 * 4 * 3 * 4];
  const runs = VARIANTS.flatMap(([, device]) => chunks.map((bytes) => [device, bytes] as const));
  for (const [device, score_bytes] of runs) {
    const gpu = await openTestGpu(device);
    using inputs = new Inputs(gpu);
    const query = inputs.tensor("query", [23, 24], { values: test.query });
    const k1 = inputs.tensor("k1", [13, HALF], { values: test.keys[0] });
    const k2 = inputs.tensor("k2", [13, HALF], { values: test.keys[1] });
    const dscore = inputs.tensor("dscore", [23, 15], { values: noise(23 * 15, 4) });
    const [dk1, dk2] = ["dk1", "dk2"].map((name) => inputs.tensor(name, [13, HALF]));
    all.push(
      await runOnce(gpu, (plan) => {
        const input = { sizes, query, sub_keys: [k1, k2] as const, score_bytes, balance: 0.3 };
        const routed = route(plan, "route", input);
        const dquery = plan.tensor("dquery", [23, 24]);
        const gradients = [
          { tensor: dk1!, epilogue: "none" },
          { tensor: dk2!, epilogue: "none" },
        ] as const;
        routeBackward(plan, "back", { ...input, routed, dscore, dquery, gradients });
        return { dquery, dk1: dk1!, dk2: dk2!, balance: routed.balance!.value };
      }),
    );
  }
  for (const name of ["dquery", "dk1", "dk2", "balance"] as const) {
    for (const one of all) {
      assertNear(one[name], all[0]![name], { tolerance: 1e-5, what: name });
    }
  }
});

Deno.test("countUsage() counts the experts of tokens that predict", async () => {
  const gpu = await openTestGpu();
  using inputs = new Inputs(gpu);
  const index = inputs.tensor("index", [3, 2], { values: [5, 5, 1, 0, 1, 5], dtype: "u32" });
  const targets = inputs.tensor("targets", [3], { values: [7, 0xffffffff, 0], dtype: "u32" });
  const counts = inputs.tensor("counts", [6], { dtype: "u32" });
  const out = await runOnce(gpu, (plan) => {
    countUsage(plan, "usage", { index, targets, counts });
    return { counts };
  });
  assertEquals(Array.from(out.counts), [0, 1, 0, 0, 0, 3]);
});
