import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { Plan } from "../../gpu/plan.ts";
import { openTestGpu, testDevices } from "../../gpu/testing.ts";
import { Tensor } from "../../gpu/tensor.ts";
import { sortByKey } from "./sort.ts";
import { Inputs, runOnce } from "../testing.ts";

const VARIANTS = testDevices([
  ["software", { software: true }],
  ["software without subgroups", { software: true, subgroups: false }],
  ["no subgroups", { software: false, subgroups: false }],
  ["subgroups", { software: false }],
]);

for (const [variant, restrict] of VARIANTS) {
  Deno.test(`sortByKey() is the stable sort of any keys, ${variant}`, async (t) => {
    const gpu = await openTestGpu(restrict);
    const check = async (keys: number[], bound: number) => {
      using inputs = new Inputs(gpu);
      const input = inputs.tensor("keys", [keys.length], { values: keys, dtype: "u32" });
      const sorted = await runOnce(gpu, (plan) => ({
        ...sortByKey(plan, "sort", { keys: input, bound }),
      }));
      const order = keys.map((_, i) => i).sort((a, b) => keys[a]! - keys[b]! || a - b);
      assertEquals(Array.from(sorted.order), order);
      assertEquals(Array.from(sorted.keys), order.map((i) => keys[i]!));
      const counts = new Uint32Array(bound + 1);
      for (const key of keys) counts[key + 1]! += 1;
      for (let j = 1; j <= bound; j++) counts[j]! += counts[j - 1]!;
      assertEquals(Array.from(sorted.begin), Array.from(counts));
    };
    await t.step("properties", () =>
      fc.assert(
        fc.asyncProperty(
          fc.integer({ min: 1, max: 700 }).chain((bound) =>
            fc.tuple(
              fc.array(fc.integer({ min: 0, max: bound - 1 }), { minLength: 1, maxLength: 900 }),
              fc.constant(bound),
            )
          ),
          ([keys, bound]) => check(keys, bound),
        ),
        { numRuns: 12, seed: 1 },
      ));
    await t.step("many blocks, wide keys", async () => {
      let state = 1;
      const keys = Array.from({ length: 300_011 }, () => {
        state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
        return (state >>> 8) % 70001;
      });
      await check(keys, 70001);
    });
    // Rows of more than 1024 blocks; the smallest blocks are those without subgroups.
    if (variant === "no subgroups") {
      await t.step("more blocks than a workgroup scans at once", async () => {
        const keys = Array.from({ length: 2_200_013 }, (_, i) => Math.imul(i, 2654435761) >>> 31);
        await check(keys, 2);
      });
    }
    await t.step("one key for all", () => check(Array(5000).fill(3), 5));
    await t.step("few keys of several passes", () => {
      const keys = Array.from({ length: 777 }, (_, i) => Math.imul(i, 2654435761) >>> 19);
      return check(keys, 8192);
    });
  });
}

Deno.test("sortByKey() refuses keys that are not u32 and a bound of nothing", async () => {
  const gpu = await openTestGpu();
  const plan = new Plan(gpu, "sort");
  const floats = new Tensor("x", [4]);
  assertThrows(() => sortByKey(plan, "s", { keys: floats, bound: 4 }), TypeError, "expected u32");
  const keys = new Tensor("x", [4], { dtype: "u32" });
  assertThrows(() => sortByKey(plan, "s", { keys, bound: 0 }), RangeError, "bound is 0");
});
