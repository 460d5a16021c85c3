import { assertEquals, assertThrows } from "@std/assert";
import type { Gpu } from "../../gpu/device.ts";
import { openTestGpu } from "../../gpu/testing.ts";
import { Plan } from "../../gpu/plan.ts";
import { type DType, roundUp } from "../../gpu/tensor.ts";
import { type Rotary, rotaryFrequencies } from "../../reference/rotary.ts";
import { matrix } from "../gemm/matrix.ts";
import { rope, type RotaryAngles } from "./rope.ts";
import { assertNear, Inputs, noise, runOnce } from "../testing.ts";

const WIDTH = 16;

/** The definition in float64, of one row at a position. */
function rotated(
  u: Float64Array,
  position: number,
  direction: 1 | -1,
  rotary: Rotary = {},
): Float64Array {
  const half = u.length / 2;
  const frequencies = rotaryFrequencies(u.length, rotary);
  return u.map((_, i) => {
    const pair = i % half;
    const angle = direction * position * frequencies[pair]!;
    return i < half
      ? u[pair]! * Math.cos(angle) - u[pair + half]! * Math.sin(angle)
      : u[pair + half]! * Math.cos(angle) + u[pair]! * Math.sin(angle);
  });
}

Deno.test("rope() rotates the heads' columns where they are and leaves the others alone", async () => {
  const gpu = await openTestGpu();
  using inputs = new Inputs(gpu);
  const [rows, heads, nope, length] = [15, 3, 12, 5];
  const step = nope + WIDTH;
  const values = noise(rows * heads * step, 1);
  const q = inputs.tensor("q", [rows, heads * step], { values });
  const out = await runOnce(gpu, (plan) => {
    rope(plan, "rope", {
      x: matrix(q, { columns: WIDTH, start: nope }),
      groups: { count: heads, step },
      length,
    });
    return { q };
  });
  const expected = values.slice();
  for (let row = 0; row < rows; row++) {
    for (let head = 0; head < heads; head++) {
      const at = (row * heads + head) * step + nope;
      expected.set(rotated(values.slice(at, at + WIDTH), row % length, 1), at);
    }
  }
  assertNear(out.q, expected, { tolerance: 2e-7, what: "q" });
});

Deno.test("rope() keeps its digits at position 4095, and sums groups when it turns back", async () => {
  const gpu = await openTestGpu();
  using inputs = new Inputs(gpu);
  const [rows, heads, first] = [3, 5, 4093];
  const values = noise(rows * heads * WIDTH, 2);
  const x = inputs.tensor("x", [rows, heads * WIDTH], { values });
  const position = inputs.tensor("position", [1], { values: [first], dtype: "u32" });
  const out = await runOnce(gpu, (plan) => {
    const wide = plan.tensor("wide", [rows, WIDTH + 4]);
    plan.clear(wide);
    rope(plan, "rope", {
      x: matrix(x, { columns: WIDTH }),
      groups: { count: heads, step: WIDTH },
      y: matrix(wide, { columns: WIDTH, start: 4 }),
      length: rows,
      position,
      positions: 4096,
      inverse: true,
    });
    return { wide };
  });
  const expected = new Float64Array(rows * (WIDTH + 4));
  for (let row = 0; row < rows; row++) {
    for (let head = 0; head < heads; head++) {
      const at = (row * heads + head) * WIDTH;
      rotated(values.slice(at, at + WIDTH), first + row, -1).forEach((v, i) =>
        expected[row * (WIDTH + 4) + 4 + i]! += v
      );
    }
  }
  assertNear(out.wide, expected, { tolerance: 5e-7, what: "the sum" });
});

/** Columns of a group, some with halves that are no whole vec4s, some that end within a vec4. */
const WIDTHS = [2, 4, 6, 8, 10, 12, 20, 34];

/** Rotates heads of a width where they are, each sequence from a position of its own on, and compares with float64. */
async function checkInPlace(
  gpu: Gpu,
  { width, dtype, inverse = false }: { width: number; dtype: DType; inverse?: boolean },
  tolerance: number,
) {
  using inputs = new Inputs(gpu);
  const [rows, heads, nope, length] = [7, 3, 8, 3];
  const first = [5, 0, 9];
  // The elements between the heads must stay as well.
  const step = roundUp(nope + width, 4) + 4;
  const values = noise(rows * heads * step, width);
  const q = inputs.tensor("q", [rows, heads * step], { values, dtype });
  const position = inputs.tensor("position", [3], { values: first, dtype: "u32" });
  const out = await runOnce(gpu, (plan) => {
    rope(plan, "rope", {
      x: matrix(q, { columns: width, start: nope }),
      groups: { count: heads, step },
      length,
      position,
      positions: 9 + length,
      inverse,
    });
    return { q };
  });
  const expected = values.slice();
  for (let row = 0; row < rows; row++) {
    for (let head = 0; head < heads; head++) {
      const at = (row * heads + head) * step + nope;
      const direction = inverse ? -1 : 1;
      const place = first[Math.floor(row / length)]! + row % length;
      expected.set(rotated(values.slice(at, at + width), place, direction), at);
    }
  }
  assertNear(out.q, expected, { tolerance, what: `${dtype} heads of ${width}` });
  if (dtype !== "f32") return;
  expected.forEach((v, i) => {
    if (v === values[i]) assertEquals(out.q[i], v, `width ${width}, element ${i}`);
  });
}

