/** Products over groups of rows beside float64: groups of any size, without rows, with all of them; matrices whole and in parts. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import { Plan } from "../../gpu/plan.ts";
import { DEVICE_PROFILES, profileGpu } from "../../gpu/recording.ts";
import type { DType, Tensor } from "../../gpu/tensor.ts";
import { compilesSlowly, openTestGpu } from "../../gpu/testing.ts";
import { gatherRows } from "../mixture/rows.ts";
import { segmentsOf } from "../mixture/segments.ts";
import { assertNear, Inputs, noise, runOnce } from "../testing.ts";
import { gemmGrouped, gemmGroupedSums, groupTile, paddedRows } from "./gemm_grouped.ts";
import { matrixUnit } from "./matrix_unit.ts";

interface Case {
  readonly name: string;
  /** Group of each entry. */
  readonly keys: readonly number[];
  readonly groups: number;
  readonly inputs: number;
  readonly outputs: number;
  readonly dtype?: DType;
  /** Groups of the first of two parts; one part unless given. */
  readonly part?: number;
  /** Without a backward pass. */
  readonly forward?: true;
  /** Rows of a tile of a real GPU, and of matrix units where they are others. */
  readonly tile: number;
  readonly unitTile?: number;
}

const spread = (count: number, groups: number) =>
  Array.from({ length: count }, (_, i) => (i * i * 7 + 3 * i) % groups);

const CASES: readonly Case[] = [
  { name: "odd sizes", keys: spread(77, 5), groups: 5, inputs: 20, outputs: 12, tile: 32 },
  {
    name: "halves, wider than a tile",
    keys: spread(77, 5),
    groups: 5,
    inputs: 72,
    outputs: 136,
    dtype: "f16",
    tile: 32,
    unitTile: 64,
  },
  {
    name: "one group has all rows",
    keys: Array(141).fill(3),
    groups: 7,
    inputs: 36,
    outputs: 20,
    tile: 32,
  },
  {
    name: "more groups than rows, in two parts",
    keys: [11, 2, 2, 9],
    groups: 12,
    inputs: 8,
    outputs: 4,
    part: 8,
    tile: 32,
  },
  {
    name: "high tiles",
    keys: spread(601, 2),
    groups: 2,
    inputs: 28,
    outputs: 132,
    tile: 128,
  },
  {
    name: "a few rows of which no gradient is asked for",
    keys: [4, 0, 4, 1, 4],
    groups: 6,
    inputs: 140,
    outputs: 44,
    part: 4,
    forward: true,
    tile: 1,
  },
];

/** The parts of a tensor of matrices, one for each group. */
function partsOf(
  inputs: Inputs,
  name: string,
  of: { shape: readonly number[]; part: number; values: Float64Array; dtype: DType },
): Tensor[] {
  const { shape: [count, ...sizes], part, values, dtype } = of;
  const size = values.length / count!;
  return [[0, part], [part, count!]].filter(([from, to]) => from! < to!).map(([from, to]) =>
    inputs.tensor(`${name}.${from}`, [to! - from!, ...sizes], {
      values: values.subarray(from! * size, to! * size),
      dtype,
    })
  );
}

