import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import type { Gpu } from "../../gpu/device.ts";
import { Plan } from "../../gpu/plan.ts";
import { type DType, Tensor } from "../../gpu/tensor.ts";
import { compilesSlowly, openTestGpu } from "../../gpu/testing.ts";
import { gelu, geluDerivative } from "../../reference/activation.ts";
import { type Epilogue, gemm } from "./gemm.ts";
import { matrix } from "./matrix.ts";
import { assertNear, Inputs, noise, runOnce } from "../testing.ts";

interface Case {
  m: number;
  n: number;
  k: number;
  layout: "nn" | "nt" | "tn";
  epilogue: Epilogue;
  /** Columns beyond the matrix in each row of C, and columns before it. */
  pad: number;
  start: number;
  dtype: DType;
}

const up4 = (n: number) => Math.ceil(n / 4) * 4;

/** Runs one product and compares it with float64, the padding of C included. */
async function check(
  gpu: Gpu,
  c: Case,
  tolerance = 2e-6,
  /** Compares one row in so many. */
  every = 1,
): Promise<Float32Array> {
  const { m, n, k, layout, epilogue, start, dtype } = c;
  using inputs = new Inputs(gpu);
  const halves = (values: Float64Array) =>
    dtype === "f16" ? Float64Array.from(Float16Array.from(values)) : values;
  /** A matrix padded to whole vec4s (halves: 16 bytes) with zeros, and its element at (row, column). */
  const operand = (name: string, rows: number, columns: number, seed: number) => {
    // Rows of halves are aligned to eight: what matrix units and wide loads want.
    const stride = dtype === "f16" ? 2 * up4(columns / 2) : up4(columns);
    const values = halves(noise(rows * stride, seed)).map((v, i) => i % stride < columns ? v : 0);
    const tensor = inputs.tensor(name, [rows, stride], { values, dtype });
    return {
      matrix: matrix(tensor, { columns }),
      at: (row: number, column: number) => values[row * stride + column]!,
    };
  };
  const a = layout === "tn" ? operand("a", k, m, 1) : operand("a", m, k, 1);
  const b = layout === "nt" ? operand("b", n, k, 2) : operand("b", k, n, 2);
  const stride = start + up4(n) + c.pad;
  const before = halves(noise(m * stride, 3));
  const addend = halves(noise(m * stride, 4));
  const out = inputs.tensor("c", [m, stride], { values: before, dtype });
  const e = inputs.tensor("e", [m, stride], { values: addend, dtype });
  const result = await runOnce(gpu, (plan) => {
    gemm(plan, "product", {
      a: a.matrix,
      b: b.matrix,
      c: matrix(out, { columns: n, start }),
      layout,
      epilogue,
      ...(epilogue === "add" && { addend: e }),
    });
    return { out };
  });
  const expected = before.slice();
  for (let row = 0; row < m; row += every) {
    for (let column = 0; column < n; column++) {
      let product = 0;
      for (let i = 0; i < k; i++) {
        product += (layout === "tn" ? a.at(i, row) : a.at(row, i)) *
          (layout === "nt" ? b.at(column, i) : b.at(i, column));
      }
      const at = row * stride + start + column;
      expected[at] = {
        none: product,
        add: product + addend[at]!,
        accumulate: product + before[at]!,
        gelu: gelu(product),
        gelu_backward: geluDerivative(product) * before[at]!,
      }[epilogue];
    }
  }
  // Up to a whole vec4 belongs to the matrix: what lies there is the kernel's own.
  const outside = (i: number) => {
    const column = i % stride - start;
    return column >= n && column < up4(n);
  };
  const compared = (values: ArrayLike<number>) => {
    const kept: number[] = [];
    for (let row = 0; row < m; row += every) {
      for (let i = row * stride; i < (row + 1) * stride; i++) {
        kept.push(outside(i) ? 0 : values[i]!);
      }
    }
    return kept;
  };
  assertNear(compared(result.out), compared(expected), { tolerance, what: JSON.stringify(c) });
  return result.out;
}

const EPILOGUES: readonly Epilogue[] = ["none", "add", "accumulate", "gelu", "gelu_backward"];
const LAYOUTS = ["nn", "nt", "tn"] as const;

/** Counts around the edges of tiles, and small ones. */
const size = (most: number) =>
  fc.oneof(fc.integer({ min: 1, max: 12 }), fc.integer({ min: 1, max: most }));

const VARIANTS = [
  { variant: "software", restrict: { software: true } },
  { variant: "software without subgroups", restrict: { software: true, subgroups: false } },
  { variant: "tiled", restrict: { software: false } },
];

