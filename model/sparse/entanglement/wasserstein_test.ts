import fc from "fast-check";
import jstat from "jstat";
import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { uniform } from "../routing/uniform.ts";
import { gaussianDistance, groupedDistance, histogram, standardised } from "./wasserstein.ts";

/** Quantiles of a distribution at the middles of equal parts. */
const quantiles = (count: number, quantile: (p: number) => number) =>
  Float64Array.from({ length: count }, (_, i) => quantile((i + 0.5) / count));

/** The distance of a standardised distribution as a sum over many points. */
function summed(quantile: (p: number) => number): number {
  const gaussian = quantiles(1e5, (p) => jstat.normal.inv(p, 0, 1));
  const own = quantiles(1e5, quantile);
  return own.reduce((sum, v, i) => sum + Math.abs(v - gaussian[i]!), 0) / own.length;
}

const distributions: [string, (p: number) => number, (p: number) => number][] = [
  ["uniform", (p) => 7 * p + 3, (p) => (2 * p - 1) * Math.sqrt(3)],
  ["exponential", (p) => -2 * Math.log(1 - p), (p) => -Math.log(1 - p) - 1],
  ["two-valued", (p) => p < 0.5 ? -40 : 60, (p) => p < 0.5 ? -1 : 1],
];

for (const [name, quantile, standard] of distributions) {
  Deno.test(`a distribution has its known distance: ${name}`, () => {
    const found = gaussianDistance(quantiles(20_000, quantile));
    assertAlmostEquals(found, summed(standard), 3e-4);
  });
}

Deno.test("a distance from two values is the exact one", () => {
  // ∫ |1 − z| φ(z) dz over z > 0, doubled: 4 (Φ(1) + φ(1)) − 3 − 2 φ(0).
  const exact = 4 * (jstat.normal.cdf(1, 0, 1) + jstat.normal.pdf(1, 0, 1)) - 3 -
    2 * jstat.normal.pdf(0, 0, 1);
  assertAlmostEquals(gaussianDistance([8, 6]), exact, 1e-12);
});

Deno.test("Gaussian values come as close as their number allows", () => {
  const draws = (count: number, seed: number) =>
    Float64Array.from(
      { length: count },
      (_, i) => 5 + 3 * jstat.normal.inv(uniform(seed, i) + 2 ** -33, 0, 1),
    );
  for (const count of [64, 256, 4096]) {
    const found = Array.from({ length: 20 }, (_, seed) => gaussianDistance(draws(count, seed)));
    const mean = found.reduce((a, b) => a + b) / found.length;
    assert(Math.abs(mean * Math.sqrt(count) - 0.84) < 0.12, `${count}: ${mean}`);
  }
});

Deno.test("a distance depends on neither scale, place nor order", () => {
  fc.assert(fc.property(
    fc.array(fc.integer({ min: -1000, max: 1000 }), { minLength: 2, maxLength: 60 }),
    fc.integer({ min: 1, max: 50 }),
    fc.integer({ min: -50, max: 50 }),
    (values, scale, shift) => {
      const moved = values.map((v) => shift - v * scale).reverse();
      const found = gaussianDistance(values);
      assertAlmostEquals(gaussianDistance(moved), found, 1e-9);
      assert(found > 0 && found <= Math.sqrt(2 / Math.PI) + 1, `${found}`);
    },
  ));
});

Deno.test("values that are all the same have the distance of a point", () => {
  for (const values of [[2], [0, 0, 0], new Array<number>(7).fill(0.1)]) {
    assertAlmostEquals(gaussianDistance(values), Math.sqrt(2 / Math.PI), 1e-12);
    assertEquals([...standardised(values)].every((v) => v === 0), true);
  }
  assertThrows(() => gaussianDistance([]), RangeError, "no values");
  assertThrows(() => gaussianDistance([1, NaN, 2]), RangeError, "not finite");
  assertThrows(() => gaussianDistance([1, Infinity]), RangeError, "not finite");
});

Deno.test("groups count by their values, and empty ones not at all", () => {
  const [a, b] = [[1, 2, 9], [4, 4.5, 5, 7, 20, 21]];
  assertAlmostEquals(
    groupedDistance([a, [], b]),
    (3 * gaussianDistance(a) + 6 * gaussianDistance(b)) / 9,
    1e-12,
  );
});

Deno.test("histogram() has every value, those beyond its reach at its ends", () => {
  assertEquals(histogram([-9, -1, -0.5, 0, 0.99, 1, 7], { reach: 1, bins: 4 }), [2, 1, 1, 3]);
});
