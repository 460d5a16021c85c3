import { assert, assertEquals, assertThrows } from "@std/assert";
import { uniform as reference } from "../../reference/sparse/uniform.ts";
import { siteSeed, uniform, windowStarts } from "./uniform.ts";

Deno.test("uniform() gives the specified numbers, as the reference does", () => {
  const most = 2 ** 32 - 1;
  for (
    const [seed, index, expected] of [
      [0, 0, 2926543089],
      [0, 1, 2692512407],
      [1, 0, 2385989600],
      [1, 1, 2727374891],
      [23000, 5, 2885271013],
      [most, most, 1067058255],
    ] as const
  ) {
    assertEquals(uniform(seed, index) * 2 ** 32, expected);
    assertEquals(reference(seed, index) * 2 ** 32, expected);
  }
});

Deno.test("uniform() fills [0, 1) evenly", () => {
  const counts = new Array(10).fill(0);
  for (let i = 0; i < 10_000; i++) counts[Math.floor(10 * uniform(5, i))]++;
  assert(counts.every((count) => Math.abs(count - 1000) < 120), counts.join());
});

Deno.test("siteSeed() gives each site of each block its own seed", () => {
  assertEquals([siteSeed(7, 0, 0), siteSeed(7, 0, 1), siteSeed(7, 3, 1)], [7, 8, 14]);
});

Deno.test("windowStarts() keeps windows inside of a text, and refuses a text that is too short", () => {
  const starts = windowStarts(3, 200, { tokens: 50, length: 20 });
  assert(starts.every((start) => start >= 0 && start < 30));
  assert(new Set(starts).size > 20);
  assertEquals(windowStarts(3, 2, { tokens: 20, length: 20 }), [0, 0]);
  assertThrows(
    () => windowStarts(3, 1, { tokens: 19, length: 20 }),
    RangeError,
    "No window of 20 tokens fits in a text of 19",
  );
});