for (const software of [true, false]) {
  const variant = software ? "software" : "GPU";
  Deno.test(`rope() rotates any even number of columns where they are, ${variant} variant`, async () => {
    const gpu = await openTestGpu({ software });
    for (const width of WIDTHS) {
      await checkInPlace(gpu, { width, dtype: "f32" }, 2e-7);
    }
    await checkInPlace(gpu, { width: 20, dtype: "f32", inverse: true }, 2e-7);
    await checkInPlace(gpu, { width: 20, dtype: "f16" }, 1e-3);
    await checkInPlace(gpu, { width: 10, dtype: "f16" }, 1e-3);
  });
}

Deno.test("rope() rotates packed halves of 12 columns", async () => {
  const gpu = await openTestGpu({ f16: false });
  await checkInPlace(gpu, { width: 12, dtype: "f16" }, 1e-3);
});

Deno.test("rope() sums groups of any even number of columns and leaves the columns beside them alone", async () => {
  const gpu = await openTestGpu();
  for (const width of WIDTHS) {
    using inputs = new Inputs(gpu);
    const [rows, heads, length] = [5, 3, 3];
    const step = roundUp(width, 4);
    const values = noise(rows * heads * step, 3);
    const before = noise(rows * (step + 8), 4);
    const x = inputs.tensor("x", [rows, heads * step], { values });
    const wide = inputs.tensor("wide", [rows, step + 8], { values: before });
    const out = await runOnce(gpu, (plan) => {
      rope(plan, "rope", {
        x: matrix(x, { columns: width }),
        groups: { count: heads, step },
        y: matrix(wide, { columns: width, start: 4 }),
        length,
      });
      return { wide };
    });
    const expected = before.slice();
    for (let row = 0; row < rows; row++) {
      const sum = new Float64Array(width);
      for (let head = 0; head < heads; head++) {
        const at = (row * heads + head) * step;
        rotated(values.slice(at, at + width), row % length, 1).forEach((v, i) => sum[i]! += v);
      }
      expected.set(sum, row * (step + 8) + 4);
    }
    assertNear(out.wide, expected, { tolerance: 3e-7, what: `the sum of ${width} columns` });
  }
});

Deno.test("rope() turns by other bases and scaled frequencies, each from a table of its own", async () => {
  const gpu = await openTestGpu();
  const llama3 = {
    type: "llama3",
    factor: 8,
    low_freq_factor: 1,
    high_freq_factor: 4,
    original_max_position_embeddings: 96,
  } as const;
  const all: readonly RotaryAngles[] = [
    {},
    { base: 500000 },
    { scaling: { type: "linear", factor: 4 } },
    { base: 500, scaling: llama3 },
  ];
  for (const width of [16, 20]) {
    for (const angles of all) {
      using inputs = new Inputs(gpu);
      const rows = 130;
      const values = noise(rows * width, 5);
      const x = inputs.tensor("x", [rows, width], { values });
      const out = await runOnce(gpu, (plan) => {
        rope(plan, "rope", { x: matrix(x), length: rows, angles });
        return { x };
      });
      const expected = new Float64Array(rows * width);
      for (let row = 0; row < rows; row++) {
        const at = row * width;
        expected.set(rotated(values.slice(at, at + width), row, 1, angles), at);
      }
      assertNear(out.x, expected, { tolerance: 3e-7, what: JSON.stringify({ width, angles }) });
    }
  }
});

Deno.test("rope() refuses columns without a partner, and groups that overlap", async () => {
  const gpu = await openTestGpu();
  using inputs = new Inputs(gpu);
  const x = inputs.tensor("x", [3, 24]);
  const record = (columns: number, step: number) => () =>
    rope(new Plan(gpu, "test"), "rope", {
      x: matrix(x, { columns }),
      groups: { count: 2, step },
      length: 3,
    });
  assertThrows(record(7, 8), RangeError, "rope: 7 rotary columns 8 apart");
  assertThrows(record(10, 10), RangeError, "rope: 10 rotary columns 10 apart");
  assertThrows(record(10, 8), RangeError, "rope: 2 groups of 10 rotary columns overlap 8 apart");
});
