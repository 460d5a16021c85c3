/**
 * Products of rows with their expert's matrix, beside square products of as many operations.
 *
 * @module
 */

import { runPlan } from "../../gpu/build.ts";
import type { Gpu } from "../../gpu/device.ts";
import { Plan } from "../../gpu/plan.ts";
import { BYTES } from "../../gpu/tensor.ts";
import { upload } from "../../gpu/transfer.ts";
import { gemmGrouped, gemmGroupedSums, type Groups } from "../../ops/gemm/gemm_grouped.ts";
import { segmentsOf } from "../../ops/mixture/segments.ts";
import { Operands, type Product, timeProduct } from "../measure/ceilings.ts";
import { type BenchCase, type SuiteContext, tokensAtOnce } from "./suite.ts";
import { timePlan, type Timing } from "../measure/timing.ts";

/** A mixture's first product: entries (a token and a kept expert), D, F, and experts. */
interface Sizes {
  readonly entries: number;
  readonly inputs: number;
  readonly outputs: number;
  readonly experts: number;
}

type Grouped = Sizes & Pick<Product, "layout" | "dtype">;

/**
 * Grouped products forward (`nn`), back to their input (`nt`) and to the experts' weights (`tn`), and the square product of as many operations, in f32 and f16: the
 * share of the square product's rate is what grouping leaves. Sizes are the model's where it has stored experts.
 */
export function groupedSuite(context: SuiteContext): BenchCase[] {
  const sizes = sizesOf(context);
  const { entries, inputs, outputs, experts } = sizes;
  // A multiple of a tile's columns, whose operations are nearest.
  const side = Math.max(64, Math.round(Math.cbrt(entries * inputs * outputs) / 64) * 64);
  const kinds = (["f32", "f16"] as const).flatMap((dtype) =>
    (["nn", "nt", "tn"] as const).map((layout) => ({ dtype, layout }))
  );
  const { gpu, timing } = context;
  return kinds.flatMap(({ dtype, layout }): BenchCase[] => {
    const square = { m: side, n: side, k: side, layout, dtype };
    const grouped = { ...sizes, layout, dtype };
    return [{
      id: `grouped.square.${side}.${layout}.${dtype}`,
      suite: "grouped",
      params: { name: "square", ...square },
      measure: async () => ({
        timing: await timeProduct(gpu, square, timing),
        flops: 2 * side ** 3,
        bytes: (2 * BYTES[dtype] + BYTES.f32) * side ** 2,
      }),
    }, {
      id: `grouped.experts.${experts}.${entries}x${inputs}x${outputs}.${layout}.${dtype}`,
      suite: "grouped",
      params: { name: "experts", ...grouped },
      measure: async () => ({
        timing: await timeGrouped(context, grouped),
        flops: 2 * entries * inputs * outputs,
      }),
    }];
  });
}

/** Sizes of the model's own experts, or of some that make a device busy. */
function sizesOf({ gpu, architecture, train }: SuiteContext): Sizes {
  const { config } = architecture;
  const { ffn } = config;
  if ("d_expert" in ffn) {
    const kept = "top_k" in ffn ? ffn.top_k : 1;
    return {
      entries: tokensAtOnce(train) * kept,
      inputs: config.d_model,
      outputs: ffn.d_expert,
      experts: ffn.num_experts,
    };
  }
  return gpu.capabilities.software
    ? { entries: 512, inputs: 64, outputs: 64, experts: 4 }
    : { entries: 16384, inputs: 1024, outputs: 4096, experts: 16 };
}

/** Times a grouped product of entries that are spread over the experts at random, as an untrained gate does. */
async function timeGrouped(
  { gpu, timing, seed }: SuiteContext,
  product: Grouped,
): Promise<Timing> {
  const { inputs, outputs, experts, layout, dtype } = product;
  using operands = new Operands(gpu);
  const groups = await randomGroups(gpu, operands, { ...product, seed });
  const x = operands.tensor("x", [groups.rows, inputs], dtype);
  const y = operands.tensor("y", [groups.rows, outputs], layout === "nn" ? "f32" : dtype);
  const w = operands.tensor("w", [experts, inputs, outputs], layout === "tn" ? "f32" : dtype);
  await operands.fill(x, y, w);
  const plan = new Plan(gpu, "grouped product");
  if (layout === "nn") {
    gemmGrouped(plan, "product", { groups, a: x, b: [w], c: y, layout });
  } else if (layout === "nt") {
    const dx = operands.tensor("dx", [groups.rows, inputs]);
    gemmGrouped(plan, "product", { groups, a: y, b: [w], c: dx, layout });
  } else {
    const c = [{ tensor: w, epilogue: "none" as const }];
    gemmGroupedSums(plan, "product", { groups, a: x, b: y, c });
  }
  return await timePlan(gpu, plan, timing);
}

/** Groups of random sizes, made once: the time is that of the product alone. */
export async function randomGroups(
  gpu: Gpu,
  operands: Operands,
  { entries, experts, dtype, seed }: Pick<Grouped, "entries" | "experts" | "dtype"> & {
    readonly seed: number;
  },
): Promise<Groups> {
  const keys = operands.tensor("keys", [entries, 1], "u32");
  let state = seed >>> 0;
  upload(
    gpu,
    keys,
    Uint32Array.from({ length: entries }, () => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return Math.floor(state / 2 ** 32 * experts);
    }),
  );
  const plan = new Plan(gpu, "groups");
  const { groups } = segmentsOf(plan, "groups", {
    keys,
    experts,
    drops: false,
    gradients: true,
    dtype,
  });
  const of_tile = operands.tensor("of_tile", groups.of_tile.shape, "u32");
  const begin_of = operands.tensor("begin_of", groups.begin_of.shape, "u32");
  plan.copy(groups.of_tile, of_tile);
  plan.copy(groups.begin_of, begin_of);
  await runPlan(plan);
  return { ...groups, of_tile, begin_of };
}
