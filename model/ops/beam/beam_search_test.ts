import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import type { Capabilities } from "../../gpu/capabilities.ts";
import type { Gpu } from "../../gpu/device.ts";
import { Plan } from "../../gpu/plan.ts";
import { Tensor } from "../../gpu/tensor.ts";
import { openTestGpu } from "../../gpu/testing.ts";
import { searchBeams as referenceSearch } from "../../reference/ffn/beam.ts";
import { topK } from "../../reference/ffn/product_key.ts";
import { softmax } from "../../reference/matrix.ts";
import { assertNear, Inputs, noise, runOnce } from "../testing.ts";
import { beamCounts, bestIds, searchBeams } from "./beam_search.ts";

const DEVICES: readonly (readonly [string, Partial<Capabilities>])[] = [
  ["software", { software: true }],
  ["workgroups", { software: false }],
];

async function best(gpu: Gpu, scores: Float64Array, sizes: { size: number; kept: number }) {
  using inputs = new Inputs(gpu);
  const stride = Math.ceil(sizes.size / 4) * 4;
  const rows = scores.length / stride;
  const tensor = inputs.tensor("scores", [rows, stride], { values: scores });
  return await runOnce(gpu, (plan) => {
    const { value, id } = bestIds(plan, "best", { scores: tensor, ...sizes });
    return { value, id };
  });
}

/** Sizes of a search, and candidates of every row and axis, best first: whole numbers, exact in any sum. */
interface Case {
  readonly rows: number;
  readonly axes: number;
  readonly kept: number;
  readonly beam_width: number;
  readonly top_k: number;
  readonly spread: number;
  readonly seed: number;
}

/** Values before the temperature, which doubles those of odd axes. */
function candidatesOf({ rows, axes, kept, spread, seed }: Case): Float64Array[] {
  const values = noise(rows * axes * kept, seed).map((v) => Math.round(spread * v));
  return Array.from(
    { length: rows * axes },
    (_, i) => values.slice(i * kept, (i + 1) * kept).sort((a, b) => b - a),
  );
}

const idOf = (i: number, position: number) => 10 * i + 3 * position;

async function search(gpu: Gpu, test: Case) {
  const { rows, axes, kept, top_k, beam_width } = test;
  const lists = candidatesOf(test);
  using inputs = new Inputs(gpu);
  const value = inputs.tensor("value", [rows * axes, kept], {
    values: lists.flatMap((list) => [...list]),
  });
  const id = inputs.tensor("id", [rows * axes, kept], {
    values: lists.flatMap((list, i) => Array.from(list, (_, at) => idOf(i % axes, at))),
    dtype: "u32",
  });
  const logit_scale = inputs.tensor("logit_scale", [1, axes], { values: Array(axes).fill(0) });
  return await runOnce(gpu, (plan) => {
    const coords = plan.tensor("coords", [rows, top_k, axes], { dtype: "u32" });
    const score = plan.tensor("score", [rows, top_k]);
    searchBeams(plan, "search", {
      candidates: { value, id },
      logit_scale,
      axes,
      axis_size: 1000,
      beam_width,
      top_k,
      first: 0,
      coords,
      score,
    });
    return { coords, score };
  });
}

/** Every sum of one value from each axis. */
function allSums(axes: readonly Float64Array[]): number[] {
  return axes.reduce<number[]>(
    (sums, values) => sums.flatMap((sum) => Array.from(values, (v) => sum + v)),
    [0],
  );
}

const cases = fc.record({
  rows: fc.integer({ min: 1, max: 4 }),
  axes: fc.integer({ min: 1, max: 4 }),
  kept: fc.integer({ min: 1, max: 6 }),
  beam_width: fc.integer({ min: 1, max: 9 }),
  // Few values, so that sums tie everywhere, or many.
  spread: fc.constantFrom(1, 2, 5000),
  seed: fc.integer({ min: 0, max: 999 }),
}).chain((all) =>
  fc.integer({ min: 1, max: Math.min(all.beam_width, all.kept ** all.axes) })
    .map((top_k) => ({ ...all, top_k }))
);