for (const software of [true, false]) {
  Deno.test(`products of groups come out right, ${software ? "software" : "tiled"}`, async (t) => {
    const gpu = await openTestGpu({ software });
    for (const each of CASES) {
      // SwiftShader takes many times as long for a kernel as llvmpipe: on it, small ones stand for all.
      if (!software && compilesSlowly() && each.tile === 128) continue;
      await t.step(each.name, async () => {
        const { keys, groups, inputs: k, outputs: n, dtype = "f32", part = groups } = each;
        using inputs = new Inputs(gpu);
        const halves = (values: Float64Array) =>
          dtype === "f16" ? Float64Array.from(Float16Array.from(values)) : values;
        const entries = keys.length;
        // Of each entry; padding is zeros.
        const [x, dy] = [halves(noise(entries * k, 1)), halves(noise(entries * n, 2))];
        const w = halves(noise(groups * k * n, 3));
        const before = noise(groups * k * n, 4);
        const gradients = !each.forward;
        const tile = groupTile(gpu.capabilities, { rows: entries, groups, gradients, dtype });
        const own = (matrixUnit(gpu.capabilities) && each.unitTile) || each.tile;
        assertEquals(tile, software ? 8 : own);
        const rows = paddedRows({ rows: entries, groups, tile });
        const starts: number[] = [];
        let row = 0;
        for (let g = 0; g < groups; g++) {
          starts.push(row);
          row += Math.ceil(keys.filter((key) => key === g).length / tile) * tile;
        }
        assert(row <= rows);
        const place = keys.map((key, i) =>
          starts[key]! + keys.slice(0, i).filter((other) => other === key).length
        );
        /** Entries at their rows. Tiles of no group hold what nobody may read. */
        const placed = (values: Float64Array, width: number) => {
          const out = new Float64Array(rows * width).fill(NaN).fill(0, 0, row * width);
          place.forEach((to, i) =>
            out.set(values.subarray(i * width, (i + 1) * width), to * width)
          );
          return out;
        };
        const a = inputs.tensor("a", [rows, k], { values: placed(x, k), dtype });
        const g = inputs.tensor("g", [rows, n], { values: placed(dy, n), dtype });
        const kept = inputs.tensor("keys", [entries, 1], { dtype: "u32", values: keys });
        const b = partsOf(inputs, "b", { shape: [groups, k, n], part, values: w, dtype });
        const sums = partsOf(inputs, "d", {
          shape: [groups, k, n],
          part,
          values: before,
          dtype: "f32",
        });
        const added = partsOf(inputs, "e", {
          shape: [groups, k, n],
          part,
          values: before,
          dtype: "f32",
        });
        const [y, dx, twice] = [
          inputs.tensor("y", [rows, n], { dtype }),
          inputs.tensor("dx", [rows, k]),
          inputs.tensor("twice", [rows, k]),
        ];
        const out: Record<string, Float32Array> = await runOnce(gpu, (plan) => {
          const segments = segmentsOf(plan, "segments", {
            keys: kept,
            experts: groups,
            drops: false,
            gradients,
            dtype,
          });
          const common = { groups: segments.groups };
          gemmGrouped(plan, "y", { ...common, a, b, c: y, layout: "nn" });
          gemmGrouped(plan, "dx", { ...common, a: g, b, c: dx, layout: "nt" });
          for (const epilogue of ["none", "accumulate"] as const) {
            gemmGrouped(plan, "twice", { ...common, a: g, b, c: twice, layout: "nt", epilogue });
            const c = (epilogue === "none" ? sums : added).map((tensor) => ({ tensor, epilogue }));
            if (gradients) gemmGroupedSums(plan, "dw", { ...common, a, b: g, c });
          }
          return {
            y,
            dx,
            twice,
            place: segments.place,
            ...Object.fromEntries([...sums, ...added].map((tensor) => [tensor.name, tensor])),
          };
        });
        assertEquals(Array.from(out["place"]!), place);
        /** Rows of entries, without padding. */
        const taken = (values: Float32Array, width: number) =>
          place.flatMap((from) => Array.from(values.subarray(from * width, (from + 1) * width)));
        const at = (key: number, i: number, j: number) => w[(key * k + i) * n + j]!;
        const sumOver = (count: number, term: (i: number) => number) => {
          let sum = 0;
          for (let i = 0; i < count; i++) sum += term(i);
          return sum;
        };
        const expected = keys.flatMap((key, e) =>
          Array.from({ length: n }, (_, j) => sumOver(k, (i) => x[e * k + i]! * at(key, i, j)))
        );
        const back = keys.flatMap((key, e) =>
          Array.from({ length: k }, (_, i) => sumOver(n, (j) => dy[e * n + j]! * at(key, i, j)))
        );
        const tolerance = 3e-6;
        assertNear(taken(out["y"]!, n), expected, {
          tolerance: dtype === "f16" ? 6e-4 : tolerance,
          what: "nn",
        });
        assertNear(taken(out["dx"]!, k), back, { tolerance, what: "nt" });
        assertNear(taken(out["twice"]!, k), back.map((v) => 2 * v), { tolerance, what: "added" });
        if (!gradients) return;
        const dw = new Float64Array(groups * k * n);
        keys.forEach((key, e) => {
          for (let i = 0; i < k; i++) {
            for (let j = 0; j < n; j++) {
              dw[(key * k + i) * n + j]! += x[e * k + i]! * dy[e * n + j]!;
            }
          }
        });
        const whole = (tensors: readonly Tensor[]) =>
          tensors.flatMap(({ name }) => Array.from(out[name]!));
        const none = whole(sums);
        assertNear(none, dw, { tolerance, what: "tn" });
        assertNear(whole(added), dw.map((v, i) => v + before[i]!), { tolerance, what: "tn added" });
        for (let key = 0; key < groups; key++) {
          if (keys.includes(key)) continue;
          // Exactly zero, and exactly what was there.
          const [from, to] = [key * k * n, (key + 1) * k * n];
          assert(none.slice(from, to).every((v) => v === 0));
          assertEquals(whole(added).slice(from, to), Array.from(before.subarray(from, to)));
        }
      });
    }
  });
}

