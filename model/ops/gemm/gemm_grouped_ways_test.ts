/** Sums whole and in parts beside float64; the rule's tiles and parts. */

import { assertEquals } from "@std/assert";
import { DEVICE_PROFILES } from "../../gpu/recording.ts";
import type { DType } from "../../gpu/tensor.ts";
import { openTestGpu } from "../../gpu/testing.ts";
import { gatherRows } from "../mixture/rows.ts";
import { segmentsOf } from "../mixture/segments.ts";
import { assertNear, Inputs, noise, runOnce } from "../testing.ts";
import { gemmGrouped, groupTile, paddedRows } from "./gemm_grouped.ts";
import { groupedWay } from "./gemm_grouped_ways.ts";

/** Entries of each group: fewer than a tile, none, a whole tile, one, more than one tile. */
const COUNTS = [3, 0, 32, 1, 35];
const KEYS = COUNTS.flatMap((count, group) => Array<number>(count).fill(group));

Deno.test("sums of rows, whole and in parts, give what float64 gives", async (t) => {
  const gpu = await openTestGpu({ software: false });
  const [groups, part, entries, n] = [COUNTS.length, 2, KEYS.length, 12];
  for (
    const [layout, dtype, k, splits] of [["nn", "f32", 772, 3], ["nn", "f32", 100, 1], [
      "nt",
      "f16",
      520,
      2,
    ]] as const
  ) {
    await t.step(`${layout} ${dtype} ${splits}`, async () => {
      using inputs = new Inputs(gpu);
      const rounded = (values: Float64Array) =>
        dtype === "f16" ? Float64Array.from(Float16Array.from(values)) : values;
      const [x, w] = [rounded(noise(entries * k, 1)), rounded(noise(groups * k * n, 2))];
      const keys = inputs.tensor("keys", [entries, 1], { dtype: "u32", values: KEYS });
      const source = inputs.tensor("x", [entries, k], { values: x, dtype });
      const b = [[0, part], [part, groups]].map(([from, to]) =>
        inputs.tensor(`b.${from}`, [to! - from!, ...layout === "nn" ? [k, n] : [n, k]], {
          values: w.subarray(from! * k * n, to! * k * n),
          dtype,
        })
      );
      const rows = paddedRows({ rows: entries, groups, tile: 32 });
      const before = noise(rows * n, 3);
      const once = inputs.tensor("once", [rows, n], { values: before });
      const added = inputs.tensor("added", [rows, n], { values: before });
      const found: unknown[] = [];
      const out = await runOnce(gpu, (plan) => {
        const segments = segmentsOf(plan, "s", {
          ...{ keys, experts: groups, drops: false, gradients: true, dtype },
        });
        const a = plan.tensor("a", [segments.groups.rows, k], { dtype });
        gatherRows(plan, "a", { segments, x: source, out: a });
        const common = { a, b, layout, groups: segments.groups };
        gemmGrouped(plan, "once", { ...common, c: once });
        gemmGrouped(plan, "added", { ...common, c: added, epilogue: "accumulate" });
        for (const step of plan.steps) {
          if (step.kind === "dispatch" && step.call.name === "gemm_reduce") {
            found.push(step.call.params!["splits"]);
          }
        }
        return { once, added, place: segments.place };
      });
      // Two products, each of two parts of the groups.
      assertEquals(found, splits === 1 ? [] : Array(4).fill(splits));
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
      const place = Array.from(out.place);
      const taken = (values: ArrayLike<number>) =>
        place.flatMap((row) => Array.from({ length: n }, (_, j) => values[row * n + j]!));
      const tolerance = 3e-6;
      assertNear(taken(out.once), expected, { tolerance, what: "product" });
      const kept = taken(before);
      const sums = expected.map((v, i) => v + kept[i]!);
      assertNear(taken(out.added), sums, { tolerance, what: "added" });
      // Rows of tiles that no group uses are left alone.
      const used = COUNTS.reduce((sum, count) => sum + Math.ceil(count / 32) * 32, 0) * n;
      for (const values of [out.once, out.added]) {
        assertEquals(values.subarray(used), Float32Array.from(before).subarray(used));
      }
    });
  }
});

Deno.test("few rows take low tiles without matrix units, and parts where those fill a GPU's last round", () => {
  const [deno, dawn] = DEVICE_PROFILES.slice(-2).map(({ capabilities }) => capabilities);
  const way = (
    capabilities: typeof deno,
    { dtype, ...sizes }: {
      dtype: DType;
      layout: "nn" | "nt";
      entries: number;
      k: number;
      n: number;
    },
  ) => {
    const { entries, ...shape } = sizes;
    const [groups, operand] = [16, { dtype, aligned: true }];
    const height = groupTile(capabilities!, { rows: entries, groups, gradients: true, dtype });
    const { kernel, splits } = groupedWay(capabilities!, {
      ...shape,
      m: paddedRows({ rows: entries, groups, tile: height }),
      a: operand,
      b: operand,
      linear: true,
      single: true,
      height,
    }, { rows: entries + groups * height / 2 });
    return [kernel.kernel.name, `${kernel.tile_m}×${kernel.tile_n}`, splits];
  };
  // 1,152 tiles are nearly nine rounds, 576 nearly four and a half.
  const nn = { layout: "nn", entries: 2048, k: 512, n: 1024 } as const;
  const nt = { layout: "nt", entries: 2048, k: 1024, n: 512 } as const;
  for (const [gpu, dtype] of [[deno, "f32"], [deno, "f16"], [dawn, "f32"]] as const) {
    assertEquals(way(gpu, { ...nn, dtype }), ["gemm_tiled", "32×64", 1]);
    assertEquals(way(gpu, { ...nt, dtype }), ["gemm_tiled", "32×64", 2]);
  }
  // Matrix units take their sums whole.
  for (const product of [nn, nt]) {
    assertEquals(way(dawn, { ...product, dtype: "f16" }), ["gemm_matrix", "64×128", 1]);
  }
  // Sums of less than twice 256 terms are not cut, and long ones of few tiles into many parts.
  assertEquals(way(deno, { ...nt, k: 508, dtype: "f32" })[2], 1);
  assertEquals(way(deno, { ...nt, n: 4, k: 32768, dtype: "f32" })[2]! as number > 8, true);
  // Many rows take high tiles.
  assertEquals(way(deno, { ...nn, entries: 4096, dtype: "f32" })[1], "128×128");
});
