import { assertAlmostEquals, assertEquals } from "@std/assert";
import { matrix } from "../matrix.ts";
import { normals } from "../testing.ts";
import { massLag, scoreLag, thresholdLag } from "./lag.ts";
import { mixture } from "./mixture.ts";

Deno.test("scoreLag() is how far the lowest given score is below the best ones", () => {
  const best = [3, 2, 1];
  assertEquals(scoreLag({ best, given: [1, 3, 2] }), 0);
  assertEquals(scoreLag({ best, given: [3, 2, 0.75] }), 0.25);
  // Fewer were given: as many are compared.
  assertEquals(scoreLag({ best, given: [3, 1] }), 1);
});

Deno.test("massLag() and thresholdLag() are how far a sum or a probability is from the bound", () => {
  const shares = [0.5, 0.25, 0.15, 0.1];
  const mass = (given: number) => massLag(shares, { given, kept: 2, mass: 0.7 });
  assertEquals(mass(2), 0);
  assertAlmostEquals(mass(1), 0.2); // 0.5 was taken for enough
  assertAlmostEquals(mass(3), 0.05); // 0.75 was taken for too little
  assertAlmostEquals(mass(4), 0.2);
  const threshold = (given: number) => thresholdLag(shares, { given, kept: 2, threshold: 0.2 });
  assertEquals(threshold(2), 0);
  assertAlmostEquals(threshold(1), 0.05); // 0.25 was taken for less
  assertAlmostEquals(threshold(3), 0.05); // 0.15 was taken for more
});

Deno.test("a mixture keeps the experts that it is given, and says how far they lie behind", () => {
  const random = normals(3);
  const [tokens, width, experts] = [5, 4, 6];
  const sizes = { experts, top_k: 3, weight: "softmax", top_p: 0.7, load_balance_coef: 0 } as const;
  const weights = { w_g: random(width * experts) };
  const x = matrix(tokens, width, random(tokens * width));
  const run = (selection?: Int32Array) =>
    mixture(sizes, weights, {
      x,
      training: true,
      expert: (_, rows) => ({ y: rows, backward: (g) => ({ x: g, weights: {} }) }),
      ...(selection && { selection }),
    });
  const own = run();
  const { used } = own.routing;
  assertEquals(own.routing.lag, 0);
  const same = run(used);
  assertEquals([same.routing.used, same.routing.lag, same.y.data], [used, 0, own.y.data]);
  // The first token's best expert becomes one that is not among its three best.
  const worse = Array.from({ length: experts }, (_, e) => e)
    .find((e) => !own.routing.best.subarray(0, 3).includes(e))!;
  const other = run(used.with(0, worse));
  assertEquals(other.routing.used[0], worse);
  assertEquals(other.routing.lag > 0, true);
});
