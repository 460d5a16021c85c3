import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { openTestGpu } from "../../gpu/testing.ts";
import {
  hostNormal,
  hostUniform,
  initializeNormal,
  initializeUniform,
  stream,
} from "./initialize.ts";
import { Inputs, runOnce } from "../testing.ts";

Deno.test("Initial weights are the host's bits, in one part or several", async () => {
  const gpu = await openTestGpu();
  using inputs = new Inputs(gpu);
  const name = "layers.3.ffn.z";
  const options = { seed: 0xfedcba98, deviation: 0.02 };
  const whole = inputs.tensor("whole", [33, 7]);
  const parts = [20, 13].map((rows, i) => inputs.tensor(`part ${i}`, [rows, 8]));
  const out = await runOnce(gpu, (plan) => {
    initializeNormal(plan, name, [whole], options);
    initializeNormal(plan, name, parts, options);
    return { whole, a: parts[0]!, b: parts[1]! };
  });
  const host = hostNormal(name, { ...options, count: 264 });
  assertEquals(out.whole, host.slice(0, 231));
  assertEquals(out.a, host.slice(0, 160));
  assertEquals(out.b, host.slice(160));
});

Deno.test("Uniform initial weights are the host's bits, within their bound and even", async () => {
  const gpu = await openTestGpu();
  using inputs = new Inputs(gpu);
  const name = "layers.3.ffn.w1";
  const options = { seed: 0xfedcba98, bound: 0.125 };
  const whole = inputs.tensor("whole", [33, 7]);
  const parts = [20, 13].map((rows, i) => inputs.tensor(`part ${i}`, [rows, 8]));
  const out = await runOnce(gpu, (plan) => {
    initializeUniform(plan, name, [whole], options);
    initializeUniform(plan, name, parts, options);
    return { whole, a: parts[0]!, b: parts[1]! };
  });
  const host = hostUniform(name, { ...options, count: 264 });
  assertEquals(out.whole, host.slice(0, 231));
  assertEquals(out.a, host.slice(0, 160));
  assertEquals(out.b, host.slice(160));

  const count = 100_000;
  const values = hostUniform(name, { ...options, count });
  assert(values.every((v) => Math.abs(v) < options.bound));
  const mean = (power: number) => values.reduce((sum, v) => sum + (8 * v) ** power, 0) / count;
  for (const [power, moment] of [[1, 0], [2, 1 / 3], [3, 0], [4, 1 / 5]] as const) {
    assert(Math.abs(mean(power) - moment) < 0.01, `moment ${power}`);
  }
});

Deno.test("Initial weights are nearly normal, and differ by name and seed", () => {
  const count = 100_000;
  const values = hostNormal("w", { seed: 1, count, deviation: 2 });
  const mean = (power: number) => values.reduce((sum, v) => sum + (v / 2) ** power, 0) / count;
  assert(Math.abs(mean(1)) < 0.01);
  assert(Math.abs(mean(2) - 1) < 0.015);
  assert(Math.abs(mean(3)) < 0.03);
  assert(Math.abs(mean(4) - 2.93) < 0.06);
  // Neighbours are independent.
  let neighbours = 0;
  for (let i = 1; i < count; i++) neighbours += values[i]! * values[i - 1]! / 4 / count;
  assert(Math.abs(neighbours) < 0.015);
  const of = (name: string, seed: number) => hostNormal(name, { seed, count: 8, deviation: 2 });
  assertNotEquals(of("v", 1), of("w", 1));
  assertNotEquals(of("w", 2), of("w", 1));
  assertEquals(of("w", 1), values.slice(0, 8));
  assertEquals(stream(""), 0x811c9dc5);
  assertEquals(stream("a"), 0xe40c292c);
});