for (const { variant, restrict } of VARIANTS) {
  const { software } = restrict;
  Deno.test(`gemm() is op(A) · op(B) at any size, ${variant}`, async (t) => {
    const gpu = await openTestGpu(restrict);
    await t.step("every layout and epilogue at an odd size", async () => {
      for (const layout of LAYOUTS) {
        for (const [i, epilogue] of EPILOGUES.entries()) {
          // On SwiftShader each layout and each epilogue once or twice, of the kernels that take seconds.
          if (compilesSlowly() && !software && i % LAYOUTS.length !== LAYOUTS.indexOf(layout)) {
            continue;
          }
          const c = { m: 37, n: 29, k: 19, layout, epilogue, pad: 4, start: 8 };
          await check(gpu, { ...c, dtype: "f32" });
        }
      }
    });
    await t.step("properties", () =>
      fc.assert(
        fc.asyncProperty(
          fc.record({
            // Few rows are kernels of their own, which have a test below.
            m: compilesSlowly() && !software ? fc.integer({ min: 17, max: 140 }) : size(140),
            n: size(140),
            k: size(70),
            layout: fc.constantFrom(...LAYOUTS),
            epilogue: fc.constantFrom<Epilogue>("none", "accumulate"),
            pad: fc.constantFrom(0, 4),
            start: fc.constantFrom(0, 4),
            dtype: fc.constant<DType>("f32"),
          }),
          async (c) => void await check(gpu, c),
        ),
        { numRuns: 40, seed: 4 },
      ));
    await t.step("sums long enough to be cut into ranges", async () => {
      for (const [i, epilogue] of EPILOGUES.entries()) {
        const c = {
          m: 21,
          n: 18,
          k: 1500 + i,
          layout: LAYOUTS[i % 3]!,
          epilogue,
          pad: 4,
          start: 4,
        };
        await check(gpu, { ...c, dtype: "f32" }, 1e-5);
      }
    });
    await t.step("operands of so many loads that lanes take them from textures", async () => {
      for (const layout of LAYOUTS) {
        const c = {
          m: 131,
          n: 150,
          k: 75,
          layout,
          epilogue: "accumulate",
          pad: 4,
          start: 4,
        } as const;
        await check(gpu, { ...c, dtype: "f32" });
      }
    });
    await t.step("the same bits each time", async () => {
      const c = { m: 65, n: 66, k: 129, layout: "nn", epilogue: "none", pad: 0, start: 0 } as const;
      assertEquals(
        await check(gpu, { ...c, dtype: "f32" }),
        await check(gpu, { ...c, dtype: "f32" }),
      );
    });
    if (!software) {
      await t.step("tiles of 128 with edges, f16 read by eights", async () => {
        const c = { m: 1030, n: 1044, k: 72, epilogue: "none", pad: 0, start: 0 } as const;
        for (const layout of compilesSlowly() ? ["nt"] as const : LAYOUTS) {
          await check(gpu, { ...c, layout, dtype: "f16" }, 2e-3, 49);
        }
        // Both operands transposed, by fours.
        await check(gpu, { ...c, layout: "nt", dtype: "f32", k: 70, m: 1029 }, 2e-6, 49);
      });
      // SwiftShader takes seconds for each kernel.
      await t.step({
        name: "sums in parts, by tiles of 128 and of 128 × 64",
        ignore: compilesSlowly(),
        async fn() {
          const c = { epilogue: "add", pad: 4, start: 0, dtype: "f32" } as const;
          await check(gpu, { ...c, m: 517, n: 518, k: 2051, layout: "nn" }, 1e-5, 47);
          await check(gpu, { ...c, m: 1270, n: 57, k: 5125, layout: "tn" }, 1e-5, 47);
        },
      });
      await t.step("operands that are transposed first", async () => {
        const c = { m: 1021, n: 1030, k: 3864, epilogue: "accumulate", pad: 0, start: 4 } as const;
        await check(gpu, { ...c, layout: "nt", dtype: "f16" }, 5e-3, 340);
      });
      await t.step("one row, and few", async () => {
        const c = { m: 1, epilogue: "none", pad: 4, start: 4 } as const;
        for (const layout of ["nn", "nt"] as const) {
          for (const [n, k] of [[1, 1], [70, 3], [33, 130], [261, 1031]] as const) {
            await check(gpu, { ...c, layout, n, k, dtype: "f32" }, 1e-5);
            await check(gpu, { ...c, layout, n, k, dtype: "f16" }, 2e-3);
          }
          for (const m of compilesSlowly() ? [14] : [2, 14, 16]) {
            await check(gpu, { ...c, m, layout, n: 261, k: 1031, dtype: "f32" }, 1e-5);
            await check(gpu, { ...c, m, layout, n: 33, k: 132, dtype: "f16" }, 2e-3);
          }
          // Each is a kernel of its own, which SwiftShader takes seconds for.
          for (const epilogue of !compilesSlowly() ? EPILOGUES : []) {
            await check(gpu, { ...c, m: 3, layout, epilogue, n: 45, k: 67, dtype: "f32" }, 1e-5);
          }
        }
      });
      await t.step("tiles of 128 × 64", async () => {
        const c = { m: 8130, n: 57, k: 72, epilogue: "none", pad: 0, start: 0 } as const;
        for (const layout of compilesSlowly() ? ["tn"] as const : LAYOUTS) {
          await check(gpu, { ...c, layout, dtype: "f16" }, 2e-3, 391);
        }
        if (compilesSlowly()) return;
        await check(gpu, { ...c, layout: "nn", dtype: "f32", k: 70 }, 2e-6, 391);
        // Tiles of 256 rows, where there is workgroup memory for them.
        await check(gpu, { ...c, layout: "tn", dtype: "f16", m: 16390 }, 2e-3, 391);
        // Where a step of 8 terms would leave invocations without a load.
        const few = await openTestGpu({ ...restrict, max_workgroup_bytes: 16384 });
        await check(few, { ...c, layout: "nn", dtype: "f32", k: 33 }, 2e-6, 391);
      });
    }
    // Without subgroups the kernel is the one that grouped products have, whose tests read halves.
    for (const f16 of restrict.subgroups === false ? [] : [true, false]) {
      if (!f16 && compilesSlowly()) continue;
      await t.step(`f16 operands, native ${f16}`, async () => {
        const lesser = f16 ? gpu : await openTestGpu({ ...restrict, f16 });
        for (const layout of LAYOUTS) {
          const c = { m: 21, n: 34, k: 40, layout, epilogue: "add", pad: 0, start: 0 } as const;
          await check(lesser, { ...c, dtype: "f16" }, 1e-3);
          // Several tiles and steps with edges; a sum that is cut into ranges and has a rest.
          await check(lesser, { ...c, dtype: "f16", m: 131, n: 150, k: 75, start: 4 }, 1e-3);
          await check(lesser, { ...c, dtype: "f16", m: 67, n: 38, k: 2101 }, 2e-3);
        }
        const gelu = { m: 131, n: 36, k: 45, layout: "nn", epilogue: "gelu" } as const;
        await check(lesser, { ...gelu, pad: 0, start: 0, dtype: "f16" }, 1e-3);
      });
    }
  });
}

