/**
 * Recordings of moments, clusters, pruning and products with compressed weights.
 *
 * @module
 */

import { Plan } from "../../gpu/plan.ts";
import { recordCompressedProducts } from "../compressed/compressed_testing.ts";
import { inverseCholesky } from "../linalg/cholesky.ts";
import { clusterMeans, nearestCentroid } from "../linalg/cluster.ts";
import { addToDiagonal, centreRows, readDiagonal, secondMoment } from "../linalg/moments.ts";
import { pruneMatrix } from "../linalg/prune.ts";
import { type Recordings, unallocated as t } from "../testing.ts";

/** Linear algebra of Sparse Expansion. */
export const LINALG_RECORDINGS: Recordings = {
  compressed: (gpu) => [recordCompressedProducts(gpu)],
  moments(gpu) {
    const plan = new Plan(gpu, "moments");
    const x = t("x", [20_000, 64]);
    const y = t("y", [20_000, 64]);
    const moment = t("moment", [64, 64]);
    centreRows(plan, "centre", { x, mean: t("mean", [64]), y });
    // More products than add up at once.
    secondMoment(plan, "moment", { x: [y], columns: 64, moment, scale: 0.5 });
    const d = t("d", [64]);
    readDiagonal(plan, "diagonal", { h: moment, d });
    addToDiagonal(plan, "diagonal", { h: moment, d });
    const failed = t("failed", [4], "u32");
    inverseCholesky(plan, "factor", { h: moment, u: t("u", [64, 64]), failed });
    return [plan];
  },
  clusters(gpu) {
    const plan = new Plan(gpu, "clusters");
    const on = {
      x: t("x", [100, 8]),
      centroids: t("centroids", [5, 8]),
      label: t("label", [100], "u32"),
      distance: t("distance", [100]),
    };
    nearestCentroid(plan, "nearest", on);
    nearestCentroid(plan, "nearest", on, { only: 3 });
    clusterMeans(plan, "means", on);
    return [plan];
  },
  pruning(gpu) {
    const plan = new Plan(gpu, "pruning");
    const tensors = {
      dense: t("dense", [9, 320]),
      live: t("live", [320]),
      u: t("u", [320, 320]),
      w: t("w", [9, 320]),
      codes: t("codes", [9, 320], "u32"),
      losses: t("losses", [3]),
    };
    const grid = t("grid", [9, 2]);
    // Blocks that end with a vec4 and within one, and those of which an invocation has one column and several.
    for (const block of [128, 10, 160]) {
      for (
        const choice of [
          { kind: "sparsity", prunedOf: (n: number) => n >> 1 },
          { kind: "pattern", zeros: 1, group: 2 },
        ] as const
      ) {
        pruneMatrix(plan, "prune", { ...tensors, block, choice });
        for (const symmetric of [true, false]) {
          const levels = { lowest: 0, highest: 15, symmetric, grid };
          pruneMatrix(plan, "prune", { ...tensors, block, choice, levels });
        }
      }
    }
    return [plan];
  },
};
