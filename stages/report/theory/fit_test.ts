import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { evaluateFit, fitLog } from "./fit.ts";

Deno.test("fitLog finds the coefficients of an exact curve", () => {
  fc.assert(
    fc.property(
      fc.double({ min: -20, max: 20, noNaN: true }),
      fc.double({ min: -5, max: 5, noNaN: true }),
      fc.uniqueArray(fc.integer({ min: 1, max: 1e6 }), { minLength: 3, maxLength: 50 }),
      (a, b, xs) => {
        const fit = fitLog(xs.map((x) => ({ x, y: a - b * Math.log(x) })));
        assert(fit !== undefined);
        assertAlmostEquals(fit.a, a, 1e-6);
        assertAlmostEquals(fit.b, b, 1e-6);
        assertEquals(fit.n, xs.length);
        assertEquals(fit.to, Math.max(...xs));
      },
    ),
    { numRuns: 100 },
  );
});

Deno.test("fitLog reports the unexplained share of the variance", () => {
  // y = 1, 2, 1, 2 over ln x = 0, 1, 2, 3: slope 0.2, of the sum of squares 1.0 it explains 0.2.
  const points = [1, 2, 1, 2].map((y, i) => ({ x: Math.exp(i), y }));
  const fit = fitLog(points)!;
  assertAlmostEquals(fit.b, -0.2, 1e-12);
  assertAlmostEquals(fit.a, 1.2, 1e-12);
  assertAlmostEquals(fit.r2, 0.2, 1e-12);
  assertAlmostEquals(fit.rmse, Math.sqrt(0.2), 1e-12);
});

Deno.test("fitLog declines what cannot be fitted", () => {
  assertEquals(fitLog([{ x: 1, y: 1 }, { x: 2, y: 1 }]), undefined);
  assertEquals(fitLog([{ x: 5, y: 1 }, { x: 5, y: 2 }, { x: 5, y: 3 }]), undefined);
  assertThrows(() => fitLog([{ x: 0, y: 1 }]), RangeError, "(0, 1)");
  assertThrows(() => fitLog([{ x: 1, y: NaN }]), RangeError, "finite");
});

Deno.test("evaluateFit is the curve", () => {
  assertAlmostEquals(evaluateFit({ a: 8.88, b: 0.418 }, Math.E), 8.462, 1e-12);
});
