import {
  assert,
  assertAlmostEquals,
  assertEquals,
  assertMatch,
  assertStringIncludes,
} from "@std/assert";
import type { BenchEntry } from "../../../model/bench/suites/suite.ts";
import { costGrowths, fitSeries, renderCosts } from "./cost_table.ts";

/** A step of `tokens` tokens whose router's and attention's seconds a token are given. */
function entry(value: number, parts: { router: number; attention: number }): BenchEntry {
  const tokens = 512;
  const median = tokens * (parts.router + parts.attention);
  return {
    id: `cost.num_experts.${value}`,
    suite: "cost",
    params: { axis: "num_experts", value },
    ...{ median, min: 0.9 * median, max: 1.2 * median, repeats: 3, peak_bytes: 2 ** 20 },
    tokens_per_second: tokens / median,
    flops: 1e6 * tokens * value ** 0.25,
    parts: {
      phase: { forward: median },
      part: { router: tokens * parts.router, attention: tokens * parts.attention },
    },
  };
}

/** A router whose time grows with the root of the experts behind attention whose time does not. */
const ENTRIES = [64, 4, 16, 256, 1024]
  .map((n) => entry(n, { router: 1e-6 * Math.sqrt(n), attention: 1e-5 }));

Deno.test("exponents of a law are found, overall and between neighbours", () => {
  const points = [1, 4, 16, 64].map((x) => ({ x, y: 3 * x ** 0.5 }));
  const { exponent, interval, local } = fitSeries({ of: "step", name: "step", points });
  assertAlmostEquals(exponent!, 0.5, 1e-12);
  assertAlmostEquals(interval!.low, 0.5, 1e-6);
  assertAlmostEquals(interval!.high, 0.5, 1e-6);
  assertEquals(local.map(({ from, to }) => [from, to]), [[1, 4], [4, 16], [16, 64]]);
  for (const { exponent } of local) assertAlmostEquals(exponent, 0.5, 1e-12);
  const bent = points.map(({ x, y }) => ({ x, y: x > 16 ? 8 * y : y }));
  assertAlmostEquals(
    fitSeries({ of: "step", name: "step", points: bent }).local.at(-1)!.exponent,
    0.5 + Math.log(8) / Math.log(4),
    1e-12,
  );
  assertEquals(fitSeries({ of: "part", name: "rest", points: points.slice(0, 1) }).local, []);
  const zero = fitSeries({
    of: "part",
    name: "rest",
    points: [{ x: 1, y: 0 }, ...points.slice(1)],
  });
  assertAlmostEquals(zero.exponent!, 0.5, 1e-12);
});

Deno.test("costGrowths() tells which part grows and where the step bends", () => {
  const [growth, ...others] = costGrowths(ENTRIES);
  assertEquals([growth!.axis, others], ["num_experts", []]);
  const of = (name: string) => growth!.series.find((series) => series.name === name)!;
  assertEquals(growth!.series.map(({ name }) => name), [
    ...["step", "fastest", "forward", "attention", "router", "operations"],
  ]);
  assertAlmostEquals(of("router").exponent!, 0.5, 1e-9);
  assertAlmostEquals(of("attention").exponent!, 0, 1e-9);
  assertAlmostEquals(of("operations").exponent!, 0.25, 1e-9);
  assertAlmostEquals(of("router").of_change!, 1, 1e-9);
  assertAlmostEquals(of("attention").of_change!, 0, 1e-9);
  const { exponent, interval, local } = of("step");
  assert(exponent! > 0.1 && exponent! < 0.4 && interval!.low < exponent!);
  // A constant and a root come nearer to the root.
  assert(local.every((slope, i) => i === 0 || slope.exponent > local[i - 1]!.exponent));
  const { at, before, after } = growth!.bend!;
  const i = local.findIndex(({ from }) => from === at);
  assertEquals([before, after], [local[i - 1]!.exponent, local[i]!.exponent]);
  // A median that jumps while the fastest step does not is other work.
  const beside = ENTRIES.map((e) => e.params["value"] === 16 ? { ...e, median: 3 * e.median } : e);
  assert(costGrowths(beside)[0]!.bend?.at !== 16);
  const level = [4, 16, 64].map((n) => entry(n, { router: 0, attention: 1e-5 }));
  assertEquals(
    costGrowths([level[0]!, { ...level[1]!, median: 1 }, level[2]!])[0]!.bend,
    undefined,
  );
});

Deno.test("renderCosts() shows points in order, and what it has", () => {
  const text = renderCosts(costGrowths(ENTRIES), ENTRIES).join("\n\n");
  assertMatch(text, /num_experts 4 .*\n.*num_experts 16 [^]*num_experts 1,024 /);
  assertMatch(
    text,
    /· router +2\.00 µs +4\.00 µs +8\.00 µs +16\.0 µs +32\.0 µs +0\.50 +0\.50 to 0\.50 +100\.0 %/,
  );
  assertStringIncludes(text, "num_experts bends most at ");
  assertStringIncludes(text, "Of the change of a token's time 100.0 % is router.");
  const [first] = ENTRIES;
  const { parts: _, ...bare } = first!;
  const single = renderCosts(costGrowths([bare]), [bare]).join("\n\n");
  assert(!single.includes("bends") && !single.includes("router"));
  assertEquals(renderCosts(costGrowths([]), []), []);
});
