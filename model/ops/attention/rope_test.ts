import { assertThrows } from "@std/assert";
import { openTestGpu } from "../../gpu/testing.ts";
import { Plan } from "../../gpu/plan.ts";
import { matrix } from "../gemm/matrix.ts";
import { rope } from "./rope.ts";
import { assertNear, Inputs, noise, runOnce } from "../testing.ts";

const WIDTH = 16;

/** The definition in float64, of one row at a position. */
function rotated(u: Float64Array, position: number, direction: 1 | -1): Float64Array {
  const half = u.length / 2;
  return u.map((_, i) => {
    const pair = i % half;
    const angle = direction * position * 10000 ** (-2 * pair / u.length);
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

Deno.test("rope() refuses widths whose halves are no vec4s", async () => {
  const gpu = await openTestGpu();
  using inputs = new Inputs(gpu);
  const x = inputs.tensor("x", [3, 12]);
  assertThrows(
    () => rope(new Plan(gpu, "test"), "rope", { x: matrix(x), length: 3 }),
    RangeError,
    "rope: 12 rotary columns",
  );
});
