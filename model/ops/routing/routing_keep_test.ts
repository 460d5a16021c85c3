import { assert, assertEquals } from "@std/assert";
import { openTestGpu } from "../../gpu/testing.ts";
import { keptNumber } from "../../reference/ffn/product_key.ts";
import { assertNear, Inputs, noise, runOnce } from "../testing.ts";
import { keepExperts, type KeepRule, keptStatistics } from "./routing_keep.ts";

/** Softmaxes of random sums, best first, as f32 holds them. */
function scoresOf(rows: number, top: number): Float64Array {
  const sums = noise(rows * top, 3).map((v) => 3 * v);
  const out = new Float64Array(rows * top);
  for (let row = 0; row < rows; row++) {
    const e = sums.subarray(row * top, (row + 1) * top).toSorted((a, b) => b - a).map(Math.exp);
    const total = e.reduce((a, b) => a + b);
    out.set(e.map((v) => Math.fround(v / total)), row * top);
  }
  return out;
}

const RULES: readonly KeepRule[] = [
  { by: "mass", least: 0.7, min_k: 1 },
  { by: "mass", least: 1, min_k: 1 },
  { by: "threshold", least: 0.15, min_k: 2 },
  { by: "threshold", least: 1, min_k: 1 },
];

for (const software of [true, false]) {
  Deno.test(`keepExperts() keeps what the reference keeps, software ${software}`, async () => {
    const gpu = await openTestGpu({ software });
    // Odd counts, and rows of whole vectors.
    for (const top of [5, 8]) {
      const [tokens, heads, keys] = [37, 3, 11];
      const rows = tokens * heads;
      const score = scoresOf(rows, top);
      const index = Uint32Array.from(
        noise(rows * top, 4),
        (v) => Math.floor((v + 1) / 2 * keys * keys),
      );
      for (const rule of RULES) {
        using inputs = new Inputs(gpu);
        const scores = inputs.tensor("score", [tokens, heads * top], { values: score });
        const counts = inputs.tensor("counts", [2 * keys + 1], { dtype: "u32" });
        const first = inputs.tensor("first", [4], { values: [7, 9, 0, 0] });
        const results = await runOnce(gpu, (plan) => {
          const { used, number } = keepExperts(plan, "keep", {
            rule,
            heads,
            sub_keys: keys,
            index: inputs.tensor("index", [tokens, heads * top], { values: index, dtype: "u32" }),
            score: scores,
            counts,
          });
          const statistics = keptStatistics(plan, "kept", { number, first });
          return { score: scores, used, number, counts, statistics };
        });
        const expected = {
          score: new Float64Array(rows * top),
          used: Uint32Array.from(index, () => keys * keys),
          number: new Uint32Array(rows),
          counts: new Uint32Array(2 * keys + 1),
        };
        for (let row = 0; row < rows; row++) {
          const own = score.subarray(row * top, (row + 1) * top);
          const options = { choice: rule.by, mass: rule.least, threshold: rule.least };
          // The sum of all may stay below one in f32.
          const n = keptNumber({ ...options, min_k: rule.min_k }, own);
          expected.number[row] = n;
          const sum = own.subarray(0, n).reduce((a, b) => a + b);
          for (let j = row * top; j < row * top + n; j++) {
            expected.score[j] = score[j]! / sum;
            expected.used[j] = index[j]!;
            expected.counts[Math.floor(index[j]! / keys)]! += 1;
            expected.counts[keys + index[j]! % keys]! += 1;
            expected.counts[2 * keys]! += 1;
          }
        }
        assertNear(results.score, expected.score, { tolerance: 1e-6, what: "scores" });
        for (const name of ["used", "number", "counts"] as const) {
          assertEquals(Array.from(results[name]), Array.from(expected[name]), name);
        }
        const perToken = Array.from(
          { length: tokens },
          (_, t) => expected.number.subarray(t * heads, (t + 1) * heads).reduce((a, b) => a + b),
        );
        const mean = perToken.reduce((a, b) => a + b) / tokens;
        const variance = perToken.reduce((sum, n) => sum + (n - mean) ** 2, 0) / tokens;
        const numbers = [mean, Math.sqrt(variance), Math.min(...perToken), Math.max(...perToken)];
        const what = "experts a token";
        assertNear(results.statistics.slice(0, 6), [7, 9, ...numbers], { tolerance: 1e-5, what });
        if (rule.least < 1) assert(new Set(expected.number).size > 1);
      }
    }
  });
}
