/**
 * Golden cases of Sparse Expansion on a GPU.
 *
 * @module
 */

import { runPlan } from "../gpu/build.ts";
import type { Gpu } from "../gpu/device.ts";
import { Plan } from "../gpu/plan.ts";
import { roundUp, type Tensor } from "../gpu/tensor.ts";
import { download } from "../gpu/transfer.ts";
import { gemm } from "../ops/gemm/gemm.ts";
import { matrix } from "../ops/gemm/matrix.ts";
import { swigluForward } from "../ops/elementwise/swiglu.ts";
import { countRows, Kmeans } from "../sparse/routing/kmeans.ts";
import { ExpandedMlp, expandMlp } from "../sparse/mlp.ts";
import { fitRouter, Router, type RouterFit } from "../sparse/routing/router.ts";
import { type SiteRows, Tensors, unpadColumns, uploadRows } from "../sparse/rows.ts";
import { Pruner } from "../sparse/sparsegpt.ts";
import type { GoldenResults } from "./golden.ts";
import {
  inputRows,
  LAYER,
  type PcaKmeansCase,
  type SparseCase,
  type SparsegptCase,
  type SparseLayerCase,
} from "./sparse.ts";

/** An input as a matrix on the GPU, padded. */
function input(tensors: Tensors, golden: SparseCase, name: string): Tensor {
  const { data, columns } = inputRows(golden, name);
  return tensors.matrix(name, data, columns);
}

/** An input as rows of a site, in chunks of few rows so that there are several. */
function site(gpu: Gpu, tensors: Tensors, golden: SparseCase, name: string): SiteRows {
  const { data, columns } = inputRows(golden, name);
  return uploadRows(tensors, data, { width: columns, gpu, most: 64 });
}

/** Tensors as they are on the host, without padding. */
async function read(
  plan: Plan,
  outputs: Readonly<Record<string, { tensor: Tensor; columns?: number }>>,
): Promise<Map<string, ArrayLike<number>>> {
  const found = await runPlan(
    plan,
    Object.fromEntries(Object.entries(outputs).map(([name, { tensor }]) => [name, tensor])),
  );
  return new Map(
    Object.entries(outputs).map(([name, { columns }]) => [
      name,
      columns === undefined ? found[name]! : unpadColumns(found[name]!, columns),
    ]),
  );
}

async function pruned(gpu: Gpu, golden: SparsegptCase): Promise<GoldenResults> {
  const results = new Map<string, ArrayLike<number>>();
  for (const [name, { pruning, inputs }] of golden.cases) {
    using tensors = new Tensors(gpu);
    const rows = site(gpu, tensors, golden, `${name}.x`);
    const layers = { w: input(tensors, golden, `${name}.w`) };
    using pruner = await Pruner.open(gpu, { inputs, pruning, layers });
    await pruner.measure(rows);
    await pruner.factor();
    pruner.prune("w");
    const { weight, mask, loss, quantised } = await pruner.read("w");
    const [hessian, u] = await Promise.all(
      [pruner.hessian, pruner.factorTensor].map(async (tensor) =>
        unpadColumns(await download(gpu, tensor), inputs)
      ),
    );
    const all = { w: weight, mask, loss: [loss], hessian: hessian!, u: u!, ...quantised };
    for (const [key, values] of Object.entries(all)) results.set(`${name}.out.${key}`, values);
  }
  return results;
}

/** The result names of a router. */
function routerResults({ values }: RouterFit): [string, ArrayLike<number>][] {
  const { pca, centroids } = values;
  return [
    ["mean", pca!.mean],
    ["components", pca!.components],
    ["variance", pca!.variance!],
    ["centroids", centroids],
  ];
}

