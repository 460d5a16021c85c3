/**
 * Sparse Expansion of the linear layers that read one input, a *site*: a router, and for each layer a sparse expert for each cluster of the input's rows.
 *
 * An MLP has two sites: `in`, what its first matrices read, and `mid`, what its last one reads.
 *
 * @module
 */

import type { Gpu } from "../gpu/device.ts";
import type { Plan } from "../gpu/plan.ts";
import { roundUp, type Tensor } from "../gpu/tensor.ts";
import { CompressedExperts } from "../ops/compressed/experts.ts";
import {
  type CompressedMatrix,
  type Compression,
  type LevelGrid,
  storedCounts,
} from "../ops/compressed/forms.ts";
import { gemmGroupedCompressed } from "../ops/compressed/gemm_grouped_compressed.ts";
import { packMatrix } from "../ops/compressed/pack.ts";
import { gemm } from "../ops/gemm/gemm.ts";
import { combineRows, gatherRows } from "../ops/mixture/rows.ts";
import { type Segments, segmentsOf } from "../ops/mixture/segments.ts";
import { countRows } from "./routing/kmeans.ts";
import { checkMethod, levelsOf, type Pruning } from "./options.ts";
import { named, Router, type RouterFit, type RouterValues } from "./routing/router.ts";
import type { SiteRows } from "./rows.ts";
import { type PrunedMatrix, Pruner } from "./sparsegpt.ts";

/** Type of the stored weights that are not quantised. */
export type ValueType = "f32" | "f16";

/** A linear layer with its experts, as files hold them. */
export interface StoredLayer {
  readonly outputs: number;
  readonly inputs: number;
  /** Of quantised weights. */
  readonly grid?: LevelGrid | undefined;
  /** One a cluster. */
  readonly experts: readonly CompressedMatrix[];
}

/** A site with its router and its experts, on the host. */
export interface StoredSite {
  readonly router: RouterValues;
  /** By name. */
  readonly layers: Readonly<Record<string, StoredLayer>>;
}

/** Gets each expert as SparseGPT leaves it, before its values are rounded to those that are stored. */
type OnExpert = (expert: {
  readonly layer: string;
  readonly cluster: number;
  readonly matrix: PrunedMatrix;
}) => void | Promise<void>;

/** How a site is expanded. */
export interface SiteOptions {
  readonly pruning: Pruning;
  /** Name of the site in messages. */
  readonly name: string;
  /** Dense matrices `[out, in padded to 4]`, f32, by name. */
  readonly layers: Readonly<Record<string, Tensor>>;
  /** Type to which weights that are not quantised are rounded; f32, which changes none, unless given. */
  readonly values?: ValueType | undefined;
  /** Looked at before each cluster is factored, and before it is pruned. */
  readonly signal?: AbortSignal | undefined;
  /** Told how often the damping of a cluster's Hessian was added until it was positive definite. */
  readonly onFactor?: ((cluster: number, dampings: number) => void) | undefined;
  readonly onExpert?: OnExpert | undefined;
}

