/**
 * Recordings of grouped products and of a mixture's gate in the variants that no small network takes.
 *
 * @module
 */

import type { Gpu } from "../../gpu/device.ts";
import { Plan } from "../../gpu/plan.ts";
import { type DType, Tensor } from "../../gpu/tensor.ts";
import { gemmGrouped, gemmGroupedSums } from "../gemm/gemm_grouped.ts";
import { gate } from "./gate.ts";
import { segmentsOf } from "./segments.ts";

/** A tensor that exists outside of the plan, as weights do. */
const t = (name: string, shape: readonly number[], dtype: DType = "f32") =>
  new Tensor(name, shape, { dtype });

/** Low and high tiles, and rows without tiles; narrow results, wide ones, results that end within a tile, long sums, and products that are worth transposing for. */
const SIZES = [
  [64, 64, 40],
  [4096, 256, 256],
  [4096, 160, 1000],
  [12, 64, 40],
  [64, 1024, 1024],
  [8192, 512, 1024],
] as const;

/** Grouped products in each layout, precision and epilogue. */
export function recordGroupedProducts(gpu: Gpu): Plan {
  const plan = new Plan(gpu, "grouped products");
  const experts = 8;
  for (const [entries, inputs, outputs] of SIZES) {
    for (const dtype of ["f32", "f16"] as const) {
      for (const gradients of [true, false]) {
        const { groups } = segmentsOf(plan, "segments", {
          keys: t("keys", [entries], "u32"),
          experts,
          drops: !gradients,
          gradients,
          dtype,
        });
        const a = t("a", [groups.rows, inputs], dtype);
        const c = t("c", [groups.rows, outputs], dtype);
        const dx = t("dx", [groups.rows, inputs]);
        const b = [t("b", [experts, inputs, outputs], dtype)];
        for (const epilogue of ["none", "accumulate"] as const) {
          const common = { groups, epilogue };
          gemmGrouped(plan, "nn", { ...common, a, b, c, layout: "nn" });
          for (const to of [a, dx]) {
            gemmGrouped(plan, "nt", { ...common, a: c, b, c: to, layout: "nt" });
          }
          if (!gradients) continue;
          const target = { tensor: t("d", [experts, inputs, outputs]), epilogue };
          gemmGroupedSums(plan, "tn", { a, b: c, c: [target], groups });
        }
      }
    }
  }
  return plan;
}

/** Gates whose choice is given, as when two precisions are compared. */
export function recordGivenChoices(gpu: Gpu): Plan {
  const plan = new Plan(gpu, "given choices");
  for (const [top_k, weight] of [[2, "softmax"], [1, "probability"]] as const) {
    gate(plan, "gate", {
      sizes: { experts: 7, top_k, weight },
      logits: t("logits", [32, 8]),
      given: t("given", [32, top_k], "u32"),
    });
  }
  return plan;
}
