/**
 * k-means of the rows that enter a site: distances and means on the GPU, choices of rows on the host.
 *
 * @module
 */

import { buildPlans, type BuiltPlans } from "../../gpu/build.ts";
import type { Gpu } from "../../gpu/device.ts";
import { Plan } from "../../gpu/plan.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { download, upload } from "../../gpu/transfer.ts";
import { clusterMeans, type Nearest, nearestCentroid } from "../../ops/linalg/cluster.ts";
import { drawRows } from "./centroids.ts";
import type { Expansion } from "../options.ts";
import { padColumns, Tensors, unpadColumns } from "../rows.ts";

/** How much less the inertia of a later start must be for it to be better: the same partition found again is no better. */
const BETTER = 1 - 1e-5;

/** Rows and the centroids that they go to. */
export interface Assignment {
  /** Cluster of each row. */
  readonly labels: Uint32Array;
  /** Squared distance of each row to its own centroid. */
  readonly distances: Float32Array;
  /** `[clusters, width]`. */
  readonly centroids: Float32Array;
  /** Clusters that were empty and got a row. */
  readonly repairs: number;
}

/** One start of k-means. */
export interface Clusters extends Omit<Assignment, "distances"> {
  /** Sum of the squared distances. */
  readonly inertia: number;
  /** Updates of the centroids. */
  readonly iterations: number;
}

/** The starts of k-means; of centroids that it did not place, one start without an update. */
export interface KmeansFit {
  /** Number of the start that is kept. */
  readonly best: number;
  /** The start that is kept. */
  readonly clusters: Clusters;
  /** Sum of the squared distances of each start. */
  readonly inertia: readonly number[];
  /** Updates of the centroids of each start. */
  readonly iterations: readonly number[];
  /** The rows that each start began with; none where centroids are no rows. */
  readonly first: readonly (readonly number[])[];
}

/** Rows of each cluster. */
export function countRows(labels: ArrayLike<number>, clusters: number): Uint32Array {
  const counts = new Uint32Array(clusters);
  for (let i = 0; i < labels.length; i++) counts[labels[i]!]!++;
  return counts;
}

/** The plans of {@linkcode Kmeans}: an update of the centroids, an assignment to given ones, and the distance to each of them. */
function plansFor(gpu: Gpu, on: Nearest): Plan[] {
  const update = new Plan(gpu, "update");
  clusterMeans(update, "means", on);
  nearestCentroid(update, "nearest", on);
  const assign = new Plan(gpu, "assign");
  nearestCentroid(assign, "nearest", on);
  const seeds = Array.from({ length: on.centroids.rows }, (_, only) => {
    const plan = new Plan(gpu, "seed");
    nearestCentroid(plan, "seed", on, { only });
    return plan;
  });
  return [update, assign, ...seeds];
}

/** k-means of one set of rows. Plans are built once, and run for each start and each iteration. */
export class Kmeans implements Disposable {
  readonly #gpu: Gpu;
  readonly #tensors: Tensors;
  readonly #on: Nearest;
  /** The rows, padded, on the host too: centroids start from some of them. */
  readonly #rows: Float32Array;
  /** Numbers of a row without padding. */
  readonly #width: number;
  readonly #built: BuiltPlans;

  private constructor(
    gpu: Gpu,
    tensors: Tensors,
    own: { on: Nearest; rows: Float32Array; width: number; built: BuiltPlans },
  ) {
    this.#gpu = gpu;
    this.#tensors = tensors;
    this.#on = own.on;
    this.#rows = own.rows;
    this.#width = own.width;
    this.#built = own.built;
  }

  /**
   * Prepares k-means of rows `z` `[n, width padded to 4]`, f32, with zeros for padding.
   *
   * @throws {RangeError} If there are more clusters than rows.
   */
  static async open(
    gpu: Gpu,
    z: Tensor,
    { width, clusters }: { width: number; clusters: number },
  ): Promise<Kmeans> {
    if (clusters > z.rows) throw new RangeError(`${clusters} clusters of ${z.rows} rows`);
    const tensors = new Tensors(gpu);
    try {
      const on: Nearest = {
        x: z,
        centroids: tensors.tensor("centroids", [clusters, z.width]),
        label: tensors.tensor("label", [z.rows], { dtype: "u32" }),
        distance: tensors.tensor("distance", [z.rows]),
      };
      const rows = await download(gpu, z) as Float32Array;
      const built = await buildPlans(gpu, plansFor(gpu, on));
      return new Kmeans(gpu, tensors, { on, rows, width, built });
    } catch (error) {
      tensors[Symbol.dispose]();
      throw error;
    }
  }

