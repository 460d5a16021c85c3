/**
 * The router of a site: which cluster, and so which expert, a row goes to.
 *
 * @module
 */

import { runPlan } from "../../gpu/build.ts";
import type { Gpu } from "../../gpu/device.ts";
import { Plan } from "../../gpu/plan.ts";
import { roundUp, type Tensor } from "../../gpu/tensor.ts";
import { gemm } from "../../ops/gemm/gemm.ts";
import { type Matrix, matrix } from "../../ops/gemm/matrix.ts";
import { nearestCentroid } from "../../ops/linalg/cluster.ts";
import { centreRows } from "../../ops/linalg/moments.ts";
import { randomCentroids } from "./centroids.ts";
import { Kmeans, type KmeansFit } from "./kmeans.ts";
import { checkExpansion, componentsOf, type Expansion } from "../options.ts";
import { fitPca, type Pca, type PcaTensors, pcaTensors, type Projection } from "./pca.ts";
import { type SiteRows, Tensors } from "../rows.ts";

/** A router's numbers, as files hold them. */
export interface RouterValues {
  /** Inputs of the site. */
  readonly width: number;
  /** Undefined where rows are compared with centroids as they are. */
  readonly pca: Projection | undefined;
  /** `[clusters, components]`, or `[clusters, width]` without them. */
  readonly centroids: Float32Array;
  /** Experts of the site. */
  readonly clusters: number;
}

/** A router fitted to rows. */
export interface RouterFit {
  readonly values: RouterValues;
  /** The result of k-means. */
  readonly kmeans: KmeansFit;
}

/** Records `z = (x − mean) P`. */
function project(plan: Plan, pca: PcaTensors, { x, z }: { x: Tensor; z: Matrix }): void {
  const centred = plan.tensor("centred", x.shape, { owner: "workspace" });
  centreRows(plan, "centre", { x, mean: pca.mean, y: centred });
  gemm(plan, "project", {
    a: matrix(centred, { columns: pca.components.rows }),
    b: matrix(pca.components, { columns: pca.count }),
    c: { ...z, columns: pca.count },
  });
}

/**
 * The rows that k-means sees, `[n, padded to 4]`: components of them, or the rows as they are.
 *
 * @returns The tensor, which belongs to `tensors` or is the only chunk.
 */
async function clusteredRows(
  gpu: Gpu,
  rows: SiteRows,
  { pca, tensors }: { pca: PcaTensors | undefined; tensors: Tensors },
): Promise<Tensor> {
  const [only, ...more] = rows.chunks;
  if (!pca && only && more.length === 0) return only;
  const width = roundUp(pca?.count ?? rows.width, 4);
  const z = tensors.tensor("z", [rows.count, width]);
  const plan = new Plan(gpu, "project");
  let first = 0;
  for (const x of rows.chunks) {
    if (pca) project(plan, pca, { x, z: matrix(z, { rows: x.rows, start: first * width }) });
    else plan.copy(x, z.slice(first, x.rows));
    first += x.rows;
  }
  await runPlan(plan);
  return z;
}

/** Places the centroids as an expansion says. */
async function place(kmeans: Kmeans, { expansion, uniform, pca }: {
  readonly expansion: Expansion;
  readonly uniform: (index: number) => number;
  readonly pca: Pca | undefined;
}): Promise<KmeansFit> {
  const { centroids = "kmeans", clusters } = expansion;
  if (centroids === "rows") return await kmeans.keep({ rows: kmeans.drawRows(uniform) });
  if (centroids === "random" && pca) {
    return await kmeans.keep({ centroids: randomCentroids(pca, { clusters, uniform }) });
  }
  return await kmeans.fit(expansion, uniform);
}

