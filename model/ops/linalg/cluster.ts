/**
 * The two halves of an iteration of k-means: the nearest centroid of each row, and the mean of each cluster.
 *
 * @module
 */

import meansSource from "../../../shaders/linalg/cluster_means.wgsl" with { type: "text" };
import nearestSource from "../../../shaders/linalg/nearest.wgsl" with { type: "text" };
import { grid, read, readScalar, updateScalar, write, writeScalar } from "../../gpu/kernel.ts";
import type { Plan } from "../../gpu/plan.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { matrix } from "../gemm/matrix.ts";
import { rowsOf, segmentSum } from "../routing/segment_sum.ts";
import { sortByKey } from "../routing/sort.ts";

/** Vec4s that an invocation goes through at most: a software adapter leaves loops after 65,535 rounds, without a word. */
const MAX_ROUNDS = 60000;

/** Rows, centroids, and what each row gets. All f32 but `label`. */
export interface Nearest {
  /** `[rows, width]`, width a multiple of 4. */
  readonly x: Tensor;
  /** `[clusters, width]`. */
  readonly centroids: Tensor;
  /** Number of the nearest centroid, u32 `[rows]`. */
  readonly label: Tensor;
  /** Squared distance to it, `[rows]`. */
  readonly distance: Tensor;
}

/**
 * Records the nearest centroid of each row, the lower one among equals.
 *
 * @param options `only`: one centroid, whose distance is taken alone when it is the first and where it is less otherwise. All of them unless given.
 */
export function nearestCentroid(
  plan: Plan,
  label: string,
  tensors: Nearest,
  options: { only?: number } = {},
): void {
  const { x, centroids, label: nearest, distance } = tensors;
  if (
    x.width !== centroids.width || x.width % 4 !== 0 || nearest.size !== x.rows ||
    distance.size !== x.rows
  ) {
    throw new RangeError(
      `${label}: ${x.name} is ${x.rows}×${x.width}, ${centroids.name} ${centroids.width} wide, ${nearest.name} of ${nearest.size}`,
    );
  }
  const width = x.width / 4;
  const begin = options.only ?? 0;
  const end = options.only === undefined ? centroids.rows : begin + 1;
  const most = Math.max(1, Math.floor(MAX_ROUNDS / (width + 2)));
  const workgroup = 64;
  for (let first = begin; first < end; first += most) {
    const last = Math.min(end, first + most);
    const keep = first > 0;
    const out = keep ? updateScalar : writeScalar;
    plan.dispatch({
      label,
      name: "nearest",
      source: nearestSource,
      constants: { KEEP: keep, WORKGROUP: workgroup },
      params: { rows: x.rows, width, first, last },
      bindings: {
        x: read(x),
        centroids: read(centroids),
        label: out(nearest),
        distance: out(distance),
      },
      workgroups: grid(Math.ceil(x.rows / workgroup)),
      flops: 3 * x.size * (last - first),
      bytes: x.bytes + 8 * x.rows,
    });
  }
}

/**
 * Records the mean of the rows of each cluster, in a fixed order; of a cluster without rows zeros.
 *
 * @param tensors As {@linkcode Nearest} says; `centroids` gets the means.
 */
export function clusterMeans(
  plan: Plan,
  label: string,
  { x, centroids, label: keys }: Omit<Nearest, "distance">,
): void {
  const sorted = sortByKey(plan, `${label}.sort`, { keys, bound: centroids.rows });
  const sums = plan.tensor(`${label}.sums`, centroids.shape, { owner: "workspace" });
  segmentSum(plan, `${label}.sums`, {
    sorted,
    entries: rowsOf(matrix(x)),
    out: matrix(sums),
    first: 0,
  });
  plan.dispatch({
    label,
    name: "cluster_means",
    source: meansSource,
    params: { count: sums.size / 4, width: sums.width / 4 },
    bindings: { sums: read(sums), begin: readScalar(sorted.begin), means: write(centroids) },
    workgroups: grid(Math.ceil(sums.size / 256)),
    flops: sums.size,
  });
}