Deno.test("gemm() gives few rows the bits that each has alone, tiled", async () => {
  const gpu = await openTestGpu({ software: false });
  using inputs = new Inputs(gpu);
  const [m, n] = [5, 70];
  // With a whole last vec4 and without.
  for (const [layout, k] of [["nn", 260], ["nt", 260], ["nn", 261], ["nt", 261]] as const) {
    const stride = up4(k);
    const a = inputs.tensor("a", [m, stride], { values: noise(m * stride, 1) });
    const shape = layout === "nn" ? [k, 72] : [n, stride];
    const b = inputs.tensor("b", shape, { values: noise(shape[0]! * shape[1]!, 2) });
    const of = layout === "nn" ? matrix(b, { columns: n }) : matrix(b, { columns: k });
    const [together, alone] = ["together", "alone"].map((name) => inputs.tensor(name, [m, 72]));
    const out = await runOnce(gpu, (plan) => {
      const rows = (c: Tensor, row: number, count: number) =>
        gemm(plan, "product", {
          a: matrix(a, { columns: k, start: row * stride, rows: count, stride }),
          b: of,
          c: matrix(c, { columns: n, start: row * 72, rows: count, stride: 72 }),
          layout,
        });
      rows(together!, 0, m);
      for (let row = 0; row < m; row++) rows(alone!, row, 1);
      return { together: together!, alone: alone! };
    });
    assertEquals(out.together, out.alone, `${layout} ${k}`);
  }
});

Deno.test("gemm() names operands that do not fit", async () => {
  const plan = new Plan(await openTestGpu(), "test");
  const t = (name: string, ...shape: number[]) => new Tensor(name, shape);
  assertThrows(
    () => gemm(plan, "p", { a: t("a", 3, 4), b: t("b", 8, 4), c: t("c", 3, 4) }),
    RangeError,
    "p: op(A) is 3×4 (a), op(B) 8×4 (b), C 3×4 (c)",
  );
  const square = { a: t("a", 4, 4), b: t("b", 4, 4), c: t("c", 4, 4) };
  assertThrows(() => gemm(plan, "p", { ...square, epilogue: "add" }), TypeError, "addend");
  assertThrows(
    () => gemm(plan, "p", { ...square, addend: t("e", 4, 4) }),
    TypeError,
    "do not go together",
  );
  assertThrows(() => matrix(t("a", 3, 6)), RangeError, "stride 6 and start 0");
  assertThrows(() => matrix(t("a", 3, 8), { start: 4, rows: 3 }), RangeError, "exceeds a of 24");
  assertThrows(
    () => gemm(plan, "p", { ...square, a: square.c }),
    Error,
    "binds c as a and as c",
  );
});
