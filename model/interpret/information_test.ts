import { assert, assertAlmostEquals, assertThrows } from "@std/assert";
import { uniformFloat64 } from "pure-rand/distribution/uniformFloat64";
import { mersenne } from "pure-rand/generator/mersenne";
import { mutualInformation, sumCounts, summarise } from "./information.ts";

/** Mutual information of two columns, by way of their counts. */
function informationOf(pairs: readonly (readonly [number, number])[]) {
  const counts = (label: (pair: readonly [number, number]) => string) => {
    const found = new Map<string, number>();
    for (const pair of pairs) found.set(label(pair), (found.get(label(pair)) ?? 0) + 1);
    return found;
  };
  const [x, y, both] = [counts(([x]) => `${x}`), counts(([, y]) => `${y}`), counts(String)];
  const found = mutualInformation({
    pairs: pairs.length,
    x: sumCounts(x.values()),
    y: sumCounts(y.values()),
    both: sumCounts(both.values()),
  });
  // The definition: Σ p(x, y) ln p(x, y) / (p(x) p(y)).
  let direct = 0;
  for (const [pair, n] of both) {
    const [a, b] = pair.split(",");
    direct += n / pairs.length * Math.log(n * pairs.length / (x.get(a!)! * y.get(b!)!));
  }
  assertAlmostEquals(found.plugin, direct, 1e-12);
  return found;
}

Deno.test("mutual information is that of its definition, and entropy where labels are the same", () => {
  const same = informationOf(Array.from({ length: 60 }, (_, i) => [i % 3, (i % 3) * 7]));
  assertAlmostEquals(same.plugin, Math.log(3), 1e-12);
  assertAlmostEquals(same.corrected, Math.log(3) + 2 / 120, 1e-12);
  const product = informationOf(Array.from({ length: 60 }, (_, i) => [i % 3, Math.floor(i / 15)]));
  assertAlmostEquals(product.plugin, 0, 1e-12);
  // A known table: 4 3 / 1 2.
  const table = [[0, 0, 4], [0, 1, 3], [1, 0, 1], [1, 1, 2]] as const;
  const { plugin } = informationOf(
    table.flatMap(([x, y, n]) => Array.from({ length: n }, () => [x, y] as const)),
  );
  assertAlmostEquals(
    plugin,
    0.4 * Math.log(0.4 / 0.35) + 0.3 * Math.log(0.3 / 0.35) + 0.1 * Math.log(0.1 / 0.15) +
      0.2 * Math.log(0.2 / 0.15),
    1e-12,
  );
  assertThrows(
    () => mutualInformation({ pairs: 0, x: sumCounts([]), y: sumCounts([]), both: sumCounts([]) }),
    RangeError,
    "at least one pair",
  );
});

Deno.test("the correction takes off most of what independent labels seem to have in common", () => {
  const random = mersenne(5);
  const draw = (n: number) => Math.floor(uniformFloat64(random) * n);
  const found = Array.from(
    { length: 30 },
    () => informationOf(Array.from({ length: 400 }, () => [draw(8), draw(9)])),
  );
  const plugin = summarise(found.map((each) => each.plugin));
  const corrected = summarise(found.map((each) => each.corrected));
  // (8 − 1)(9 − 1) / 2·400 is expected.
  assertAlmostEquals(plugin.mean, 0.07, 0.01);
  assert(Math.abs(corrected.mean) < 0.1 * plugin.mean, JSON.stringify({ plugin, corrected }));
});