  get #clusters(): number {
    return this.#on.centroids.rows;
  }

  /** A row, padded. */
  #row(index: number): Float32Array {
    const { width } = this.#on.x;
    return this.#rows.subarray(index * width, (index + 1) * width);
  }

  /**
   * The rows that a start begins with: each is drawn in proportion to its squared distance from those before it.
   *
   * @param uniforms A number from 0 to below 1 for each cluster.
   * @throws {RangeError} If there are fewer different rows than clusters.
   */
  async seed(uniforms: readonly number[]): Promise<number[]> {
    const { centroids, distance } = this.#on;
    const chosen = new Float32Array(centroids.size);
    const rows: number[] = [];
    const choose = (row: number) => {
      chosen.set(this.#row(row), rows.length * centroids.width);
      rows.push(row);
    };
    choose(Math.floor(uniforms[0]! * this.#on.x.rows));
    while (rows.length < this.#clusters) {
      upload(this.#gpu, centroids, chosen);
      this.#built.plans[2 + rows.length - 1]!.run();
      choose(this.#draw(await download(this.#gpu, distance), uniforms[rows.length]!));
    }
    return rows;
  }

  /** The first row whose running sum of squared distances exceeds a part of the whole, in float64. */
  #draw(distances: ArrayLike<number>, uniform: number): number {
    let total = 0;
    for (let i = 0; i < distances.length; i++) total += distances[i]!;
    if (total === 0) {
      throw new RangeError(`There are fewer than ${this.#clusters} different rows`);
    }
    let sum = 0;
    for (let i = 0; i < distances.length; i++) {
      sum += distances[i]!;
      if (sum > uniform * total) return i;
    }
    throw new RangeError(`A distance is not finite: their sum is ${total}`);
  }

  /**
   * Labels of the rows, and the centroids after each empty cluster has moved onto the row that was farthest from its own centroid, the lowest of equals, among rows of clusters that
   * keep another.
   */
  async #assignment(): Promise<Assignment> {
    const { centroids: tensor, label, distance } = this.#on;
    // At once, since each wait costs ten milliseconds.
    const [labels, distances, centroids] = await Promise.all([
      download(this.#gpu, label) as Promise<Uint32Array>,
      download(this.#gpu, distance) as Promise<Float32Array>,
      download(this.#gpu, tensor) as Promise<Float32Array>,
    ]);
    const counts = countRows(labels, this.#clusters);
    let repairs = 0;
    for (let j = 0; j < counts.length; j++) {
      if (counts[j]! > 0) continue;
      let far = -1;
      for (let i = 0; i < labels.length; i++) {
        if (counts[labels[i]!]! > 1 && (far < 0 || distances[i]! > distances[far]!)) far = i;
      }
      counts[labels[far]!]!--;
      labels[far] = j;
      counts[j] = 1;
      distances[far] = 0;
      centroids.set(this.#row(far), j * tensor.width);
      repairs++;
    }
    if (repairs > 0) upload(this.#gpu, label, labels);
    const own = unpadColumns(centroids, this.#width) as Float32Array;
    return { labels, distances, centroids: own, repairs };
  }

  /** Assigns rows to centroids `[clusters, width]`. */
  async assign(centroids: ArrayLike<number>): Promise<Assignment> {
    upload(this.#gpu, this.#on.centroids, padColumns(centroids, this.#width));
    this.#built.plans[1]!.run();
    return await this.#assignment();
  }

  /** Lloyd's algorithm from centroids `[clusters, width]`, until no label changes. */
  async lloyd(start: ArrayLike<number>, maxIterations: number): Promise<Clusters> {
    let found = await this.assign(start);
    let { repairs } = found;
    let iterations = 0;
    while (iterations < maxIterations) {
      this.#built.plans[0]!.run();
      const next = await this.#assignment();
      iterations++;
      repairs += next.repairs;
      const same = next.labels.every((label, i) => label === found.labels[i]);
      found = next;
      if (same) break;
    }
    const { distances, ...clusters } = found;
    const inertia = distances.reduce((sum, d) => sum + d, 0);
    return { ...clusters, repairs, inertia, iterations };
  }

  /** Starts from several seedings, and keeps the first of those that are about the best. */
  async fit(
    { restarts, max_iterations }: Expansion,
    uniform: (index: number) => number,
  ): Promise<KmeansFit> {
    const clusters = this.#clusters;
    const runs: Clusters[] = [];
    const first: number[][] = [];
    let best = 0;
    for (let t = 0; t < restarts; t++) {
      const uniforms = Array.from({ length: clusters }, (_, j) => uniform(t * clusters + j));
      const rows = await this.seed(uniforms);
      const start = this.#numbersOf(rows);
      first.push(rows);
      runs.push(await this.lloyd(start, max_iterations));
      if (runs[t]!.inertia < BETTER * runs[best]!.inertia) best = t;
    }
    return {
      best,
      clusters: runs[best]!,
      inertia: runs.map(({ inertia }) => inertia),
      iterations: runs.map(({ iterations }) => iterations),
      first,
    };
  }

  /** Numbers of as many different rows as there are clusters, drawn without regard to distances. */
  drawRows(uniform: (index: number) => number): number[] {
    return drawRows({
      rows: this.#on.x.rows,
      count: this.#clusters,
      uniform,
      same: (a, b) => this.#row(a).every((v, k) => v === this.#row(b)[k]),
    });
  }

  /** The numbers of rows, one after another. */
  #numbersOf(rows: readonly number[]): number[] {
    return rows.flatMap((row) => [...this.#row(row).subarray(0, this.#width)]);
  }

  /** Assigns rows to centroids that stay where they are: those given, `[clusters, width]`, or the rows with the given numbers. */
  async keep(start: { centroids: ArrayLike<number> } | { rows: readonly number[] }): Promise<
    KmeansFit
  > {
    const rows = "rows" in start ? start.rows : [];
    const { distances, ...found } = await this.assign(
      "rows" in start ? this.#numbersOf(rows) : start.centroids,
    );
    const inertia = distances.reduce((sum, d) => sum + d, 0);
    const clusters = { ...found, inertia, iterations: 0 };
    return { best: 0, clusters, inertia: [inertia], iterations: [0], first: [rows] };
  }

  /** Frees what was made for these rows; the rows themselves are the caller's. */
  [Symbol.dispose](): void {
    this.#built.destroy();
    this.#tensors[Symbol.dispose]();
  }
}
