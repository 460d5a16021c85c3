import { assert, assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { permute, Sampler } from "./sampler.ts";

const counting = (length: number) => ({
  length,
  read: (at: number, n: number) => Uint32Array.from({ length: n }, (_, i) => at + i),
});

Deno.test("permute() is a permutation whatever the count and the seed", () => {
  fc.assert(fc.property(fc.integer({ min: 1, max: 700 }), fc.nat(), (count, seed) => {
    const images = Array.from({ length: count }, (_, i) => permute(i, count, seed));
    assertEquals(new Set(images).size, count);
    assert(images.every((n) => n >= 0 && n < count));
  }));
});

Deno.test("Sampler sees every sequence once an epoch, in another order in the next", () => {
  const sampler = new Sampler(counting(1001), { length: 10, seed: 3 });
  assertEquals(sampler.sequences, 100);
  const starts = (epoch: number) =>
    Array.from({ length: 100 }, (_, i) => sampler.batch(epoch * 100 + i, 1).tokens[0]);
  assertEquals(
    starts(0).toSorted((a, b) => a! - b!),
    Array.from({ length: 100 }, (_, i) => 10 * i),
  );
  assertNotEquals(starts(0), starts(1));
});

Deno.test("Sampler gives the same batches from any position", () => {
  const a = new Sampler(counting(997), { length: 7, seed: 1 });
  const b = new Sampler(counting(997), { length: 7, seed: 1 });
  a.batch(0, 50);
  assertEquals(a.batch(138, 9), b.batch(138, 9));
  const { tokens, targets } = a.batch(138, 9);
  assertEquals(targets, tokens.map((n) => n + 1));
});

Deno.test("Sampler says when the data is shorter than a sequence", () => {
  assertThrows(
    () => new Sampler(counting(10), { length: 10, seed: 1 }),
    RangeError,
    "10 tokens; one sequence of 10 needs 11",
  );
});