/** The router of one cluster, to which every row goes. Nothing is fitted: components and centroid are zeros, which a file holds and no row is compared with. */
function onlyCluster({ width, count }: SiteRows, { pca_factor }: Expansion): RouterFit {
  const components = pca_factor ? componentsOf(width, pca_factor) : width;
  const pca = pca_factor
    ? { mean: new Float32Array(width), components: new Float32Array(width * components) }
    : undefined;
  const centroids = new Float32Array(components);
  const labels = new Uint32Array(count);
  return {
    values: { width, pca, centroids, clusters: 1 },
    kmeans: {
      best: 0,
      clusters: { labels, centroids, repairs: 0, inertia: 0, iterations: 0 },
      inertia: [0],
      iterations: [0],
      first: [[]],
    },
  };
}

/**
 * Fits a router to the rows of a site: principal components, and k-means of them or the centroids of a control. One cluster needs none of it.
 *
 * @param options `uniform`: the numbers that k-means is seeded with, by their index. `name`: what the site is called in messages.
 * @throws {RangeError} Which option the rows do not allow.
 */
export async function fitRouter(gpu: Gpu, rows: SiteRows, options: {
  readonly expansion: Expansion;
  readonly uniform: (index: number) => number;
  readonly name: string;
}): Promise<RouterFit> {
  const { expansion, uniform, name } = options;
  const { width } = rows;
  const { clusters, pca_factor } = expansion;
  checkExpansion(expansion, name, { rows: rows.count, width });
  if (clusters === 1) return onlyCluster(rows, expansion);
  return await named(name, async () => {
    using tensors = new Tensors(gpu);
    const pca = pca_factor
      ? await fitPca(gpu, rows, { count: componentsOf(width, pca_factor) })
      : undefined;
    const on = pca && pcaTensors(tensors, pca);
    const z = await clusteredRows(gpu, rows, { pca: on, tensors });
    using kmeans = await Kmeans.open(gpu, z, { width: on?.count ?? width, clusters });
    const fit = await place(kmeans, { expansion, uniform, pca });
    const { centroids } = fit.clusters;
    return { values: { width, pca, centroids, clusters }, kmeans: fit };
  });
}

/** Runs something about a site, and puts the site's name before what the rows do not allow. */
export async function named<Result>(name: string, run: () => Promise<Result>): Promise<Result> {
  try {
    return await run();
  } catch (cause) {
    if (!(cause instanceof RangeError)) throw cause;
    throw new RangeError(`${name}: ${cause.message}`, { cause });
  }
}

/** A router on the GPU. */
export class Router implements Disposable {
  /** Its numbers. */
  readonly values: RouterValues;
  readonly #tensors: Tensors;
  readonly #pca: PcaTensors | undefined;
  readonly #centroids: Tensor;

  /** Moves a router to the GPU. */
  constructor(gpu: Gpu, values: RouterValues) {
    const { pca, centroids, clusters } = values;
    this.values = values;
    this.#tensors = new Tensors(gpu);
    this.#pca = pca && pcaTensors(this.#tensors, pca);
    this.#centroids = this.#tensors.matrix("centroids", centroids, centroids.length / clusters);
  }

  /** Records what centroids are compared with, `[n, padded to 4]`, of rows `x` `[n, width padded to 4]`, f32 with zeros for padding. */
  project(plan: Plan, x: Tensor): Tensor {
    if (!this.#pca) return x;
    const z = plan.tensor("z", [x.rows, this.#centroids.width]);
    project(plan, this.#pca, { x, z: matrix(z) });
    return z;
  }

  /** Records the cluster of each row of `x`, which is as for {@linkcode Router.project}: u32 `[n]`. */
  record(plan: Plan, x: Tensor): Tensor {
    const label = plan.tensor("label", [x.rows], { dtype: "u32", owner: "routing" });
    if (this.values.clusters === 1) {
      plan.clear(label);
      return label;
    }
    const distance = plan.tensor("distance", [x.rows], { owner: "routing" });
    const z = this.project(plan, x);
    nearestCentroid(plan, "nearest", { x: z, centroids: this.#centroids, label, distance });
    return label;
  }

  /** Bytes allocated. */
  get bytes(): number {
    return this.#tensors.bytes;
  }

  /** Frees its memory. */
  [Symbol.dispose](): void {
    this.#tensors[Symbol.dispose]();
  }
}