/** How the experts of a layer are stored. */
export function compressionOf(
  { pattern, bits, symmetric }: Pruning,
  { inputs, values }: { readonly inputs: number; readonly values: ValueType },
): Compression {
  if (bits === undefined) return { inputs, pattern, values: { kind: values } };
  return {
    inputs,
    pattern,
    values: { kind: "levels", bits, lowest: levelsOf({ bits, symmetric }).lowest },
  };
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

/** The experts of a layer on the GPU, as they are stored. */
function uploadExperts(
  gpu: Gpu,
  name: string,
  { outputs, inputs, grid, experts }: StoredLayer,
): CompressedExperts {
  const [first] = experts;
  const { values } = first!;
  const on = new CompressedExperts(gpu, name, {
    outputs,
    inputs,
    pattern: first!.form === "pattern" ? [first!.zeros, first!.group] : undefined,
    values: values.kind === "levels" ? { ...values, lowest: grid!.lowest } : { kind: values.kind },
    stored: experts.map((expert) => storedCounts(expert).reduce((sum, count) => sum + count, 0)),
    ...(grid && { grid }),
  });
  for (const [j, expert] of experts.entries()) on.upload(j, expert);
  return on;
}

/** Rows that one router sent to experts, as the products of several layers take them. */
export interface Routed {
  /** Expert of each row, u32 `[n]`. */
  readonly label: Tensor;
  readonly segments: Segments;
  /** The rows sorted by expert. */
  readonly sorted: Tensor;
}

/**
 * Prunes an expert for each cluster of the rows that a router was fitted to, and each layer.
 *
 * A cluster whose rows are all zero says nothing about a layer's inputs, so its expert is pruned for all of the site's rows.
 *
 * @returns The experts on the host, where all of a site's are together.
 * @throws {RangeError} Which option does not fit a layer, or what is wrong with the rows of which cluster.
 */
export async function pruneSite(
  gpu: Gpu,
  rows: SiteRows,
  { fit, ...options }: SiteOptions & { readonly fit: RouterFit },
): Promise<StoredSite> {
  const { pruning, layers, onExpert, onFactor, signal, name, values = "f32" } = options;
  const { values: router, kmeans } = fit;
  const { width: inputs } = rows;
  checkMethod(pruning, name, router.clusters);
  const compression = compressionOf(pruning, { inputs, values });
  const experts = new Map(Object.keys(layers).map((name) => [name, [] as CompressedMatrix[]]));
  const grids = new Map<string, LevelGrid>();
  using pruner = await Pruner.open(gpu, { inputs, pruning, layers });
  const factor = async (cluster: number, numbers: Uint32Array) => {
    if (pruning.method === "magnitude") return pruner.takeIdentity();
    await pruner.measure(rows, numbers);
    if (await pruner.silent()) await pruner.measure(rows);
    return await named(`${name} cluster ${cluster}`, () => pruner.factor());
  };
  const pack = async (cluster: number) => {
    for (const [layer, packed] of experts) {
      const matrix = await pruner.read(layer);
      packed.push(packMatrix(`${name} ${layer} of cluster ${cluster}`, matrix, compression));
      if (matrix.quantised && compression.values.kind === "levels") {
        const { scale, zero } = matrix.quantised;
        grids.set(layer, { scale, zero, lowest: compression.values.lowest });
      }
      await onExpert?.({ layer, cluster, matrix });
    }
  };
  const clusters = rowsByCluster(kmeans.clusters.labels, router.clusters);
  // The host packs the experts of a cluster while the GPU is busy with the factor of the next one. Work that was started ends before the pruner does, whatever fails.
  let packing = Promise.resolve();
  try {
    for (const [cluster, numbers] of clusters.entries()) {
      signal?.throwIfAborted();
      const dampings = await factor(cluster, numbers);
      await packing;
      signal?.throwIfAborted();
      if (dampings !== undefined) onFactor?.(cluster, dampings);
      for (const layer of experts.keys()) pruner.prune(layer);
      packing = pack(cluster);
      // It is waited for, but not at once.
      packing.catch(() => {});
    }
  } finally {
    await packing;
  }
  return {
    router,
    layers: Object.fromEntries(
      Array.from(experts, ([layer, packed]) => {
        const { rows: outputs } = layers[layer]!;
        return [layer, { outputs, inputs, grid: grids.get(layer), experts: packed }];
      }),
    ),
  };
}

/** A site with its router and its experts on the GPU. */
export class ExpandedSite implements Disposable {
  readonly #experts = new Map<string, CompressedExperts>();
  readonly #router: Router;

  /** Moves a site to the GPU. */
  constructor(gpu: Gpu, { router, layers }: StoredSite) {
    this.#router = new Router(gpu, router);
    try {
      for (const [name, layer] of Object.entries(layers)) {
        this.#experts.set(name, uploadExperts(gpu, name, layer));
      }
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /** The router's numbers. */
  get router(): RouterValues {
    return this.#router.values;
  }

  /** Records where rows `[n, in padded to 4]`, f32, go. */
  route(plan: Plan, x: Tensor): Routed {
    const label = this.#router.record(plan, x);
    const segments = segmentsOf(plan, "experts", {
      keys: label.reshape(label.size, 1),
      experts: this.router.clusters,
      drops: false,
      gradients: false,
      dtype: "f32",
    });
    const sorted = plan.tensor("sorted", [segments.groups.rows, x.width]);
    gatherRows(plan, "sort", { segments, x, out: sorted });
    return { label, segments, sorted };
  }

  /** Records `x Wᵀ` with the expert of each row, `[rows, out padded to 4]`, f32, for the rows as they are sorted; what belongs to no row holds anything. */
  products(plan: Plan, layer: string, { segments, sorted }: Routed): Tensor {
    const { weights } = this.#experts.get(layer)!;
    const rows = plan.tensor(layer, [segments.groups.rows, roundUp(weights.outputs, 4)]);
    gemmGroupedCompressed(plan, layer, {
      a: sorted,
      b: weights,
      c: rows,
      groups: segments.groups,
    });
    return rows;
  }

  /**
   * Records the columns of `x Wᵀ` that belong to some outputs, in the order of the rows themselves: `[n, numbers]`.
   *
   * @param from `numbers`: a multiple of four of them.
   */
  sample(
    plan: Plan,
    layer: string,
    { routed, numbers }: { routed: Routed; numbers: readonly number[] },
  ): Tensor {
    const products = this.products(plan, layer, routed);
    // Experts are compressed, and a row of one can't be taken alone: a product with ones picks columns, and changes no bit.
    const picked = plan.constant(`${layer}.picked`, [numbers.length, products.width], {
      numbers() {
        const ones = new Float32Array(numbers.length * products.width);
        for (const [i, number] of numbers.entries()) ones[i * products.width + number] = 1;
        return ones;
      },
    });
    const rows = plan.tensor(`${layer}.sample`, [products.rows, numbers.length]);
    gemm(plan, "sample", { a: products, b: picked, c: rows, layout: "nt" });
    return this.combine(plan, routed, rows);
  }

  /** Records rows in their own order again, plus `residual`: `[n, width]` of sorted rows of that width. */
  combine(plan: Plan, { segments, label }: Routed, rows: Tensor, residual?: Tensor): Tensor {
    const y = plan.tensor("combined", [label.size, rows.width]);
    combineRows(plan, "combine", { segments, rows, y, ...(residual && { residual }) });
    return y;
  }

  /** Bytes of the experts on the device. */
  get expertBytes(): number {
    return this.#experts.values().reduce((sum, { bytes }) => sum + bytes, 0);
  }

  /** Bytes of router and experts. */
  get bytes(): number {
    return this.#router.bytes + this.expertBytes;
  }

  /** Frees router and experts. */
  [Symbol.dispose](): void {
    this.#router[Symbol.dispose]();
    for (const experts of this.#experts.values()) experts[Symbol.dispose]();
  }
}
