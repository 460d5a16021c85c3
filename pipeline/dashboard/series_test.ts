import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import fc from "fast-check";
import { accumulate, downsample, interpolate, Series, smooth } from "./series.ts";

function series(points: readonly (readonly [number, number])[]): Series {
  const made = new Series();
  for (const [step, value] of points) made.push(step, value);
  return made;
}

Deno.test("a series is in order, each step once, the last number said of a step wins", () => {
  const steps = fc.array(fc.tuple(fc.nat(50), fc.double({ noNaN: true })));
  fc.assert(fc.property(steps, (points) => {
    const made = series(points);
    const expected = [...new Map(points)].sort(([a], [b]) => a - b);
    assertEquals([...made.steps], expected.map(([step]) => step));
    assertEquals([...made.values], expected.map(([, value]) => value));
  }));
});

Deno.test("a column of pixels keeps its least and its greatest number, at their places", () => {
  const numbers = fc.array(fc.double({ min: -1e6, max: 1e6, noNaN: true }), {
    minLength: 1,
    maxLength: 400,
  });
  fc.assert(fc.property(numbers, fc.integer({ min: 1, max: 30 }), (ys, columns) => {
    const x = Float64Array.from(ys, (_, i) => 3 * i + 1);
    const y = Float64Array.from(ys);
    const kept = downsample(x, y, { columns });
    assert(kept.x.length <= 2 * (columns + 2));
    assertEquals(kept.x, kept.x.toSorted((a, b) => a - b));
    for (const [i, at] of kept.x.entries()) assertEquals(kept.y[i], ys[(at - 1) / 3]);
    assertEquals([kept.x[0], kept.x.at(-1)], [x[0], x.at(-1)]);
    assertEquals(kept.x.length, new Set(kept.x).size);
    assertEquals(Math.max(...kept.y), Math.max(...ys));
    assertEquals(Math.min(...kept.y), Math.min(...ys));
  }));
});

Deno.test("a window has the points in it and one on either side; a logarithmic one none at zero", () => {
  const x = Float64Array.from({ length: 100 }, (_, i) => i);
  const y = x.map((v) => v * v);
  const part = downsample(x, y, { from: 10, to: 12, columns: 50 });
  assertEquals(part.x, [9, 10, 11, 12, 13]);
  const log = downsample(x, y, { columns: 10, log: true });
  assertEquals(log.x[0], 1);
  // Each decade has as many columns: 1 to 10 keeps more than 90 to 99.
  assert(log.x.filter((v) => v < 10).length > log.x.filter((v) => v > 90).length);
  assertEquals(downsample(new Float64Array(), new Float64Array(), { columns: 5 }), {
    x: [],
    y: [],
  });
  const gap = downsample(Float64Array.of(1, 2, 3), Float64Array.of(1, NaN, 3), { columns: 5 });
  assertEquals(gap, { x: [1, 3], y: [1, 3] });
});

Deno.test("a million points are smoothed and thinned in less than a second, once they are read", () => {
  const n = 1_000_000;
  const x = Float64Array.from({ length: n }, (_, i) => i);
  const y = x.map((v) => Math.sin(v));
  const began = performance.now();
  const kept = downsample(x, smooth(y, 0.9), { columns: 1000 });
  const milliseconds = performance.now() - began;
  assert(kept.x.length <= 2004);
  assert(milliseconds < 1000, `${milliseconds} ms`);
});

Deno.test("other axes: tokens between and beyond those that were counted, time from seconds a step", () => {
  const tokens = series([[10, 1000], [20, 3000]]);
  const at = interpolate(tokens, Float64Array.of(5, 10, 15, 20, 30));
  assertEquals([...at], [0, 1000, 2000, 3000, 5000]);
  assertEquals([...interpolate(series([[10, 50]]), Float64Array.of(5, 20))], [25, 100]);
  assertEquals([...interpolate(series([]), Float64Array.of(5))], [NaN]);
  const time = accumulate(series([[10, 0.5], [12, 2], [13, NaN], [14, 1]]));
  assertEquals([...time.steps], [10, 12, 14]);
  assertEquals([...time.values], [5, 9, 11]);
});

Deno.test("a moving average of a constant is that constant from its first number on", () => {
  for (const value of smooth(new Float64Array(20).fill(3), 0.9)) assertAlmostEquals(value, 3);
  // By hand: (0.5·0.5·1 + 0.5·3) / (1 − 0.25).
  const out = smooth(Float64Array.of(1, NaN, 3), 0.5);
  assertEquals([out[0], out[1]], [1, NaN]);
  assertAlmostEquals(out[2]!, 1.75 / 0.75);
});
