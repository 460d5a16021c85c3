import { assert, assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { Documents } from "../text/documents.ts";
import { DocumentSampler, permute, Sampler } from "./sampler.ts";

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

Deno.test("DocumentSampler sees every document once an epoch, from its beginning, and counts its predictions", () => {
  const END = 5;
  // Document i is i + 10 as often as its length less one, which is 1 to 9.
  const lengths = Array.from({ length: 50 }, (_, i) => 2 + i * 7 % 9);
  const all = lengths.flatMap((n, i) => [...Array<number>(n - 1).fill(i + 10), END]);
  const source = {
    length: all.length,
    read: (at: number, n: number) => Uint32Array.from(all.slice(at, at + n)),
  };
  const documents = Documents.scan(source, { endoftext: END });
  const make = () => new DocumentSampler(documents, { length: 6, seed: 4, endoftext: END });
  const sampler = make();
  const epoch = (n: number) =>
    Array.from({ length: 50 }, (_, i) => sampler.batch(50 * n + i, 1).tokens[0]! - 10);
  assertEquals(epoch(0).toSorted((a, b) => a - b), Array.from({ length: 50 }, (_, i) => i));
  assertNotEquals(epoch(0), epoch(1));
  // The same from any position, over the end of an epoch.
  assertEquals(make().batch(46, 9), sampler.batch(46, 9));
  for (let i = 0; i < 50; i++) {
    const { tokens, targets } = sampler.batch(i, 1);
    const document = tokens[0]! - 10;
    const row = [...Array<number>(lengths[document]! - 1).fill(document + 10), END].slice(0, 7);
    const padding = 7 - row.length;
    assertEquals([...tokens], [...row.slice(0, -1), ...Array<number>(padding).fill(END)]);
    assertEquals([...targets], [...row.slice(1), ...Array<number>(padding).fill(0xffffffff)]);
    assertEquals(sampler.predictions(i, 1), row.length - 1);
  }
  const predicted = lengths.reduce((sum, n) => sum + Math.min(6, n - 1), 0);
  assertEquals(sampler.predictions(0, 50), predicted);
  assertEquals(
    sampler.predictions(25, 50),
    predicted - sampler.predictions(0, 25) + sampler.predictions(50, 25),
  );
  assertThrows(
    () =>
      new DocumentSampler(Documents.scan({ ...source, length: 0 }, { endoftext: END }), {
        length: 6,
        seed: 4,
        endoftext: END,
      }),
    RangeError,
    "no document with text",
  );
});
