import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { EigenvalueDecomposition, Matrix } from "ml-matrix";
import { noise } from "../ops/testing.ts";
import {
  clusterCodes,
  neighboursInCluster,
  principalMap,
  shuffleCodes,
  umapMap,
} from "./clusters.ts";
import type { Codes } from "./codes.ts";

/** Three clouds of 15 codes. */
const CLOUDS: Codes = (() => {
  const [rows, width] = [45, 7];
  const values = Float32Array.from(
    noise(rows * width, 3),
    (value, i) => value / 4 + (Math.floor(i / width) % 3 === i % width ? 3 : 0),
  );
  return { rows, width, values };
})();

Deno.test("clusters are the clouds, and shuffled codes have none", () => {
  const found = clusterCodes(CLOUDS, { clusters: 3, seed: 2 });
  assertEquals(found.sizes, [15, 15, 15]);
  for (let i = 3; i < CLOUDS.rows; i++) assertEquals(found.labels[i], found.labels[i % 3]);
  assert(found.explained > 0.9, String(found.explained));
  assertEquals(found, clusterCodes(CLOUDS, { clusters: 3, seed: 2 }));
  const shuffled = shuffleCodes(CLOUDS, 1);
  const column = (codes: Codes) => Array.from({ length: 45 }, (_, i) => codes.values[i * 7 + 2]!);
  assertEquals(column(shuffled).sort(), column(CLOUDS).sort());
  assert(clusterCodes(shuffled, { clusters: 3, seed: 2 }).explained < 0.6);
  assertThrows(
    () => clusterCodes(CLOUDS, { clusters: 46, seed: 1 }),
    RangeError,
    "45 experts make at most",
  );
});

Deno.test("the principal map has the components of the covariance, and maps show the clouds", () => {
  const map = principalMap(CLOUDS);
  const x = new Matrix(
    Array.from({ length: 45 }, (_, i) => Array.from(CLOUDS.values.subarray(7 * i, 7 * i + 7))),
  ).center("column");
  const { realEigenvalues } = new EigenvalueDecomposition(x.transpose().mmul(x));
  const values = realEigenvalues.toSorted((a, b) => b - a);
  const total = values.reduce((a, b) => a + b, 0);
  const squares = (of: readonly number[]) => of.reduce((sum, value) => sum + value ** 2, 0);
  assertAlmostEquals(squares(map.x), values[0]!, 1e-6 * values[0]!);
  assertAlmostEquals(squares(map.y), values[1]!, 1e-6 * values[1]!);
  assertAlmostEquals(map.explained[0]!, values[0]! / total, 1e-6);
  const { labels } = clusterCodes(CLOUDS, { clusters: 3, seed: 2 });
  assertEquals(neighboursInCluster(map, labels), 1);
  const umap = umapMap(CLOUDS, { seed: 4 });
  assert(neighboursInCluster(umap, labels) > 0.9);
  assertEquals(umap, umapMap(CLOUDS, { seed: 4 }));
  assertThrows(() => umapMap({ ...CLOUDS, rows: 3 }, { seed: 1 }), RangeError, "at least 4");
});
