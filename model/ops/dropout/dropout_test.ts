import { assert, assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import { Plan } from "../../gpu/plan.ts";
import { openTestGpu } from "../../gpu/testing.ts";
import { packFields } from "../../gpu/transfer.ts";
import { dropoutMasks, type MicroBatch } from "../../reference/dropout.ts";
import { CONTROL } from "../control.ts";
import { Inputs, runOnce } from "../testing.ts";
import { DROPOUT_KEY, dropoutKey, dropoutPlace, dropoutRows } from "./dropout.ts";

const PLACE = "layers.3.attn.output";

/** Factors of a place on the host. */
function hostFactors(of: MicroBatch, shape: [number, number], rate: number, place = PLACE) {
  const factor = dropoutMasks(of)(place, rate);
  const [rows, columns] = shape;
  return Float32Array.from(
    { length: rows * columns },
    (_, i) => Math.fround(factor(Math.floor(i / columns), i % columns)),
  );
}

Deno.test("Masks are the host's bits in every micro-batch, in place and not", async () => {
  const gpu = await openTestGpu();
  using inputs = new Inputs(gpu);
  const shape: [number, number] = [19, 28];
  const seed = 0xfedcba98;
  const ones = { values: new Float64Array(19 * 28).fill(1) };
  const x = inputs.tensor("x", shape, ones);
  const [second, third] = ["second", "third"].map((name) => inputs.tensor(name, shape, ones));
  const half = inputs.tensor("half", shape, { dtype: "f16" });
  const first = inputs.tensor("first", shape);
  const order = Array.from({ length: 19 }, (_, i) => 2 ** 31 + 7 * i % 19);
  const numbers = inputs.tensor("numbers", [19], { dtype: "u32", values: order });
  const sorted = inputs.tensor("sorted", shape);
  const key = inputs.tensor("key", [DROPOUT_KEY], { dtype: "u32", values: [7, 7] });
  const control = inputs.tensor("control", [CONTROL.length], {
    values: packFields(CONTROL, { decided: 12345 }),
  });
  const dropout = { key, place: dropoutPlace(PLACE), rate: 0.25 };
  const out = await runOnce(gpu, (plan) => {
    dropoutKey(plan, "key", { key, control, seed, first: true });
    dropoutRows(plan, "first", { x, y: first, dropout });
    dropoutRows(plan, "half", { x, y: half, dropout });
    dropoutRows(plan, "sorted", { x, y: sorted, dropout, numbers });
    for (const y of [second!, third!]) {
      dropoutKey(plan, "key", { key, control, seed, first: false });
      dropoutRows(plan, "next", { x: y, y, dropout });
    }
    return { first, half, sorted, second: second!, third: third! };
  });
  const expected = (microBatch: number) =>
    hostFactors({ seed, update: 12345, microBatch }, shape, 0.25);
  assertEquals(out.first, expected(0));
  assertEquals(out.second, expected(1));
  assertEquals(out.third, expected(2));
  assertEquals(out.half, Float32Array.from(new Float16Array(expected(0))));
  assertNotEquals(out.second, out.first);
  const factor = dropoutMasks({ seed, update: 12345, microBatch: 0 })(PLACE, 0.25);
  out.sorted.forEach((f, i) =>
    assertEquals(f, Math.fround(factor(order[Math.floor(i / 28)]!, i % 28)))
  );
});

Deno.test("Masks drop their share, and depend on all that they are a function of", () => {
  const of = { seed: 1, update: 2, microBatch: 3 };
  const shape: [number, number] = [400, 500];
  const masks = hostFactors(of, shape, 0.1).map((f) => f === 0 ? 1 : 0);
  const count = shape[0] * shape[1];
  const share = masks.reduce((a, b) => a + b) / count;
  // Five standard deviations.
  const near = (value: number, expected: number, n: number) =>
    assert(Math.abs(value - expected) < 5 * Math.sqrt(expected * (1 - expected) / n), `${value}`);
  near(share, 0.1, count);
  // Neighbours in a row and in a column, and all other masks, are independent.
  const both = (other: (i: number) => number) => {
    let sum = 0;
    for (let i = 0; i < count; i++) sum += masks[i]! * other(i);
    return sum / count;
  };
  for (const distance of [1, 2, 4, 64, 500, 501, 8000]) {
    near(both((i) => masks[(i + distance) % count]!), 0.01, count);
  }
  for (const changed of [{ seed: 2 }, { update: 3 }, { microBatch: 4 }]) {
    const other = hostFactors({ ...of, ...changed }, shape, 0.1);
    near(both((i) => other[i] === 0 ? 1 : 0), 0.01, count);
  }
  const elsewhere = hostFactors(of, shape, 0.1, "layers.4.attn.output");
  near(both((i) => elsewhere[i] === 0 ? 1 : 0), 0.01, count);
  const columns = Array.from({ length: 500 }, (_, c) => {
    let sum = 0;
    for (let r = 0; r < 400; r++) sum += masks[r * 500 + c]!;
    return sum;
  });
  // The variance of the columns' counts is that of coins.
  const variance = columns.reduce((sum, n) => sum + (n - 40) ** 2, 0) / 500;
  assert(variance > 28 && variance < 45, `${variance}`);
});

Deno.test("Dropout refuses a rate of one, and shapes that differ", async () => {
  const gpu = await openTestGpu();
  using inputs = new Inputs(gpu);
  const x = inputs.tensor("x", [4, 8]);
  const key = inputs.tensor("key", [DROPOUT_KEY], { dtype: "u32" });
  const plan = new Plan(gpu, "test");
  const dropout = { key, place: 1, rate: 1 };
  assertThrows(
    () => dropoutRows(plan, "drop", { x, y: x, dropout }),
    RangeError,
    "rate of dropout is 1; expected from 0 to below 1",
  );
  const y = inputs.tensor("y", [8, 4]);
  assertThrows(
    () => dropoutRows(plan, "drop", { x, y, dropout: { ...dropout, rate: 0.5 } }),
    RangeError,
    "x is 4×8, y 8×4",
  );
  const numbers = inputs.tensor("numbers", [3], { dtype: "u32" });
  assertThrows(
    () => dropoutRows(plan, "drop", { x, y: x, dropout: { ...dropout, rate: 0.5 }, numbers }),
    RangeError,
    "numbers numbers 3 of 4 rows",
  );
});
