/** Every way of low tiles beside float64, sums whole and in parts; the rule's choice. */

import { assertEquals } from "@std/assert";
import { Plan } from "../../gpu/plan.ts";
import { DEVICE_PROFILES, profileGpu } from "../../gpu/recording.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { openTestGpu, testRuntime } from "../../gpu/testing.ts";
import { gatherRows } from "../mixture/rows.ts";
import { segmentsOf } from "../mixture/segments.ts";
import { assertNear, Inputs, noise, runOnce } from "../testing.ts";
import { gemmGrouped, gemmGroupedSums } from "./gemm_grouped.ts";
import { type GroupedWay, groupedWay, LOW_TILES } from "./gemm_grouped_ways.ts";

/** Entries of each group: none, one, a whole tile, more than one. */
const COUNTS = [3, 0, 64, 1, 70];
const KEYS = COUNTS.flatMap((count, group) => Array<number>(count).fill(group));

Deno.test({
  name: "each way of low tiles gives what float64 gives, and no tile other bits",
  // SwiftShader takes many times as long for a kernel as llvmpipe.
  ignore: testRuntime() === "dawn",
  async fn(t) {
    const gpu = await openTestGpu({ software: false });
    const [k, n, groups] = [100, 76, COUNTS.length];
    const [part, entries] = [2, KEYS.length];
    /** Bits of the unsplit product, by layout and type. */
    const unsplit = new Map<string, Float32Array>();
    for (const [tiling, { tile_m: tile }] of Object.entries(LOW_TILES)) {
      for (
        const [layout, dtype, splits, transposed] of [
          ["nn", "f32", 1, false],
          ["nn", "f32", 1, true],
          ["nn", "f32", 3, false],
          ["nt", "f16", 1, false],
          ["nt", "f16", 2, false],
        ] as const
      ) {
        const way: GroupedWay = { tiling, splits, transposed };
        await t.step(
          `${tiling} ${layout} ${dtype} ${splits}${transposed ? " tn" : ""}`,
          async () => {
            using inputs = new Inputs(gpu);
            const halves = (values: Float64Array) =>
              dtype === "f16" ? Float64Array.from(Float16Array.from(values)) : values;
            const [x, w] = [halves(noise(entries * k, 1)), halves(noise(groups * k * n, 2))];
            const tiles = COUNTS.map((count) => Math.ceil(count / tile));
            const starts = tiles.map((_, g) => tile * tiles.slice(0, g).reduce((a, b) => a + b, 0));
            const place = KEYS.map((key, e) =>
              starts[key]! + KEYS.slice(0, e).filter((other) => other === key).length
            );
            const keys = inputs.tensor("keys", [entries, 1], { dtype: "u32", values: KEYS });
            const { rows } = segmentsOf(new Plan(gpu, "sizes"), "s", {
              keys,
              experts: groups,
              drops: false,
              gradients: true,
              tile,
            }).groups;
            const used = tile * tiles.reduce((a, b) => a + b, 0);
            // Rows of no group hold what nobody may read.
            const padded = new Float64Array(rows * k).fill(NaN).fill(0, 0, used * k);
            place.forEach((row, e) => padded.set(x.subarray(e * k, (e + 1) * k), row * k));
            const a = inputs.tensor("a", [rows, k], { values: padded, dtype });
            const sizes = layout === "nn" ? [k, n] : [n, k];
            const b = [[0, part], [part, groups]].map(([from, to]) =>
              inputs.tensor(`b.${from}`, [to! - from!, ...sizes], {
                values: w.subarray(from! * k * n, to! * k * n),
                dtype,
              })
            );
            const once = inputs.tensor("once", [rows, n], { values: noise(rows * n, 3) });
            const twice = inputs.tensor("twice", [rows, n], { values: noise(rows * n, 3) });
            const out = await runOnce(gpu, (plan) => {
              const { groups: spread } = segmentsOf(plan, "segments", {
                keys,
                experts: groups,
                drops: false,
                gradients: true,
                tile,
              });
              const common = { a, b, layout, groups: spread, way };
              gemmGrouped(plan, "once", { ...common, c: once });
              gemmGrouped(plan, "twice", { ...common, c: twice });
              gemmGrouped(plan, "twice", { ...common, c: twice, epilogue: "accumulate" });
              return { once, twice };
            });
            const expected = KEYS.flatMap((key, e) =>
              Array.from({ length: n }, (_, j) => {
                let sum = 0;
                for (let i = 0; i < k; i++) {
                  const at = layout === "nn" ? (key * k + i) * n + j : (key * n + j) * k + i;
                  sum += x[e * k + i]! * w[at]!;
                }
                return sum;
              })
            );
            const taken = (values: Float32Array) =>
              Float32Array.from(
                place.flatMap((row) => Array.from(values.subarray(row * n, (row + 1) * n))),
              );
            const tolerance = 3e-6;
            assertNear(taken(out.once), expected, { tolerance, what: "product" });
            assertNear(taken(out.twice), expected.map((v) => 2 * v), { tolerance, what: "added" });
            // Rows of tiles that no group uses are left alone.
            assertEquals(
              out.once.subarray(used * n),
              Float32Array.from(noise(rows * n, 3)).subarray(used * n),
            );
            if (splits > 1) return;
            const bits = unsplit.get(layout) ?? taken(out.once);
            unsplit.set(layout, bits);
            assertEquals(taken(out.once), bits);
          },
        );
      }
    }
  },
});

