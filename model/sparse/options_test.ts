import { assertEquals, assertThrows } from "@std/assert";
import {
  checkExpansion,
  checkMethod,
  checkPruning,
  componentsOf,
  EXPANSION,
  levelsOf,
  matchAll,
  prunedOf,
  PRUNING,
  type Pruning,
} from "./options.ts";
import { denseBits, expertBits, gridBits, multiplyAdds, routerBits } from "./storage.ts";

const refused: [Partial<Pruning>, string][] = [
  [{ sparsity: 1 }, "sparsity is 1, expected a number from 0 to below 1"],
  [{ sparsity: -0.1 }, "sparsity is -0.1"],
  [{ sparsity: NaN }, "sparsity is NaN"],
  [{ sparsity: 0.5, pattern: [2, 4] }, "pattern is 2:4 and sparsity is 0.5"],
  [{ pattern: [0, 4] }, "pattern is 0:4, expected two positive whole numbers"],
  [{ pattern: [2, 0] }, "pattern is 2:0, expected two positive whole numbers"],
  [{ pattern: [5, 4] }, "pattern is 5:4, expected no more zeros than neighbours"],
  [{ pattern: [2, 5] }, "pattern is 2:5, but 24 inputs do not divide into groups of 5"],
  [{ pattern: [2, 3] }, "pattern is 2:3, but blocks of 128 columns do not divide into groups of 3"],
  [{ bits: 1 }, "bits is 1, expected a whole number from 2 to 8"],
  [{ bits: 9 }, "bits is 9"],
  [{ block: 0 }, "block is 0, expected a positive whole number"],
  [{ damping: -1 }, "damping is -1"],
];

for (const [change, expected] of refused) {
  Deno.test(`checkPruning() refuses ${JSON.stringify(change)}`, () => {
    const pruning = { ...PRUNING, ...change };
    assertThrows(() => checkPruning(pruning, "layer", 24), RangeError, `layer: ${expected}`);
  });
}

Deno.test("checkPruning() takes what fits", () => {
  for (const change of [{}, { sparsity: 0.99 }, { pattern: [3, 4], bits: 8 }] as const) {
    checkPruning({ ...PRUNING, ...change }, "layer", 24);
  }
});

Deno.test("checkExpansion() refuses what rows and inputs do not allow", () => {
  const check = (change: Partial<typeof EXPANSION>, rows = 100, width = 64) => () =>
    checkExpansion({ ...EXPANSION, ...change }, "site", { rows, width });
  check({})();
  check({ pca_factor: 0 }, 16, 4096)();
  assertThrows(check({ clusters: 0 }), RangeError, "site: clusters is 0");
  assertThrows(check({ clusters: 101 }), RangeError, "expected at most its 100 rows");
  assertThrows(check({ restarts: 0 }), RangeError, "restarts is 0");
  assertThrows(check({ pca_factor: -1 }), RangeError, "pca_factor is -1");
  assertThrows(check({ pca_factor: 1 }, 20), RangeError, "keeps 64 components of 64 inputs");
  const random = { pca_factor: 0, centroids: "random" } as const;
  assertThrows(check(random), RangeError, "site: centroids is random and pca_factor is 0");
  assertThrows(check({ clusters: 20, pca_factor: 1 }, 64), RangeError, "expected at most 63");
});

Deno.test("checkMethod() refuses experts that would be the same", () => {
  const magnitude = { ...PRUNING, method: "magnitude" } as const;
  checkMethod(magnitude, "site", 1);
  checkMethod(PRUNING, "site", 4);
  assertThrows(
    () => checkMethod(magnitude, "site", 4),
    RangeError,
    "site: method is magnitude and clusters is 4, expected 1",
  );
});

Deno.test("matchAll() keeps as many weights as all experts together", () => {
  const match = (clusters: number, change: Partial<Pruning>) => {
    const { expansion, pruning, dense } = matchAll({
      expansion: { ...EXPANSION, clusters, centroids: "random" },
      pruning: { ...PRUNING, ...change },
    });
    assertEquals([expansion.clusters, expansion.centroids], [1, "kmeans"]);
    return [pruning.pattern ?? pruning.sparsity, dense];
  };
  assertEquals(match(2, { sparsity: 0.75 }), [0.5, false]);
  assertEquals(match(1, { sparsity: 0.75 }), [0.75, false]);
  assertEquals(match(16, { sparsity: 0.5 }), [0, true]);
  // In float64 4 · (1 − 0.9) is a little less than 0.4, and 8 · (1 − 0.95) a little more.
  assertEquals(match(4, { sparsity: 0.9 }), [0.6, false]);
  assertEquals(match(8, { sparsity: 0.95 }), [0.6, false]);
  // 10 · (1 − 0.9) is a little less than 1 in float64.
  assertEquals(match(10, { sparsity: 0.9 }), [0, true]);
  assertEquals(match(16, { sparsity: 0.5, bits: 4 }), [0, false]);
  assertEquals(match(3, { pattern: [7, 8] }), [[5, 8], false]);
  assertEquals(match(2, { pattern: [2, 4] }), [0, true]);
  assertEquals(match(3, { pattern: [2, 4], bits: 3 }), [0, false]);
});

Deno.test("counts of weights, components and levels are the specified ones", () => {
  // 0.29 · 100 is a little less than 29 in float64.
  assertEquals([prunedOf(100, 0.29), prunedOf(7, 0.5), prunedOf(9, 0)], [29, 3, 0]);
  assertEquals([componentsOf(4096, 32), componentsOf(11008, 32), componentsOf(20, 32)], [
    128,
    344,
    1,
  ]);
  assertEquals(levelsOf({ bits: 4, symmetric: false }), { lowest: 0, highest: 15 });
  assertEquals(levelsOf({ bits: 4, symmetric: true }), { lowest: -7, highest: 7 });
});

Deno.test("an expanded site is counted as specified", () => {
  const sizes = { outputs: 6, inputs: 16 };
  const quantised = { ...PRUNING, bits: 4 };
  assertEquals(denseBits(sizes), 96 * 16);
  assertEquals(expertBits({ ...quantised, sparsity: 0.5 }, { ...sizes, kept: 48 }), 96 + 48 * 4);
  assertEquals(expertBits({ ...quantised, pattern: [6, 8] }, { ...sizes, kept: 24 }), 24 * (4 + 3));
  assertEquals([gridBits(quantised, 6), gridBits(PRUNING, 6)], [6 * 20, 0]);
  assertEquals(routerBits({ inputs: 16, clusters: 3 }), 32 * 51);
  assertEquals(multiplyAdds({ kept: [48, 24], inputs: 16, clusters: 3 }), 120);
});
