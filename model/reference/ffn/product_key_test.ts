import fc from "fast-check";
import { assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { under } from "../layer.ts";
import { matrix } from "../matrix.ts";
import { normals, randomTensors, smallEthos, smallModel } from "../testing.ts";
import { chooseExperts, keptNumber, route, topK } from "./product_key.ts";

/** All `K²` sums, sorted. */
function exhaustive(s1: number[], s2: number[], k: number): number[] {
  const all = s1.flatMap((a, r) => s2.map((b, c) => ({ expert: r * s2.length + c, sum: a + b })));
  return all.sort((a, b) => b.sum - a.sum || a.expert - b.expert).slice(0, k)
    .map(({ expert }) => expert);
}

Deno.test("topK() keeps the lower of equal positions first", () => {
  assertEquals(topK(Float64Array.of(1, 3, 3, 2, 3), 4), [1, 2, 4, 3]);
});

Deno.test("chooseExperts() finds the best of all pairs, ties to the lower number", () => {
  // Small whole numbers, so that ties are everywhere.
  const scores = fc.integer({ min: 1, max: 7 }).chain((keys) =>
    fc.tuple(
      fc.array(fc.integer({ min: -2, max: 2 }), { minLength: keys, maxLength: keys }),
      fc.array(fc.integer({ min: -2, max: 2 }), { minLength: keys, maxLength: keys }),
      fc.integer({ min: 1, max: keys }),
    )
  );
  fc.assert(
    fc.property(scores, ([s1, s2, k]) => {
      assertEquals(
        chooseExperts(Float64Array.from(s1), Float64Array.from(s2), k),
        exhaustive(s1, s2, k),
      );
    }),
    { numRuns: 300 },
  );
});

function layer(router_batch_norm: boolean, tokens: number) {
  const model = smallModel({ ffn: { router_batch_norm } });
  const { d_model } = model.config;
  const weights = under(randomTensors(model, 3), "layers.1.ffn.router.");
  const x = matrix(tokens, d_model, normals(4)(tokens * d_model));
  return { section: { ...smallEthos, router_batch_norm }, weights, x };
}

Deno.test("route() ignores the query's bias under batch norm, in training alone", () => {
  const { section, weights, x } = layer(true, 9);
  const moved = { ...weights, b_q: weights["b_q"]!.map((v) => v + 0.5) };
  for (const training of [true, false]) {
    const a = route(section, weights, { x, training }).score;
    const b = route(section, moved, { x, training }).score;
    const difference = Math.max(...a.map((v, i) => Math.abs(v - b[i]!)));
    assertEquals(difference < 1e-12, training);
  }
});

Deno.test("route() in training needs two tokens for batch norm's variance", () => {
  const { section, weights, x } = layer(true, 1);
  assertThrows(
    () => route(section, weights, { x, training: true }),
    RangeError,
    "over 1 token: the unbiased variance needs at least 2",
  );
  assertEquals(route(section, weights, { x, training: false }).index.length, 9);
  const plain = layer(false, 1);
  const routing = route(plain.section, plain.weights, { x, training: true });
  assertEquals(routing.statistics, {});
});

Deno.test("route() names a missing weight of batch norm", () => {
  const { section, weights, x } = layer(true, 3);
  const { "bn.var": _, ...incomplete } = weights;
  assertThrows(
    () => route(section, incomplete, { x, training: true }),
    Error,
    "needs bn.var",
  );
});

Deno.test("keptNumber() keeps the best until their mass is enough, or those above the threshold", () => {
  const scores = Float64Array.of(0.5, 0.25, 0.125, 0.125);
  const number = (choice: "top_k" | "mass" | "threshold", least: number, min_k = 1) =>
    keptNumber({ choice, mass: least, threshold: least, min_k }, scores);
  assertEquals(number("top_k", 0.1), 4);
  assertEquals([0.5, 0.51, 0.75, 0.8, 1].map((mass) => number("mass", mass)), [1, 2, 2, 3, 4]);
  assertEquals(
    [0.1, 0.125, 0.2, 0.3, 0.9].map((least) => number("threshold", least)),
    [4, 4, 2, 1, 1],
  );
  assertEquals([number("mass", 0.5, 3), number("threshold", 0.9, 3)], [3, 3]);
});

Deno.test("route() gives dropped experts the score 0, and the others a softmax of their own", () => {
  const { section, weights: even, x } = layer(true, 9);
  // Scores so far apart that heads keep different numbers.
  const spread = (name: string) => even[name]!.map((v) => 4 * v);
  const weights = { ...even, k1: spread("k1"), k2: spread("k2") };
  const all = route(section, weights, { x, training: true });
  const some = route({ ...section, choice: "mass", mass: 0.6 }, weights, { x, training: true });
  assertEquals(some.index, all.index);
  const { top_k } = section;
  const numbers = new Set<number>();
  for (let at = 0; at < all.score.length; at += top_k) {
    const before = all.score.subarray(at, at + top_k);
    const after = some.score.subarray(at, at + top_k);
    const n = after.filter((s) => s > 0).length;
    numbers.add(n);
    const sum = before.subarray(0, n).reduce((a, b) => a + b);
    assertEquals(sum >= 0.6 && sum - before[n - 1]! < 0.6, true);
    after.forEach((s, j) => assertAlmostEquals(s, j < n ? before[j]! / sum : 0, 1e-12));
  }
  assertEquals(numbers.size > 1, true);
  // With everything kept, nothing changes.
  const whole = route({ ...section, choice: "mass", mass: 1 }, weights, { x, training: true });
  assertEquals([whole.score, whole.balance], [all.score, all.balance]);
});

Deno.test("load balance is 2 for even use and even probabilities", () => {
  // Without sub-keys every probability is 1/K, whatever was kept: K · Σ f/K = 1 on each axis.
  const { section, weights, x } = layer(true, 5);
  const flat = {
    ...weights,
    k1: new Float64Array(weights["k1"]!.length),
    k2: new Float64Array(weights["k2"]!.length),
  };
  const { balance, index } = route(section, flat, { x, training: true });
  assertEquals(Math.abs(balance - 2) < 1e-12, true);
  // All sums tie: the lowest experts win.
  assertEquals([...index.subarray(0, section.top_k)], [0, 1, 2]);
});
