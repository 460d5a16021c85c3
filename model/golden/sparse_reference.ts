/**
 * Golden cases of Sparse Expansion on the float64 reference.
 *
 * @module
 */

import { silu } from "../reference/activation.ts";
import { matmul, type Matrix, matrix, transpose, zip } from "../reference/matrix.ts";
import { applySite, expandSite, routeSite } from "../reference/sparse/expansion.ts";
import { assign, fitKmeans, lloyd, nearest } from "../reference/sparse/kmeans.ts";
import { fitPca, project } from "../reference/sparse/pca.ts";
import { hessian, inverseFactor, sparsegpt } from "../reference/sparse/sparsegpt.ts";
import { uniform } from "../reference/sparse/uniform.ts";
import type { GoldenResults } from "./golden.ts";
import {
  inputRows,
  LAYER,
  type PcaKmeansCase,
  type SparseCase,
  type SparsegptCase,
  type SparseLayerCase,
} from "./sparse.ts";

function input(golden: SparseCase, name: string): Matrix {
  const { rows, columns, data } = inputRows(golden, name);
  return matrix(rows, columns, data);
}

function pruned(golden: SparsegptCase): GoldenResults {
  const results = new Map<string, ArrayLike<number>>();
  for (const [name, { pruning }] of golden.cases) {
    const h = hessian(input(golden, `${name}.x`));
    const { weight, mask, loss, quantised } = sparsegpt(input(golden, `${name}.w`), h, pruning);
    const { u } = inverseFactor(h, pruning.damping);
    const all = { hessian: h.data, u: u.data, w: weight.data, mask, loss: [loss], ...quantised };
    for (const [key, values] of Object.entries(all)) results.set(`${name}.out.${key}`, values);
  }
  return results;
}

/** Rows of each of so many clusters. */
function countLabels(labels: ArrayLike<number>, clusters: number): number[] {
  const counts = Array<number>(clusters).fill(0);
  for (const label of Array.from(labels)) counts[label]!++;
  return counts;
}

function clustered(golden: PcaKmeansCase): GoldenResults {
  const { expansion, components } = golden;
  const { data: uniforms } = golden.inputs.get("uniforms")!;
  const pca = fitPca(input(golden, "x"), components);
  const z = project(pca, input(golden, "x"));
  const { best, runs, first } = fitKmeans(z, {
    ...expansion,
    uniform: (index) => uniforms[index]!,
  });
  const { centroids, labels } = runs[best]!;
  const empty = { z: input(golden, "empty.z"), start: input(golden, "empty.centroids") };
  const firstly = assign(empty.z, empty.start);
  const finally_ = lloyd(empty.z, empty.start, expansion.max_iterations);
  return new Map<string, ArrayLike<number>>([
    ["out.mean", pca.mean],
    ["out.components", pca.components.data],
    ["out.variance", pca.variance],
    ["out.z", z.data],
    ["out.first", first.flat()],
    ["out.inertia", runs.map(({ inertia }) => inertia)],
    ["out.iterations", runs.map(({ iterations }) => iterations)],
    ["out.best", [best]],
    ["out.centroids", centroids.data],
    ["out.labels", labels],
    ["out.counts", countLabels(labels, expansion.clusters)],
    ["out.route", nearest(project(pca, input(golden, "x_new")), centroids)],
    ["empty.out.first_labels", firstly.labels],
    ["empty.out.first_centroids", firstly.centroids.data],
    ["empty.out.centroids", finally_.centroids.data],
    ["empty.out.labels", finally_.labels],
    ["empty.out.iterations", [finally_.iterations]],
    ["empty.out.repairs", [finally_.repairs]],
    ["empty.out.inertia", [finally_.inertia]],
  ]);
}

/** `silu(gate) ⊙ up`. */
const gated = (gate: Matrix, up: Matrix) => zip(gate, up, (g, u) => silu(g) * u);

function layer(golden: SparseLayerCase): GoldenResults {
  const { expansion, seed } = golden;
  const x = input(golden, "x");
  const weight = (name: string) => input(golden, `${LAYER}${name}.weight`);
  const dense = (rows: Matrix, name: string) => matmul(rows, transpose(weight(name)));
  const mid = gated(dense(x, "gate_proj"), dense(x, "up_proj"));
  const results = new Map<string, ArrayLike<number>>([[
    "out.y_dense",
    dense(mid, "down_proj").data,
  ]]);
  for (const [name, pruning] of golden.cases) {
    const sites = {
      in: expandSite(x, { gate_proj: weight("gate_proj"), up_proj: weight("up_proj") }, {
        expansion,
        pruning,
        uniform: (index) => uniform(seed, index),
      }),
      mid: expandSite(mid, { down_proj: weight("down_proj") }, {
        expansion,
        pruning,
        uniform: (index) => uniform(seed + 1, index),
      }),
    };
    for (const [site, { pca, centroids, labels, experts }] of Object.entries(sites)) {
      results.set(`out.${site}.mean`, pca!.mean).set(`out.${site}.components`, pca!.components.data)
        .set(`out.${site}.centroids`, centroids.data).set(`out.${site}.labels`, labels);
      for (const [linear, all] of Object.entries(experts)) {
        results.set(`${name}.out.${linear}`, all.flatMap((e) => [...e.weight.data]))
          .set(`${name}.out.${linear}.mask`, all.flatMap((e) => [...e.mask]));
      }
    }
    for (const [rows, y, route] of [["x", "y", "route"], ["x_test", "y_test", "route_test"]]) {
      const given = input(golden, rows!);
      const h = gated(
        applySite(sites.in, "gate_proj", given),
        applySite(sites.in, "up_proj", given),
      );
      results.set(`${name}.out.${y}`, applySite(sites.mid, "down_proj", h).data)
        .set(`${name}.out.${route}.in`, routeSite(sites.in, given))
        .set(`${name}.out.${route}.mid`, routeSite(sites.mid, h));
    }
  }
  return results;
}

/** Results of a case of Sparse Expansion in float64. */
export function sparseReference(golden: SparseCase): GoldenResults {
  switch (golden.kind) {
    case "sparsegpt":
      return pruned(golden);
    case "pca_kmeans":
      return clustered(golden);
    case "sparse_expansion_layer":
      return layer(golden);
  }
}
