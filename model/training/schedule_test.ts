import { assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { learningRate, paperSchedule } from "./schedule.ts";

Deno.test("learningRate() warms up as the paper does, then stays", () => {
  assertEquals(learningRate(0, paperSchedule), 1e-5);
  assertAlmostEquals(learningRate(500, paperSchedule), 5.5e-5, 1e-12);
  assertEquals(learningRate(1000, paperSchedule), 1e-4);
  assertEquals(learningRate(1e6, paperSchedule), 1e-4);
});

Deno.test("learningRate() ends its cosine at a tenth of the peak with the last update", () => {
  const cosine = {
    ...paperSchedule,
    warmup: 10,
    after: "cosine",
    final_fraction: 0.1,
    total: 111,
  } as const;
  assertEquals(learningRate(10, cosine), 1e-4);
  assertAlmostEquals(learningRate(60, cosine), 0.55e-4, 1e-12);
  assertAlmostEquals(learningRate(110, cosine), 1e-5, 1e-12);
  assertAlmostEquals(learningRate(500, cosine), 1e-5, 1e-12);
});

Deno.test("learningRate() without warm-up, and of runs no longer than their warm-up", () => {
  assertEquals(learningRate(0, { ...paperSchedule, warmup: 0 }), 1e-4);
  const short = {
    ...paperSchedule,
    warmup: 5,
    after: "cosine",
    final_fraction: 0.1,
    total: 5,
  } as const;
  assertAlmostEquals(learningRate(4, short), 8.2e-5, 1e-12);
});

Deno.test("learningRate() rises from zero, and falls to zero at an update beyond the run", () => {
  // As the program behind the sparse transformer: 625 updates of a cosine over 5,000.
  const published = {
    initial: 0,
    peak: 3e-4,
    warmup: 200,
    after: "cosine",
    final_fraction: 0,
    total: 625,
    end: 5000,
  } as const;
  const half = (n: number) => 3e-4 * 0.5 * (1 + Math.cos(Math.PI * (n - 200) / 4800));
  assertEquals(learningRate(0, published), 0);
  assertAlmostEquals(learningRate(150, published), 2.25e-4, 1e-12);
  assertEquals(learningRate(200, published), 3e-4);
  assertAlmostEquals(learningRate(624, published), half(624), 1e-12);
  assertAlmostEquals(learningRate(624, published), 2.94e-4, 1e-6);
  const intended = { ...published, total: 5000 };
  assertAlmostEquals(learningRate(2600, intended), 1.5e-4, 1e-12);
  assertAlmostEquals(learningRate(4999, intended), half(4999), 1e-15);
});

Deno.test("learningRate() refuses what is no update", () => {
  assertThrows(() => learningRate(-1, paperSchedule), RangeError, "got -1");
  assertThrows(() => learningRate(0.5, paperSchedule), RangeError, "got 0.5");
});