for (const [device, restrict] of DEVICES) {
  Deno.test(`bestIds() gives ties to the lower id, in one tile and in several, ${device}`, async () => {
    const gpu = await openTestGpu(restrict);
    for (
      const [size, kept] of [[5, 4], [61, 7], [61, 61], [1, 1], [512, 32], [2501, 300]] as const
    ) {
      for (const spread of [2, 1e6]) {
        const stride = Math.ceil(size / 4) * 4;
        const scores = noise(7 * stride, size + spread).map((v) => Math.round(spread * v));
        const { value, id } = await best(gpu, scores, { size, kept });
        for (let row = 0; row < 7; row++) {
          const own = scores.subarray(row * stride, row * stride + size);
          const expected = topK(own, kept);
          const at = row * kept;
          assertEquals([...id.subarray(at, at + kept)], expected);
          assertEquals([...value.subarray(at, at + kept)], expected.map((i) => own[i]!));
        }
      }
    }
  });

  Deno.test(`bestIds() keeps ids that exist whatever the scores, ${device}`, async () => {
    const gpu = await openTestGpu(restrict);
    const scores = new Float64Array(24).map((_, i) => [NaN, -Infinity, i][i % 3]!);
    scores.fill(NaN, 12);
    const { id } = await best(gpu, scores, { size: 11, kept: 11 });
    for (const row of [0, 1]) {
      const kept = [...id.subarray(11 * row, 11 * row + 11)];
      assertEquals(kept.toSorted((a, b) => a - b), Array.from({ length: 11 }, (_, i) => i));
    }
  });

  Deno.test(`searchBeams() is the reference's search and finds the best of all sums, ${device}`, async () => {
    const gpu = await openTestGpu(restrict);
    await fc.assert(
      fc.asyncProperty(cases, async (test) => {
        const { rows, axes, top_k, beam_width } = test;
        const { coords, score } = await search(gpu, test);
        const lists = candidatesOf(test);
        for (let row = 0; row < rows; row++) {
          const own = lists.slice(row * axes, (row + 1) * axes);
          const paths = referenceSearch(own, { width: beam_width, keep: top_k });
          const at = row * top_k * axes;
          assertEquals(
            [...coords.subarray(at, at + top_k * axes)],
            paths.flatMap((path) => path.map((position, a) => 1000 * a + idOf(a, position))),
          );
          // A beam that is kept begins with one of as many best beams, so none is lost.
          const sums = paths.map((path) => path.reduce((sum, i, a) => sum + own[a]![i]!, 0));
          assertEquals(sums, allSums(own).sort((a, b) => b - a).slice(0, top_k));
          assertNear(
            score.subarray(row * top_k, (row + 1) * top_k),
            softmax(Float64Array.from(sums)),
            { tolerance: 1e-6, what: "scores" },
          );
        }
      }),
      { numRuns: 25, seed: 5 },
    );
  });

  Deno.test(`searchBeams() at the published sizes and at the largest, ${device}`, async () => {
    const gpu = await openTestGpu(restrict);
    const published = { axes: 6, kept: 32, beam_width: 64, top_k: 8 };
    const largest = { axes: 12, kept: 128, beam_width: 128, top_k: 64 };
    for (const sizes of [published, largest]) {
      const test = { ...sizes, rows: 3, spread: 40, seed: 4 };
      const { coords } = await search(gpu, test);
      const lists = candidatesOf(test);
      const expected = [0, 1, 2].flatMap((row) =>
        referenceSearch(lists.slice(row * sizes.axes, (row + 1) * sizes.axes), {
          width: sizes.beam_width,
          keep: sizes.top_k,
        }).flatMap((path) => path.map((position, a) => 1000 * a + idOf(a, position)))
      );
      assertEquals([...coords], expected);
    }
  });
}

Deno.test("beamCounts() grows to the width and ends with what is kept", () => {
  const sizes = { axes: 4, candidates: 3, beam_width: 20, top_k: 5 };
  assertEquals(beamCounts(sizes), [3, 9, 20, 5]);
  assertEquals(beamCounts({ ...sizes, axes: 1 }), [3]);
  assertEquals(beamCounts({ ...sizes, beam_width: 2, top_k: 2 }), [2, 2, 2, 2]);
});

Deno.test("searchBeams() refuses to keep more than there are beams", async () => {
  const gpu = await openTestGpu();
  const plan = new Plan(gpu, "few");
  const t = (name: string, shape: number[]) => new Tensor(name, shape);
  const candidates = { value: t("value", [2, 3]), id: new Tensor("id", [2, 3], { dtype: "u32" }) };
  const run = () =>
    searchBeams(plan, "few", {
      candidates,
      logit_scale: t("logit_scale", [1, 2]),
      axes: 2,
      axis_size: 9,
      beam_width: 4,
      top_k: 5,
      first: 0,
      coords: new Tensor("coords", [5, 2], { dtype: "u32" }),
      score: t("score", [5]),
    });
  assertThrows(run, RangeError, "4 beams are fewer than the 5 to keep");
  assert(plan.steps.length === 0);
});
