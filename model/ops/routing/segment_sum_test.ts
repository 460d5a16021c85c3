import { assertEquals } from "@std/assert";
import { openTestGpu } from "../../gpu/testing.ts";
import { matrix } from "../gemm/matrix.ts";
import { rowsOf, segmentSum } from "./segment_sum.ts";
import { sortByKey } from "./sort.ts";
import { assertNear, Inputs, noise, runOnce } from "../testing.ts";

for (const software of [true, false]) {
  Deno.test(`segmentSum() sums the rows of each key, long segments too, software ${software}`, async () => {
    const gpu = await openTestGpu({ software });
    // Few entries, which a software adapter sums in one dispatch, and more. 28 columns: seven vectors, which invocations of four share unevenly.
    for (const n of [700, 4500]) {
      const [bound, width] = [9, 28];
      // Key 2 has most entries, key 4 none, the last one few; 3 … 8 are asked for.
      const keys = Uint32Array.from(
        noise(n, 1),
        (v) => v < 0.3 ? 5 : v < 0.6 ? 2 : [0, 1, 3, 6, 7, 8][Math.floor(v * 1e4) % 6]!,
      );
      const values = noise(n * width, 2);
      const before = noise(6 * width, 3);
      for (const accumulate of [false, true]) {
        using inputs = new Inputs(gpu);
        const rows = inputs.tensor("rows", [n, width], { values });
        const keysTensor = inputs.tensor("keys", [n], { values: keys, dtype: "u32" });
        const out = inputs.tensor("out", [6, width], { values: before });
        const results = await runOnce(gpu, (plan) => {
          const sorted = sortByKey(plan, "sort", { keys: keysTensor, bound });
          segmentSum(plan, "sum", {
            sorted,
            entries: rowsOf(matrix(rows)),
            out: matrix(out),
            first: 3,
            accumulate,
          });
          return { out };
        });
        const expected = accumulate ? before.slice() : new Float64Array(6 * width);
        keys.forEach((key, i) => {
          if (key < 3) return;
          for (let c = 0; c < width; c++) {
            expected[(key - 3) * width + c]! += values[i * width + c]!;
          }
        });
        assertNear(results.out, expected, { tolerance: 1e-5, what: "sums" });
        if (!accumulate) {
          assertEquals(Array.from(results.out.slice(width, 2 * width)), Array(width).fill(0));
        }
      }
    }
  });
}
