/**
 * Sparse Expansion of the linear layers that read one input, a *site*: a router, and for each layer a sparse expert for each cluster of the input's rows.
 *
 * An MLP has two sites: `in`, what its first matrices read, and `mid`, what its last one reads.
 *
 * @module
 */

import { runPlan } from "../gpu/build.ts";
import type { Gpu } from "../gpu/device.ts";
import { Plan } from "../gpu/plan.ts";
import { roundUp, type Tensor } from "../gpu/tensor.ts";
import { embeddingForward } from "../ops/elementwise/embedding.ts";
import { gemmGrouped } from "../ops/gemm/gemm_grouped.ts";
import { combineRows, gatherRows } from "../ops/mixture/rows.ts";
import { type Segments, segmentsOf } from "../ops/mixture/segments.ts";
import { countRows } from "./kmeans.ts";
import { checkMethod, type Pruning } from "./options.ts";
import { named, Router, type RouterFit, type RouterValues } from "./router.ts";
import { type SiteRows, Tensors } from "./rows.ts";
import { type PrunedMatrix, Pruner } from "./sparsegpt.ts";

/** How a site is expanded. */
interface SiteOptions {
  readonly pruning: Pruning;
  /** Name of the site in messages. */
  readonly name: string;
  /** Dense matrices `[out, in padded to 4]`, f32, by name. */
  readonly layers: Readonly<Record<string, Tensor>>;
  /** Gets each expert as it is done; the host keeps none otherwise. */
  readonly onExpert?: (expert: {
    readonly layer: string;
    readonly cluster: number;
    readonly matrix: PrunedMatrix;
  }) => void | Promise<void>;
}

/** Numbers of the rows of each cluster, in ascending order. */
export function rowsByCluster(labels: ArrayLike<number>, clusters: number): Uint32Array[] {
  const rows = Array.from(countRows(labels, clusters), (count) => new Uint32Array(count));
  const next = new Uint32Array(clusters);
  for (let i = 0; i < labels.length; i++) {
    const label = labels[i]!;
    rows[label]![next[label]!++] = i;
  }
  return rows;
}

/** Rows that one router sent to experts, as the products of several layers take them. */
export interface Routed {
  /** Expert of each row, u32 `[n]`. */
  readonly label: Tensor;
  readonly segments: Segments;
  /** The rows sorted by expert. */
  readonly sorted: Tensor;
}

/** A site with its router and its experts on the GPU. */
export class ExpandedSite implements Disposable {
  readonly #tensors: Tensors;
  readonly #experts: ReadonlyMap<string, readonly Tensor[]>;
  readonly #router: Router;

  private constructor(
    tensors: Tensors,
    router: Router,
    experts: ReadonlyMap<string, readonly Tensor[]>,
  ) {
    this.#tensors = tensors;
    this.#router = router;
    this.#experts = experts;
  }

  /** The router's numbers. */
  get router(): RouterValues {
    return this.#router.values;
  }