Deno.test("sums over the rows of groups come out right for each height of low tiles", async (t) => {
  const gpu = await openTestGpu({ software: false });
  const [m, n, groups, entries] = [20, 28, COUNTS.length, KEYS.length];
  const [x, y] = [noise(entries * m, 1), noise(entries * n, 2)];
  for (const tile of new Set(Object.values(LOW_TILES).map(({ tile_m }) => tile_m))) {
    await t.step(`${tile} rows`, async () => {
      using inputs = new Inputs(gpu);
      const keys = inputs.tensor("keys", [entries, 1], { dtype: "u32", values: KEYS });
      const sources = [["x", x, m], ["y", y, n]] as const;
      const [of_x, of_y] = sources.map(([name, values, width]) =>
        inputs.tensor(name, [entries, width], { values })
      );
      const c = inputs.tensor("c", [groups, m, n]);
      const { sums } = await runOnce(gpu, (plan) => {
        const segments = segmentsOf(plan, "segments", {
          keys,
          experts: groups,
          drops: false,
          gradients: true,
          tile,
        });
        const rows = (name: string, source: Tensor) => {
          const out = plan.tensor(name, [segments.groups.rows, source.width]);
          gatherRows(plan, name, { segments, x: source, out });
          return out;
        };
        const [a, b] = [rows("a", of_x!), rows("b", of_y!)];
        const whole = [{ tensor: c, epilogue: "none" as const }];
        gemmGroupedSums(plan, "sums", { a, b, c: whole, groups: segments.groups });
        return { sums: c };
      });
      const expected = new Float64Array(groups * m * n);
      KEYS.forEach((key, e) => {
        for (let i = 0; i < m; i++) {
          for (let j = 0; j < n; j++) {
            expected[(key * m + i) * n + j]! += x[e * m + i]! * y[e * n + j]!;
          }
        }
      });
      assertNear(sums, expected, { tolerance: 3e-6, what: "sums" });
    });
  }
});

Deno.test("sums of few rows are cut where that fills a GPU's last round", () => {
  const [deno, dawn] = DEVICE_PROFILES.slice(-2).map((profile) => profileGpu(profile));
  const way = (
    gpu: typeof deno,
    { dtype, layout, rows, k, n }: {
      dtype: "f32" | "f16";
      layout: "nn" | "nt";
      rows: number;
      k: number;
      n: number;
    },
  ) => {
    const operand = { dtype, aligned: true };
    const found = groupedWay(gpu!.capabilities, {
      m: rows + 512,
      n,
      k,
      layout,
      a: operand,
      b: operand,
      linear: true,
      single: true,
      height: 64,
    }, { rows });
    return [found.kernel.kernel.name, found.splits];
  };
  // 640 tiles are five rounds, 320 two and a half.
  const nn = { layout: "nn", rows: 2560, k: 512, n: 1024 } as const;
  const nt = { layout: "nt", rows: 2560, k: 1024, n: 512 } as const;
  assertEquals(way(deno, { ...nn, dtype: "f32" }), ["gemm_tiled", 1]);
  assertEquals(way(deno, { ...nt, dtype: "f32" }), ["gemm_tiled", 2]);
  assertEquals(way(dawn, { ...nt, dtype: "f32" }), ["gemm_tiled", 2]);
  // Matrix units take their sums whole.
  assertEquals(way(dawn, { ...nt, dtype: "f16" }), ["gemm_matrix", 1]);
  // Sums of less than twice 256 terms are not cut, and the parts fit a workspace.
  assertEquals(way(deno, { ...nt, k: 508, dtype: "f32" }), ["gemm_tiled", 1]);
  assertEquals(
    way(deno, { ...nt, n: 4, rows: 64, k: 32768, dtype: "f32" })[1]! as number > 8,
    true,
  );
});
