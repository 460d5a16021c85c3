import { assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { median, pairedDifference, summarize } from "./statistics.ts";

Deno.test("the interval is Student's: tables of t at 97.5 %", () => {
  // Quantiles from any table of the distribution: 12.7062, 4.30265, 3.18245, 2.77645, 2.26216, 2.04523.
  const table: readonly [number, number][] = [
    [2, 12.706205],
    [3, 4.302653],
    [4, 3.182446],
    [5, 2.776445],
    [10, 2.262157],
    [30, 2.045230],
  ];
  for (const [n, t] of table) {
    const values = Array.from({ length: n }, (_, i) => i * i / n);
    const { mean, sd, low, high } = summarize(values);
    const half = t * (sd ?? NaN) / Math.sqrt(n);
    assertAlmostEquals((high ?? NaN) - mean, half, half * 1e-6);
    assertAlmostEquals(mean - (low ?? NaN), half, half * 1e-6);
  }
});

Deno.test("mean and deviation of a sample known from textbooks", () => {
  const { n, mean, sd } = summarize([2, 4, 4, 4, 5, 5, 7, 9]);
  assertEquals([n, mean], [8, 5]);
  assertAlmostEquals(sd ?? NaN, Math.sqrt(32 / 7), 1e-12);
});

Deno.test("one value has a mean and no interval", () => {
  assertEquals(summarize([3]), { n: 1, mean: 3, sd: null, low: null, high: null });
  assertEquals(pairedDifference([3], [1]).p, null);
});

Deno.test("the paired test gives Student's own result on sleep and two drugs", () => {
  // Student (1908), extra hours of sleep of ten patients: t = 4.0621, p = 0.002833, interval 0.7001 to 2.4599.
  const first = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0];
  const second = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4];
  const { n, mean, low, high, p } = pairedDifference(second, first);
  assertEquals(n, 10);
  assertAlmostEquals(mean, 1.58, 1e-12);
  assertAlmostEquals(low ?? NaN, 0.7001142, 1e-6);
  assertAlmostEquals(high ?? NaN, 2.4598858, 1e-6);
  assertAlmostEquals(p ?? NaN, 0.00283289, 1e-7);
});

Deno.test("differences without spread are certain, or nothing", () => {
  assertEquals(pairedDifference([2, 3], [1, 2]).p, 0);
  assertEquals(pairedDifference([2, 3], [2, 3]).p, 1);
});

Deno.test("what can't be summarised is an error that says why", () => {
  assertThrows(() => summarize([]), RangeError, "at least one value");
  assertThrows(() => summarize([1, NaN]), RangeError, "finite values, got NaN");
  assertThrows(() => pairedDifference([1], [1, 2]), RangeError, "one length, got 1 and 2");
  assertThrows(() => median([]), RangeError, "at least one value");
});

Deno.test("the median of odd and even counts", () => {
  assertEquals(median([3, 1, 2]), 2);
  assertEquals(median([4, 1, 3, 2]), 2.5);
});

Deno.test("values whose squares are beyond float64 have a mean and no interval", () => {
  assertEquals(summarize([1e200, 3e200]), { n: 2, mean: 2e200, sd: null, low: null, high: null });
  assertEquals(summarize([1.5e308, 1.5e308]), {
    n: 2,
    mean: 1.5e308,
    sd: 0,
    low: 1.5e308,
    high: 1.5e308,
  });
  const { mean, p } = pairedDifference([3e200, 1e200], [1e200, 1e200]);
  assertEquals([mean, p], [1e200, null]);
});
