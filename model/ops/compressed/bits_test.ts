/** Runs of small numbers in words. */

import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { bitCount, packedWords, packRun, readPacked, unpackRun } from "./bits.ts";

const runs = fc.integer({ min: 0, max: 31 }).chain((bits) =>
  fc.record({
    bits: fc.constant(bits),
    before: fc.nat({ max: 3 }),
    numbers: fc.array(fc.integer({ min: 0, max: 2 ** bits - 1 }), { maxLength: 80 }),
  })
);

Deno.test("a run of numbers lies in its words, and nowhere else", () => {
  fc.assert(
    fc.property(runs, ({ bits, before, numbers }) => {
      const count = numbers.length;
      const words = new Uint32Array(before + packedWords(count, bits) + 1);
      // More numbers than are asked for do not count.
      packRun(words, { first: before, count, bits }, Uint32Array.from([...numbers, 1]));
      const whole = numbers.reduce((sum, v, e) => sum | BigInt(v) << BigInt(e * bits), 0n);
      const expected = Array.from(
        words,
        (_, w) => w < before ? 0 : Number(whole >> BigInt(32 * (w - before)) & 0xffffffffn),
      );
      assertEquals([...words], expected);
      assertEquals(numbers.map((_, e) => readPacked(words, before, e, bits)), numbers);
      const back = new Uint32Array(count + 2).fill(9);
      unpackRun(words, { first: before, count, bits }, { numbers: back, to: 1 });
      assertEquals([...back], [9, ...numbers, 9]);
    }),
    { numRuns: 500 },
  );
});

Deno.test("bitCount() counts the bits of a word", () => {
  for (const word of [0, 1, 0x80000000, 0xffffffff, 0x12345678]) {
    assertEquals(bitCount(word), word.toString(2).replaceAll("0", "").length);
  }
});
