import { assert, assertAlmostEquals } from "@std/assert";
import { erf, gelu, geluExact, geluExactDerivative } from "./activation.ts";

Deno.test("erf() has the digits of the tables", () => {
  // Abramowitz and Stegun, table 7.1, and limits beyond it.
  for (
    const [x, value] of [
      [0.1, 0.1124629160],
      [0.5, 0.5204998778],
      [1, 0.8427007929],
      [1.5, 0.9661051465],
      [2, 0.9953222650],
      [2.4999, 0.9995928301],
      [3, 0.9999779095030014],
      [4, 0.9999999845827421],
      [7, 1],
    ] as const
  ) {
    assertAlmostEquals(erf(x), value, 1e-8, `${x}`);
    assertAlmostEquals(erf(-x), -value, 1e-8, `${-x}`);
  }
  // Both forms meet.
  const step = 1e-9;
  const slope = 2 / Math.sqrt(Math.PI) * Math.exp(-6.25);
  assertAlmostEquals(erf(2.5 + step) - erf(2.5 - step), 2 * step * slope, 1e-14);
});

Deno.test("geluExact() is near the tanh form, with the slope of differences", () => {
  let largest = 0;
  for (let x = -6; x <= 6; x += 0.01) {
    largest = Math.max(largest, Math.abs(geluExact(x) - gelu(x)));
    const numeric = (geluExact(x + 1e-5) - geluExact(x - 1e-5)) / 2e-5;
    assertAlmostEquals(geluExactDerivative(x), numeric, 1e-9);
  }
  assert(largest > 4e-4 && largest < 5e-4, `${largest}`);
});
