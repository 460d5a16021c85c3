/**
 * Principal components of the rows that enter a site.
 *
 * @module
 */

import { runPlan } from "../../gpu/build.ts";
import type { Gpu } from "../../gpu/device.ts";
import { Plan } from "../../gpu/plan.ts";
import { roundUp, type Tensor } from "../../gpu/tensor.ts";
import { columnSums } from "../../ops/elementwise/column_sums.ts";
import { centreRows, secondMoment } from "../../ops/linalg/moments.ts";
import { padColumns, type SiteRows, Tensors, unpadColumns } from "../rows.ts";
import { type Eigen, fixSigns, symmetricEigen } from "./symmetric.ts";
import { topEigen } from "./top_eigen.ts";

/** Inputs up to which the host decomposes the whole covariance: half a second for 512, and six for twice as many. */
const HOST_WIDTH = 512;

/** A projection onto the directions of the largest variance. */
export interface Pca {
  /** Mean of each input. */
  readonly mean: Float32Array;
  /** `[width, count]`: orthonormal columns, the largest variance first, the largest entry of each positive. */
  readonly components: Float32Array;
  /** Variance along each of them. */
  readonly variance: Float64Array;
}

/** The projection of rows. Variances are known where it was fitted; files do not hold them. */
export type Projection = Pick<Pca, "mean" | "components"> & Partial<Pick<Pca, "variance">>;

/** The mean of each input, padded with zeros: sums of chunks in f32, added up in float64. */
async function meanOf(gpu: Gpu, rows: SiteRows): Promise<Float64Array> {
  const plan = new Plan(gpu, "mean");
  const width = roundUp(rows.width, 4);
  const sums = Object.fromEntries(rows.chunks.map((x, i) => {
    const tensor = plan.tensor(`sums.${i}`, [width]);
    columnSums(plan, "mean", { x, y: { tensor, epilogue: "none" } });
    return [`${i}`, tensor];
  }));
  const found = Object.values(await runPlan(plan, sums));
  return Float64Array.from(
    { length: width },
    (_, i) => found.reduce((sum, part) => sum + part[i]!, 0) / rows.count,
  );
}

/** Records the rows less their mean, chunk after chunk. */
function* centred(plan: Plan, rows: SiteRows, mean: Tensor): Generator<Tensor> {
  for (const x of rows.chunks) {
    const y = plan.tensor("centred", x.shape, { owner: "workspace" });
    centreRows(plan, "centre", { x, mean, y });
    yield y;
  }
}

/**
 * The principal components of rows, `count` of them, from `C = (X−μ)ᵀ(X−μ) / (n−1)`.
 *
 * Rows are centred before they are multiplied: the difference of two large sums would lose digits. A small covariance is decomposed on the host in float64, a large one on the GPU
 * by subspace iteration.
 *
 * @param options `hostWidth`: inputs up to which the host decomposes.
 * @throws {RangeError} If there are too few rows, one of them is not finite, or components do not settle.
 */
export async function fitPca(
  gpu: Gpu,
  rows: SiteRows,
  options: { count: number; hostWidth?: number },
): Promise<Pca> {
  const { count, hostWidth = HOST_WIDTH } = options;
  const n = rows.width;
  if (rows.count < 2) throw new RangeError(`PCA of ${rows.count} rows; it takes at least two`);
  using tensors = new Tensors(gpu);
  const mean = Float32Array.from(await meanOf(gpu, rows));
  if (!mean.every(Number.isFinite)) {
    throw new RangeError("A row has a number that is not finite");
  }
  const mean_ = tensors.tensor("mean", [mean.length], { values: mean });
  const covariance = tensors.tensor("covariance", [n, roundUp(n, 4)]);
  const plan = new Plan(gpu, "covariance");
  secondMoment(plan, "covariance", {
    x: centred(plan, rows, mean_),
    columns: n,
    moment: covariance,
    scale: 1 / (rows.count - 1),
  });
  let found: Eigen;
  if (n <= hostWidth) {
    const { c } = await runPlan(plan, { c: covariance });
    found = onHost(c as Float32Array, n, count);
  } else {
    await runPlan(plan);
    found = await topEigen(gpu, covariance, count);
  }
  fixSigns(found.vectors, count);
  return {
    mean: mean.slice(0, n),
    components: new Float32Array(found.vectors),
    variance: found.values,
  };
}

function onHost(covariance: Float32Array, n: number, count: number): Eigen {
  const { values, vectors } = symmetricEigen(unpadColumns(covariance, n), n);
  const first = Float64Array.from(
    { length: n * count },
    (_, i) => vectors[Math.floor(i / count) * n + i % count]!,
  );
  return { values: values.slice(0, count), vectors: first };
}

/** Components on the GPU, for projecting rows. */
export interface PcaTensors {
  /** `[width padded to 4]`. */
  readonly mean: Tensor;
  /** `[width, count padded to 4]`. */
  readonly components: Tensor;
  /** Components without padding. */
  readonly count: number;
}

/** Moves components to the GPU. */
export function pcaTensors(tensors: Tensors, { mean, components }: Projection): PcaTensors {
  const count = components.length / mean.length;
  const padded = padColumns(mean, mean.length);
  return {
    mean: tensors.tensor("mean", [padded.length], { values: padded }),
    components: tensors.matrix("components", components, count),
    count,
  };
}