Deno.test({
  name: "large products of groups come out right by way of transposes",
  // SwiftShader takes minutes for so many operations.
  ignore: compilesSlowly(),
  async fn(t) {
    const gpu = await openTestGpu({ software: false });
    const [entries, groups] = [600, 2];
    for (
      const [layout, dtype, k, n] of [
        ["nn", "f32", 2048, 2560],
        ["nt", "f16", 2048, 2568],
      ] as const
    ) {
      await t.step(`${layout} ${dtype}`, async () => {
        using inputs = new Inputs(gpu);
        const keys = spread(entries, groups);
        const halves = (values: Float64Array) =>
          dtype === "f16" ? Float64Array.from(Float16Array.from(values)) : values;
        const w = halves(noise(groups * k * n, 1));
        const kept = inputs.tensor("keys", [entries, 1], { dtype: "u32", values: keys });
        const shape = layout === "nn" ? [groups, k, n] : [groups, n, k];
        const b = [inputs.tensor("b", shape, { values: w, dtype })];
        const x = halves(noise(entries * k, 2));
        const rows = paddedRows({ rows: entries, groups, tile: 128 });
        const source = inputs.tensor("x", [entries, k], { values: x, dtype });
        let names: readonly string[] = [];
        const { y, place } = await runOnce(gpu, (plan) => {
          const segments = segmentsOf(plan, "segments", {
            keys: kept,
            experts: groups,
            drops: false,
            gradients: true,
            dtype,
          });
          const a = plan.tensor("a", [rows, k], { dtype });
          const y = plan.tensor("y", [rows, n]);
          gatherRows(plan, "gather", { segments, x: source, out: a });
          const before = plan.steps.length;
          gemmGrouped(plan, "y", { a, b, c: y, layout, groups: segments.groups });
          names = plan.steps.slice(before).map((step) =>
            step.kind === "dispatch" ? step.call.name : step.kind
          );
          return { y, place: segments.place };
        });
        const tiled = layout === "nn"
          ? ["transpose", "gemm_tiled"]
          : ["transpose_halves", "transpose_halves", "gemm_tiled"];
        // Matrix units take halves as they are stored.
        const units = dtype === "f16" && matrixUnit(gpu.capabilities);
        assertEquals(names, units ? ["gemm_matrix"] : tiled);
        for (let e = 0; e < entries; e += 67) {
          const expected = Array.from({ length: n }, (_, j) => {
            let sum = 0;
            for (let i = 0; i < k; i++) {
              const at = layout === "nn" ? (keys[e]! * k + i) * n + j : (keys[e]! * n + j) * k + i;
              sum += x[e * k + i]! * w[at]!;
            }
            return sum;
          });
          const row = y.subarray(place[e]! * n, (place[e]! + 1) * n);
          assertNear(row, expected, { tolerance: 1e-5, what: `row of entry ${e}` });
        }
      });
    }
  },
});

