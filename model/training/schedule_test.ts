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

Deno.test("learningRate() refuses what is no update", () => {
  assertThrows(() => learningRate(-1, paperSchedule), RangeError, "got -1");
  assertThrows(() => learningRate(0.5, paperSchedule), RangeError, "got 0.5");
});
