import { assertAlmostEquals, assertEquals } from "@std/assert";
import { exponentInterval, fitPower } from "./power_law.ts";

Deno.test("fitPower() finds the law of exact points, and none in one place", () => {
  const points = [4, 16, 64, 256].map((x) => ({ x, y: 3 * x ** -0.7 }));
  const { exponent, factor } = fitPower(points)!;
  assertAlmostEquals(exponent, -0.7, 1e-12);
  assertAlmostEquals(factor, 3, 1e-11);
  assertEquals(fitPower([{ x: 2, y: 4 }]), undefined);
  assertEquals(fitPower([{ x: 2, y: 4 }, { x: 2, y: 5 }]), undefined);
  assertAlmostEquals(fitPower([{ x: 2, y: 4 }, { x: 4, y: 16 }])!.exponent, 2, 1e-12);
});

Deno.test("exponentInterval() has the width that the residuals give", () => {
  // ln y is 0, 1, 0, 1 over ln x of 0 to 3: slope 0.2, residuals' squares 0.8, so a standard error of √(0.4 / 5);
  // the quantile of two degrees of freedom is 4.30265.
  const points = [0, 1, 0, 1].map((y, x) => ({ x: Math.exp(x), y: Math.exp(y) }));
  const { low, high } = exponentInterval(points)!;
  const half = 4.30265 * Math.sqrt(0.4 / 5);
  assertAlmostEquals(low, 0.2 - half, 1e-5);
  assertAlmostEquals(high, 0.2 + half, 1e-5);
  const exact = exponentInterval([1, 2, 4].map((x) => ({ x, y: 5 * x })))!;
  assertAlmostEquals(exact.low, 1, 1e-6);
  assertAlmostEquals(exact.high, 1, 1e-6);
  assertEquals(exponentInterval(points.slice(0, 2)), undefined);
  assertEquals(exponentInterval(points.map(({ y }) => ({ x: 3, y }))), undefined);
});
