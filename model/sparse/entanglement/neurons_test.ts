import { assert, assertEquals } from "@std/assert";
import type { Gpu } from "../../gpu/device.ts";
import { openTestGpu } from "../../gpu/testing.ts";
import { assertNear, noise } from "../../ops/testing.ts";
import { matmul, type Matrix, matrix, row, transpose } from "../../reference/matrix.ts";
import { ExpandedMlp, expandMlp, type SiteName } from "../mlp.ts";
import { PRUNING } from "../options.ts";
import { Tensors, uploadRows } from "../rows.ts";
import { BINS, measureNeurons, spacedNeurons } from "./neurons.ts";
import { gaussianDistance } from "./wasserstein.ts";

const [ROWS, D, F] = [120, 10, 15];
const USED = 90;

/** Rows in three groups that lie far apart, so that every neuron has several modes. */
const grouped = (width: number, seed: number) =>
  matrix(
    ROWS,
    width,
    noise(ROWS * width, seed).map((v, i) =>
      Math.fround(v / 4 + 3 * Math.sin(Math.floor(i / width) % 3 * 5 + i % width * 2))
    ),
  );

async function measured(gpu: Gpu) {
  using tensors = new Tensors(gpu);
  const rows = { in: grouped(D, 1), mid: grouped(F, 2) };
  const weights: Record<string, Matrix> = {
    gate: matrix(F, D, noise(F * D, 3)),
    up: matrix(F, D, noise(F * D, 4)),
    down: matrix(D, F, noise(D * F, 5)),
  };
  const on = (name: string) => tensors.matrix(name, weights[name]!.data, weights[name]!.columns);
  const dense = { activation: "swiglu", gate: on("gate"), up: on("up"), down: on("down") } as const;
  const site = ({ data, columns }: Matrix) => uploadRows(tensors, data, { width: columns, gpu });
  const entering = { in: site(rows.in), mid: site(rows.mid) };
  const experts: Record<string, Matrix[]> = {};
  const labels: Partial<Record<SiteName, Uint32Array>> = {};
  const stored = await expandMlp(gpu, dense, {
    rows: entering,
    expansion: { clusters: 3, pca_factor: 4, restarts: 2, max_iterations: 50 },
    pruning: { ...PRUNING, sparsity: 0.5, block: 8 },
    seed: 3,
    block: 0,
    onRouter: (name, { kmeans }) => void (labels[name] = kmeans.clusters.labels),
    onExpert: ({ layer, matrix: { weight } }) => {
      const { rows, columns } = weights[layer]!;
      (experts[layer] ??= []).push(matrix(rows, columns, Float64Array.from(weight)));
    },
  });
  using mlp = new ExpandedMlp(gpu, stored);
  const found = await measureNeurons(
    gpu,
    { mlp, dense, rows: entering },
    { neurons: 7, rows: USED, shown: 2, seed: 8 },
  );
  return { found, rows, weights, experts, labels };
}

Deno.test("neurons have the distances that float64 finds", async () => {
  const { found, rows, weights, experts, labels } = await measured(await openTestGpu());
  assertEquals(found.map(({ site, layer }) => `${site} ${layer}`), [
    "in gate",
    "in up",
    "mid down",
  ]);
  for (const { site, layer, neurons, ...distances } of found) {
    const w = weights[layer]!;
    const own = labels[site]!.subarray(0, USED);
    const x = matrix(USED, w.columns, rows[site].data.slice(0, USED * w.columns));
    assertEquals(neurons, spacedNeurons(w.rows, 7));
    const sizes = [0, 1, 2].map((j) => own.filter((label) => label === j).length);
    assertEquals(distances.rows, sizes);
    const dense = matmul(x, transpose(w));
    const by = experts[layer]!.map((expert) => matmul(x, transpose(expert)));
    const within = (neuron: number, of: (label: number) => Matrix) =>
      sizes.reduce((sum, size, j) => {
        const values = [...own.keys()].filter((i) => own[i] === j)
          .map((i) => row(of(j), i)[neuron]!);
        return sum + size / USED * gaussianDistance(values);
      }, 0);
    const near = (list: readonly number[], expected: (neuron: number) => number, what: string) =>
      assertNear(list, neurons.map(expected), { tolerance: 1e-4, what: `${layer} ${what}` });
    near(
      distances.dense,
      (i) => gaussianDistance(Float64Array.from({ length: USED }, (_, t) => row(dense, t)[i]!)),
      "dense",
    );
    near(distances.clustered, (i) => within(i, () => dense), "clustered");
    near(distances.expert, (i) => within(i, (j) => by[j]!), "expert");
    // Parts at random have the modes of all rows, clusters one each.
    const mean = (list: readonly number[]) => list.reduce((a, b) => a + b) / list.length;
    assert(mean(distances.clustered) < mean(distances.split) / 1.5, layer);
  }
});

Deno.test("histograms show the least and the most Gaussian neurons", async () => {
  const { found } = await measured(await openTestGpu());
  for (const { neurons, dense, histograms } of found) {
    const sorted = [...neurons].sort((a, b) =>
      dense[neurons.indexOf(b)]! - dense[neurons.indexOf(a)]!
    );
    assertEquals(histograms.map(({ neuron }) => neuron), [
      ...sorted.slice(0, 2),
      ...sorted.slice(5),
    ]);
    for (const { dense, expert } of histograms) {
      for (const counts of [dense, expert]) {
        assertEquals(counts.length, BINS.bins);
        assertEquals(counts.reduce((a, b) => a + b), USED);
      }
    }
  }
});

Deno.test("spacedNeurons() spreads over a layer, and has each neuron once", () => {
  assertEquals(spacedNeurons(3, 7), [0, 1, 2]);
  assertEquals(spacedNeurons(100, 4), [12, 37, 62, 87]);
});
