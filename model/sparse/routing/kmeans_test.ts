import fc from "fast-check";
import { assert, assertEquals, assertRejects } from "@std/assert";
import { openTestGpu } from "../../gpu/testing.ts";
import { assertNear, noise } from "../../ops/testing.ts";
import { matrix } from "../../reference/matrix.ts";
import { fitKmeans } from "../../reference/sparse/kmeans.ts";
import { countRows, Kmeans } from "./kmeans.ts";
import { EXPANSION } from "../options.ts";
import { Tensors } from "../rows.ts";
import { uniform } from "./uniform.ts";

/** Rows around centres that are apart. */
function example(rows: number, width: number, centres: number): Float64Array {
  return noise(rows * width, 3).map((v, i) => {
    const centre = Math.floor(i / width) * 7 % centres;
    return Math.fround(0.3 * v + Math.sin(centre * 13 + i % width * 5));
  });
}

Deno.test("Kmeans finds the clusters that float64 finds, on any number of rows", async () => {
  const gpu = await openTestGpu();
  for (
    const [rows, width, clusters] of [[1, 3, 1], [7, 1, 7], [90, 5, 4], [260, 9, 13]] as const
  ) {
    using tensors = new Tensors(gpu);
    const values = example(rows, width, clusters);
    const z = tensors.matrix("z", values, width);
    using kmeans = await Kmeans.open(gpu, z, { width, clusters });
    const options = { ...EXPANSION, clusters, restarts: 3 };
    const draw = (index: number) => uniform(5, index);
    const found = await kmeans.fit(options, draw);
    const expected = fitKmeans(matrix(rows, width, values), { ...options, uniform: draw });
    const best = expected.runs[expected.best]!;
    assertEquals(found.first, expected.first);
    assertEquals(found.best, expected.best);
    assertEquals([...found.clusters.labels], [...best.labels]);
    assertEquals(found.iterations, expected.runs.map(({ iterations }) => iterations));
    const tolerance = 1e-5;
    assertNear(found.clusters.centroids, best.centroids.data, { tolerance, what: "centroids" });
    assertNear([...found.inertia, 1], [...expected.runs.map(({ inertia }) => inertia), 1], {
      tolerance,
      what: "inertia",
    });
  }
});

Deno.test("Kmeans leaves no cluster without a row, and stops when it may not go on", async () => {
  const gpu = await openTestGpu();
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 6 }),
      fc.integer({ min: 0, max: 3 }),
      fc.integer({ min: 1, max: 99 }),
      async (clusters, iterations, seed) => {
        using tensors = new Tensors(gpu);
        const rows = clusters + 9;
        const z = tensors.matrix("z", noise(rows * 2, seed), 2);
        using kmeans = await Kmeans.open(gpu, z, { width: 2, clusters });
        // All centroids in one place, far away.
        const start = new Float32Array(2 * clusters).fill(50);
        const { labels, repairs, iterations: done } = await kmeans.lloyd(start, iterations);
        assert(countRows(labels, clusters).every((count) => count > 0));
        assert(repairs >= clusters - 1);
        assert(done <= iterations);
      },
    ),
    { numRuns: 12 },
  );
});

Deno.test("Kmeans refuses fewer rows than clusters, and fewer different ones", async () => {
  const gpu = await openTestGpu();
  using tensors = new Tensors(gpu);
  const z = tensors.matrix("z", new Float64Array(12).fill(1), 3);
  await assertRejects(
    () => Kmeans.open(gpu, z, { width: 3, clusters: 5 }),
    RangeError,
    "5 clusters of 4 rows",
  );
  using kmeans = await Kmeans.open(gpu, z, { width: 3, clusters: 2 });
  await assertRejects(
    () => kmeans.seed([0.5, 0.5]),
    RangeError,
    "There are fewer than 2 different rows",
  );
});