  /**
   * Prunes an expert for each cluster of the rows that a router was fitted to, and each layer.
   *
   * A cluster whose rows are all zero says nothing about a layer's inputs, so its expert is pruned for all of the site's rows.
   *
   * @throws {RangeError} Which option does not fit a layer, or what is wrong with the rows of which cluster.
   */
  static async prune(
    gpu: Gpu,
    rows: SiteRows,
    { fit, ...options }: SiteOptions & { readonly fit: RouterFit },
  ): Promise<ExpandedSite> {
    const { pruning, layers, onExpert, name } = options;
    const { values, kmeans } = fit;
    checkMethod(pruning, name, values.clusters);
    const tensors = new Tensors(gpu);
    const router = new Router(gpu, values);
    const experts = new Map(
      Object.entries(layers).map(([name, { rows, width }]) => [
        name,
        Array.from(
          { length: values.clusters },
          (_, j) => tensors.tensor(`${name}.experts.${j}`, [1, roundUp(rows, 4), width]),
        ),
      ]),
    );
    const site = new ExpandedSite(tensors, router, experts);
    try {
      using pruner = await Pruner.open(gpu, { inputs: rows.width, pruning, layers });
      const clusters = rowsByCluster(kmeans.clusters.labels, values.clusters);
      for (const [cluster, numbers] of clusters.entries()) {
        if (pruning.method === "magnitude") {
          pruner.takeIdentity();
        } else {
          await pruner.measure(rows, numbers);
          if (await pruner.silent()) await pruner.measure(rows);
          await named(`${name} cluster ${cluster}`, () => pruner.factor());
        }
        for (const [layer, targets] of experts) {
          pruner.prune(layer);
          const keep = new Plan(gpu, "keep");
          const from = pruner.pruned(layer);
          const [, rows, columns] = targets[cluster]!.shape as [number, number, number];
          keep.copy(from, targets[cluster]!.reshape(rows, columns).slice(0, from.rows));
          await runPlan(keep);
          await onExpert?.({ layer, cluster, matrix: await pruner.read(layer) });
        }
      }
    } catch (error) {
      site[Symbol.dispose]();
      throw error;
    }
    return site;
  }

  /** Records where rows `[n, in padded to 4]`, f32, go. */
  route(plan: Plan, x: Tensor): Routed {
    const label = this.#router.record(plan, x);
    const segments = segmentsOf(plan, "experts", {
      keys: label.reshape(label.size, 1),
      experts: this.router.clusters,
      drops: false,
      gradients: false,
    });
    const sorted = plan.tensor("sorted", [segments.groups.rows, x.width]);
    gatherRows(plan, "sort", { segments, x, out: sorted });
    return { label, segments, sorted };
  }

  /** Records `x Wᵀ` with the expert of each row, `[rows, out padded to 4]`, f32, for the rows as they are sorted; what belongs to no row holds anything. */
  products(plan: Plan, layer: string, { segments, sorted }: Routed): Tensor {
    const experts = this.#experts.get(layer)!;
    const rows = plan.tensor(layer, [segments.groups.rows, experts[0]!.shape[1]!]);
    gemmGrouped(plan, layer, {
      a: sorted,
      b: experts,
      c: rows,
      layout: "nt",
      groups: segments.groups,
    });
    return rows;
  }

  /** Records the columns of `x Wᵀ` that belong to some outputs, in the order of the rows themselves: `[n, numbers]`. */
  sample(
    plan: Plan,
    layer: string,
    { routed, numbers }: { routed: Routed; numbers: Tensor },
  ): Tensor {
    const { segments: { groups }, sorted } = routed;
    const experts = this.#experts.get(layer)!.map((expert, j) => {
      const [, rows, width] = expert.shape as [number, number, number];
      const own = plan.tensor(`neurons.${j}`, [numbers.size, width]);
      const parts = [expert.reshape(rows, width)];
      embeddingForward(plan, "neurons", { tokens: numbers, parts, x: own });
      return own.reshape(1, numbers.size, width);
    });
    const rows = plan.tensor(`${layer}.sample`, [groups.rows, numbers.size]);
    gemmGrouped(plan, "sample", { a: sorted, b: experts, c: rows, layout: "nt", groups });
    return this.combine(plan, routed, rows);
  }

  /** Records rows in their own order again, plus `residual`: `[n, width]` of sorted rows of that width. */
  combine(plan: Plan, { segments, label }: Routed, rows: Tensor, residual?: Tensor): Tensor {
    const y = plan.tensor("combined", [label.size, rows.width]);
    combineRows(plan, "combine", { segments, rows, y, ...(residual && { residual }) });
    return y;
  }

  /** Frees router and experts. */
  [Symbol.dispose](): void {
    this.#router[Symbol.dispose]();
    this.#tensors[Symbol.dispose]();
  }
}
