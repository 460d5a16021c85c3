import { assertEquals, assertThrows } from "@std/assert";
import { Plan } from "../../gpu/plan.ts";
import { openTestGpu } from "../../gpu/testing.ts";
import { matrix } from "../../reference/matrix.ts";
import { nearest } from "../../reference/sparse/kmeans.ts";
import { assertNear, Inputs, noise, runOnce } from "../testing.ts";
import { clusterMeans, nearestCentroid } from "./cluster.ts";

/** Rows, centroids, labels that float64 gives, squared distances, and means. */
function example(rows: number, width: number, clusters: number) {
  const x = noise(rows * width, 1);
  const centroids = noise(clusters * width, 2);
  const labels = nearest(matrix(rows, width, x), matrix(clusters, width, centroids));
  const distances = Float64Array.from(labels, (label, i) => {
    const difference = (k: number) => x[i * width + k]! - centroids[label * width + k]!;
    return Array.from({ length: width }, (_, k) => difference(k) ** 2).reduce((a, b) => a + b, 0);
  });
  const means = new Float64Array(clusters * width);
  const counts = new Float64Array(clusters);
  labels.forEach((label, i) => {
    counts[label]!++;
    for (let k = 0; k < width; k++) means[label * width + k]! += x[i * width + k]!;
  });
  means.forEach((v, i) => means[i] = v / Math.max(1, counts[Math.floor(i / width)]!));
  return { x, centroids, labels, distances, means };
}

Deno.test("nearestCentroid() and clusterMeans() agree with float64", async () => {
  for (const software of [true, false]) {
    const gpu = await openTestGpu({ software });
    for (const [rows, width, clusters] of [[1, 4, 1], [77, 12, 5], [300, 8, 16]] as const) {
      using inputs = new Inputs(gpu);
      const { x, centroids, labels, distances, means } = example(rows, width, clusters);
      const tensors = {
        x: inputs.tensor("x", [rows, width], { values: x }),
        centroids: inputs.tensor("centroids", [clusters, width], { values: centroids }),
        label: inputs.tensor("label", [rows], { values: labels.map(() => 9), dtype: "u32" }),
        distance: inputs.tensor("distance", [rows], { values: distances.map(() => NaN) }),
      };
      const out = await runOnce(gpu, (plan) => {
        nearestCentroid(plan, "nearest", tensors);
        const means = inputs.tensor("means", [clusters, width]);
        clusterMeans(plan, "means", { ...tensors, centroids: means });
        return { label: tensors.label, distance: tensors.distance, means };
      });
      assertEquals([...out.label], [...labels]);
      assertNear(out.distance, distances, { tolerance: 1e-6, what: "distances" });
      assertNear(out.means, means, { tolerance: 1e-6, what: "means" });
    }
  }
});

Deno.test("nearestCentroid() takes the lower of equal centroids, and centroids one after the other", async () => {
  const gpu = await openTestGpu();
  using inputs = new Inputs(gpu);
  const tensors = {
    x: inputs.tensor("x", [3, 4], { values: [0, 0, 0, 0, 1, 1, 1, 1, 5, 5, 5, 5] }),
    centroids: inputs.tensor("centroids", [3, 4], { values: [1, 1, 1, 1, 1, 1, 1, 1, 4, 4, 4, 4] }),
    label: inputs.tensor("label", [3], { dtype: "u32" }),
    distance: inputs.tensor("distance", [3], { values: [0, 0, 0] }),
  };
  const read = { label: tensors.label, distance: tensors.distance };
  const all = await runOnce(gpu, (plan) => {
    nearestCentroid(plan, "nearest", tensors);
    return read;
  });
  assertEquals([...all.label], [0, 0, 2]);
  assertEquals([...all.distance], [4, 0, 4]);
  const first = await runOnce(gpu, (plan) => {
    for (const only of [0, 1]) nearestCentroid(plan, "nearest", tensors, { only });
    return read;
  });
  assertEquals([...first.label], [0, 0, 0]);
  assertEquals([...first.distance], [4, 0, 64]);
});

Deno.test("nearestCentroid() splits more rounds than a software adapter runs", async () => {
  const gpu = await openTestGpu({ software: true });
  using inputs = new Inputs(gpu);
  const [rows, width, clusters] = [3, 4000, 70];
  const { x, centroids, labels, distances } = example(rows, width, clusters);
  // The last centroid is the nearest of the last row.
  for (let k = 0; k < width; k++) {
    centroids[(clusters - 1) * width + k] = x[(rows - 1) * width + k]! + 0.01;
  }
  labels[rows - 1] = clusters - 1;
  distances[rows - 1] = 1e-4 * width;
  const tensors = {
    x: inputs.tensor("x", [rows, width], { values: x }),
    centroids: inputs.tensor("centroids", [clusters, width], { values: centroids }),
    label: inputs.tensor("label", [rows], { dtype: "u32" }),
    distance: inputs.tensor("distance", [rows]),
  };
  const plan = new Plan(gpu, "test");
  nearestCentroid(plan, "nearest", tensors);
  assertEquals(plan.steps.length, 2);
  const out = await runOnce(gpu, (plan) => {
    nearestCentroid(plan, "nearest", tensors);
    return { label: tensors.label, distance: tensors.distance };
  });
  assertEquals([...out.label], [...labels]);
  assertNear(out.distance, distances, { tolerance: 1e-5, what: "distances" });
});

Deno.test("nearestCentroid() refuses centroids of another width", async () => {
  const gpu = await openTestGpu();
  using inputs = new Inputs(gpu);
  const tensors = {
    x: inputs.tensor("x", [3, 4]),
    centroids: inputs.tensor("centroids", [3, 8]),
    label: inputs.tensor("label", [3], { dtype: "u32" }),
    distance: inputs.tensor("distance", [3]),
  };
  assertThrows(
    () => nearestCentroid(new Plan(gpu, "test"), "nearest", tensors),
    RangeError,
    "x is 3×4, centroids 8 wide",
  );
});