async function clustered(gpu: Gpu, golden: PcaKmeansCase): Promise<GoldenResults> {
  const { expansion } = golden;
  const { data: uniforms } = golden.inputs.get("uniforms")!;
  using tensors = new Tensors(gpu);
  const rows = site(gpu, tensors, golden, "x");
  const fit = await fitRouter(gpu, rows, {
    expansion,
    uniform: (index) => uniforms[index]!,
    name: golden.file,
  });
  const { best, clusters, inertia, iterations, first } = fit.kmeans;
  using router = new Router(gpu, fit.values);
  const plan = new Plan(gpu, "route");
  const components = golden.components;
  const z = router.project(plan, input(tensors, golden, "x"));
  const label = router.record(plan, input(tensors, golden, "x_new"));
  const routed = await read(plan, {
    "out.z": { tensor: z, columns: components },
    "out.route": { tensor: label },
  });
  const empty = inputRows(golden, "empty.centroids");
  using kmeans = await Kmeans.open(gpu, input(tensors, golden, "empty.z"), {
    width: empty.columns,
    clusters: empty.rows,
  });
  const firstly = await kmeans.assign(empty.data);
  const finally_ = await kmeans.lloyd(empty.data, expansion.max_iterations);
  return new Map<string, ArrayLike<number>>([
    ...routerResults(fit).map(([name, values]) => [`out.${name}`, values] as const),
    ...routed,
    ["out.first", first.flat()],
    ["out.inertia", inertia],
    ["out.iterations", iterations],
    ["out.best", [best]],
    ["out.labels", clusters.labels],
    ["out.counts", countRows(clusters.labels, expansion.clusters)],
    ["empty.out.first_labels", firstly.labels],
    ["empty.out.first_centroids", firstly.centroids],
    ["empty.out.centroids", finally_.centroids],
    ["empty.out.labels", finally_.labels],
    ["empty.out.iterations", [finally_.iterations]],
    ["empty.out.repairs", [finally_.repairs]],
    ["empty.out.inertia", [finally_.inertia]],
  ]);
}

async function layer(gpu: Gpu, golden: SparseLayerCase): Promise<GoldenResults> {
  using tensors = new Tensors(gpu);
  const weight = (name: string) => input(tensors, golden, `${LAYER}${name}_proj.weight`);
  const dense = {
    activation: "swiglu",
    gate: weight("gate"),
    up: weight("up"),
    down: weight("down"),
  } as const;
  const x = input(tensors, golden, "x");
  const inner = dense.gate.rows;
  const outputs = dense.down.rows;
  const h = tensors.tensor("h", [x.rows, roundUp(inner, 4)]);
  const plan = new Plan(gpu, "dense");
  const product = (name: "gate" | "up" | "down", a: Tensor) => {
    const { rows } = dense[name];
    const c = plan.tensor(name, [a.rows, roundUp(rows, 4)]);
    gemm(plan, name, { a, b: dense[name], c: matrix(c, { columns: rows }), layout: "nt" });
    return c;
  };
  swigluForward(plan, "swiglu", { gate: product("gate", x), up: product("up", x), h });
  const y_dense = product("down", h);
  const results = await read(plan, { "out.y_dense": { tensor: y_dense, columns: outputs } });
  for (const [name, pruning] of golden.cases) {
    const weights = new Map<string, number[]>();
    const append = (key: string, values: ArrayLike<number>) =>
      weights.set(key, [...weights.get(key) ?? [], ...Array.from(values)]);
    const stored = await expandMlp(gpu, dense, {
      rows: {
        in: site(gpu, tensors, golden, "x"),
        mid: { chunks: [h], count: h.rows, width: inner },
      },
      expansion: golden.expansion,
      pruning,
      seed: golden.seed,
      block: 0,
      onRouter(at, fit) {
        for (const [key, values] of routerResults(fit)) results.set(`out.${at}.${key}`, values);
        results.set(`out.${at}.labels`, fit.kmeans.clusters.labels);
      },
      onExpert({ layer, matrix: { weight, mask } }) {
        append(`${name}.out.${layer}_proj`, weight);
        append(`${name}.out.${layer}_proj.mask`, mask);
      },
    });
    using mlp = new ExpandedMlp(gpu, stored);
    for (const [key, values] of weights) results.set(key, values);
    for (const [given, out, route] of [["x", "y", "route"], ["x_test", "y_test", "route_test"]]) {
      const plan = new Plan(gpu, "expanded");
      const { y, labels } = mlp.record(plan, input(tensors, golden, given!));
      const found = await read(plan, {
        [`${name}.out.${out}`]: { tensor: y, columns: outputs },
        [`${name}.out.${route}.in`]: { tensor: labels.in },
        [`${name}.out.${route}.mid`]: { tensor: labels.mid },
      });
      for (const [key, values] of found) results.set(key, values);
    }
  }
  return results;
}

/** Results of a case of Sparse Expansion on the GPU. */
export async function sparseOnGpu(gpu: Gpu, golden: SparseCase): Promise<GoldenResults> {
  switch (golden.kind) {
    case "sparsegpt":
      return await pruned(gpu, golden);
    case "pca_kmeans":
      return await clustered(gpu, golden);
    case "sparse_expansion_layer":
      return await layer(gpu, golden);
  }
}