Deno.test("sums over more rows than a software adapter's loops go round are whole", async () => {
  const gpu = await openTestGpu({ software: true });
  using inputs = new Inputs(gpu);
  // The second group has all rows but one, and crosses the end of a dispatch's range.
  const [entries, groups, width] = [66000, 3, 4];
  const keys = new Uint32Array(entries).fill(1).fill(0, 0, 1);
  const [x, dy] = [noise(entries * width, 1), noise(entries * width, 2)];
  const kept = inputs.tensor("keys", [entries, 1], { dtype: "u32", values: keys });
  const sources = [x, dy].map((values, i) =>
    inputs.tensor(`source ${i}`, [entries, width], { values })
  );
  const d = inputs.tensor("d", [groups, width, width]);
  let dispatches = 0;
  const { sum } = await runOnce(gpu, (plan) => {
    const segments = segmentsOf(plan, "segments", {
      keys: kept,
      experts: groups,
      drops: false,
      gradients: true,
      dtype: "f32",
    });
    const [a, b] = sources.map((source, i) => {
      const out = plan.tensor(`rows ${i}`, [segments.groups.rows, width]);
      gatherRows(plan, "gather", { segments, x: source, out });
      return out;
    }) as [Tensor, Tensor];
    const before = plan.steps.length;
    const c = [{ tensor: d, epilogue: "none" as const }];
    gemmGroupedSums(plan, "d", { a, b, c, groups: segments.groups });
    dispatches = plan.steps.length - before;
    return { sum: d };
  });
  assertEquals(dispatches, 2);
  const expected = new Float64Array(groups * width * width);
  keys.forEach((key, e) => {
    for (let i = 0; i < width; i++) {
      for (let j = 0; j < width; j++) {
        expected[(key * width + i) * width + j]! += x[e * width + i]! * dy[e * width + j]!;
      }
    }
  });
  assertNear(sum, expected, { tolerance: 2e-5, what: "sums" });
  assert(sum.slice(2 * width * width).every((v) => v === 0));
});

Deno.test("a real GPU takes tiles by sizes and capabilities", () => {
  for (const profile of DEVICE_PROFILES.filter(({ capabilities }) => !capabilities.software)) {
    const gpu = profileGpu(profile);
    const plan = new Plan(gpu, "test");
    const sizes = { keys: plan.tensor("keys", [8192, 2], { dtype: "u32" }), experts: 16 };
    plan.clear(sizes.keys);
    const common = { ...sizes, drops: false, gradients: true };
    const { groups } = segmentsOf(plan, "s", { ...common, dtype: "f16" });
    // At most 127 rows of padding for each expert.
    assertEquals([groups.tile, groups.rows], [128, 16384 + 16 * 127 + 16]);
    const tensor = (name: string, ...shape: number[]) => {
      const made = plan.tensor(name, shape, { dtype: "f16" });
      plan.clear(made);
      return made;
    };
    const before = plan.steps.length;
    const a = tensor("a", groups.rows, 512);
    const b = [tensor("b", 16, 512, 1024)];
    const c = tensor("c", groups.rows, 1024);
    gemmGrouped(plan, "y", { a, b, c, layout: "nn", groups });
    const calls = plan.steps.slice(before).flatMap((step) =>
      step.kind === "dispatch" ? [step.call] : []
    );
    const units = gpu.capabilities.subgroup_matrix.length > 0;
    // Without matrix units, rows are transposed first.
    assertEquals(calls.map(({ name }) => name), [
      ...units ? [] : ["transpose_halves"],
      units ? "gemm_matrix" : "gemm_tiled",
    ]);
    assertEquals(calls.at(-1)!.flops, 2 * 16384 * 512 * 1024);
    assertEquals(calls.at(-1)!.workgroups[0], groups.rows / 128 * 8);
  }
});

Deno.test("grouped products name what does not fit", async () => {
  const gpu = await openTestGpu();
  using inputs = new Inputs(gpu);
  const plan = new Plan(gpu, "test");
  const keys = inputs.tensor("keys", [8, 1], { dtype: "u32" });
  const { groups } = segmentsOf(plan, "s", {
    keys,
    experts: 3,
    drops: false,
    gradients: true,
    dtype: "f32",
  });
  const a = inputs.tensor("a", [groups.rows, 8]);
  const c = inputs.tensor("c", [groups.rows, 4]);
  const product = (b: Tensor, changes: { a?: Tensor } = {}) => () =>
    gemmGrouped(plan, "y", { a, b: [b], c, layout: "nn", groups, ...changes });
  const of = (...shape: number[]) => inputs.tensor("b", shape);
  assertThrows(product(of(3, 8, 8)), RangeError, "the matrices of b are 8×8, expected 8×4");
  assertThrows(product(of(2, 8, 4)), RangeError, "y: 2 matrices for 3 groups");
  assertThrows(product(of(24, 4)), RangeError, "expected a matrix for each group");
  assertThrows(product(of(3, 8, 4), { a: of(4, 8) }), RangeError, "b has 4 rows, the groups");
});
