/** Causal products of many pairs at once, in tiles of each size. */

import { assertEquals, assertThrows } from "@std/assert";
import { Plan } from "../../gpu/plan.ts";
import { DEVICE_PROFILES, profileGpu } from "../../gpu/recording.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { compilesSlowly, openTestGpu } from "../../gpu/testing.ts";
import { SQUARE_TILE } from "./gemm_kernels.ts";
import { gemmPaired } from "./gemm_paired.ts";
import { matrix } from "./matrix.ts";
import { assertNear, Inputs, noise, runOnce } from "../testing.ts";

interface Case {
  readonly causal: "until" | "from";
  readonly layout: "nn" | "tn";
  readonly heads: number;
  readonly length: number;
  readonly width: number;
  readonly whole?: number;
  readonly factors?: boolean;
  /** Rows and columns of the tile that a real GPU takes. */
  readonly tile: readonly [rows: number, columns: number];
}

const CASES: readonly Case[] = [
  { causal: "until", layout: "nn", heads: 2, length: 200, width: 68, tile: [64, 64] },
  { causal: "from", layout: "tn", heads: 2, length: 200, width: 68, tile: [64, 64] },
  { causal: "until", layout: "nn", heads: 32, length: 200, width: 128, tile: [128, 128] },
  { causal: "from", layout: "tn", heads: 32, length: 200, width: 60, tile: [128, 64] },
  { causal: "from", layout: "tn", heads: 32, length: 392, width: 60, whole: 256, tile: [256, 64] },
  {
    causal: "until",
    layout: "tn",
    heads: 3,
    length: 392,
    width: 60,
    factors: true,
    tile: [64, 64],
  },
  {
    causal: "until",
    layout: "tn",
    heads: 32,
    length: 392,
    width: 64,
    whole: 256,
    factors: true,
    tile: [256, 64],
  },
];

Deno.test("causal products come out right in tiles of each size", async (t) => {
  const gpu = await openTestGpu({ software: false });
  const real = profileGpu(DEVICE_PROFILES.find(({ name }) => name === "GPU")!);
  // SwiftShader takes many times as long for a kernel as llvmpipe: on it, small ones stand for all.
  const cases = CASES.filter(({ tile: [rows] }) => !compilesSlowly() || rows === 64);
  for (const { causal, layout, heads, length, width, whole, factors, tile } of cases) {
    const name = `${causal} ${layout} ${heads}x${length}x${width}${factors ? " factors" : ""}`;
    await t.step(name, async () => {
      using inputs = new Inputs(gpu);
      // Stored as rows of results for `nn`, as rows of terms for `tn`. Zeros where no result has a term.
      const square = noise(heads * length * length, 1).map((v, i) => {
        const [row, column] = [Math.floor(i / length) % length, i % length];
        const [result, term] = layout === "nn" ? [row, column] : [column, row];
        return (causal === "until" ? term <= result : term >= result) ? v : 0;
      });
      const values = noise(heads * length * width, 2);
      const blocks = Math.ceil(length / SQUARE_TILE);
      const scales = noise(heads * blocks * length, 3);
      const a = inputs.tensor("a", [heads * length, length], { values: square });
      const b = inputs.tensor("b", [heads * length, width], { values });
      const c = inputs.tensor("c", [heads * length, width]);
      const times = inputs.tensor("factors", [heads * blocks, length], { values: scales });
      const of = (tensor: Tensor) => ({
        ...matrix(tensor, { rows: length }),
        sequence: 0,
        head: length * tensor.width,
      });
      const record = (plan: Plan) => {
        gemmPaired(plan, "product", {
          a: of(a),
          b: of(b),
          c: of(c),
          pairs: { sequences: 1, heads },
          layout,
          causal,
          ...(whole && { whole }),
          ...(factors && { factors: times }),
        });
        const [step] = plan.steps;
        const constants = step?.kind === "dispatch" ? step.call.constants : undefined;
        return [constants?.["TILE_M"], constants?.["TILE_N"]];
      };
      assertEquals<unknown>(record(new Plan(real, "real")), tile);
      let taken: readonly unknown[] = [];
      const { out } = await runOnce(gpu, (plan) => {
        taken = record(plan);
        return { out: c };
      });
      // Tiles of 256 rows take more workgroup memory than a software adapter has.
      const high = gpu.capabilities.max_workgroup_bytes >= 40 << 10;
      assertEquals(taken, tile[0] === 256 && !high ? [128, 64] : tile);
      const expected = Float64Array.from({ length: heads * length * width }, (_, at) => {
        const head = Math.floor(at / width / length);
        const row = Math.floor(at / width) % length;
        let sum = 0;
        for (let i = 0; i < length; i++) {
          const [r, c] = layout === "nn" ? [row, i] : [i, row];
          const scale = factors
            ? scales[(head * blocks + Math.floor(i / SQUARE_TILE)) * length + row]!
            : 1;
          sum += scale * square[(head * length + r) * length + c]! *
            values[(head * length + i) * width + at % width]!;
        }
        return sum;
      });
      assertNear(out, expected, { tolerance: 1e-5, what: name });
    });
  }
});

Deno.test("factors are for K-major operands", async () => {
  const gpu = await openTestGpu({ software: false });
  using inputs = new Inputs(gpu);
  const x = inputs.tensor("x", [64, 64]);
  const of = { ...matrix(x), sequence: 0, head: 0 };
  const product = { a: of, b: of, c: of, pairs: { sequences: 1, heads: 1 }, factors: x } as const;
  assertThrows(
    () => gemmPaired(new Plan(gpu, "test"), "o", { ...product, layout: "nn", causal: "until" }),
    RangeError,
    "o: only products tn without matrix units take factors",
  );
});
