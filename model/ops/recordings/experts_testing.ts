/**
 * Recordings of routers and experts.
 *
 * @module
 */

import { ethosSizes, recordEthosVariants } from "../../ffn/ethos/ethos_testing.ts";
import { Plan } from "../../gpu/plan.ts";
import type { DType } from "../../gpu/tensor.ts";
import { beamRoute, beamRouteBackward } from "../beam/beam_route.ts";
import { factoredGradient, gatherCodes } from "../beam/factored_codes.ts";
import { withoutExperts } from "../experts/experts_without.ts";
import { orderKept, storedExperts, storedExpertsBackward } from "../experts/experts_stored.ts";
import { recordGivenChoices, recordGroupedProducts } from "../mixture/mixture_testing.ts";
import { queryStatistics } from "../routing/routing.ts";
import { type Recordings, unallocated as t } from "../testing.ts";

/** Routers, and experts in each of their executions. */
export const EXPERT_RECORDINGS: Recordings = {
  gemm_grouped: (gpu) => [recordGroupedProducts(gpu)],
  mixture: (gpu) => [recordGivenChoices(gpu)],
  without_experts(gpu) {
    const plan = new Plan(gpu, "without experts");
    withoutExperts(plan, "without", {
      index: t("index", [32, 12], "u32"),
      score: t("score", [32, 4]),
      listed: t("listed", [5, 3], "u32"),
    });
    return [plan];
  },
  stored_experts(gpu) {
    const plan = new Plan(gpu, "stored experts");
    // Rows that a subgroup holds, in whole invocations and with some left over, and rows that only a workgroup does.
    for (
      const [width, dtype] of [[1024, "f16"], [1024, "f32"], [100, "f16"], [4096, "f16"]] as const
    ) {
      const kept = { index: t("index", [32, 8], "u32"), score: t("score", [32, 8]) };
      const tables = (
        dtype: DType,
      ) => [t("part", [40, width], dtype), t("part", [24, width], dtype)];
      const gradients = () =>
        tables("f32").map((tensor) => ({ tensor, epilogue: "none" as const }));
      const ordered = orderKept(plan, "experts", { kept, experts: 64 });
      for (const execution of ["naive", "fused"] as const) {
        const shared = {
          tables: { u: tables(dtype), v: tables(dtype) },
          x: t("x", [32, width], dtype),
          kept: ordered,
          execution,
        };
        const p = storedExperts(plan, "experts", { ...shared, y: t("y", [32, width]) });
        storedExpertsBackward(plan, "experts", {
          ...shared,
          p,
          dy: t("dy", [32, width], dtype),
          dx: t("dx", [32, width]),
          dscore: t("dscore", [32, 8]),
          gradients: { u: gradients(), v: gradients() },
        });
      }
    }
    return [plan];
  },
  ethos(gpu) {
    const sizes = { d_model: 32, d_query: 16, d_latent: 16, d_hidden: 24, routing_heads: 2 };
    // More sub-keys than an invocation's, and a width beyond one tile, too.
    // More kept than a subgroup has invocations.
    const many = { ...sizes, num_experts: 64 ** 2, top_k: 48 };
    const large = { ...sizes, num_experts: 128 ** 2, top_k: 16, d_hidden: 1024 };
    const paper = { ...sizes, num_experts: 64, top_k: 4, d_latent: 128, d_hidden: 512 };
    return [{ ...sizes, num_experts: 64, top_k: 4 }, many, large, paper].flatMap((section) =>
      recordEthosVariants(gpu, ethosSizes(section))
    );
  },
  beam(gpu) {
    // A sort of all ids at once and one of several tiles; one axis and many.
    const small = { heads: 2, axes: 3, axis_query: 8, axis_size: 30, axis_candidates: 7 };
    const large = { heads: 1, axes: 12, axis_query: 128, axis_size: 3000, axis_candidates: 512 };
    return [
      { ...small, beam_width: 9, top_k: 4 },
      { ...small, axes: 1, beam_width: 9, top_k: 5 },
      { ...large, beam_width: 128, top_k: 64 },
    ].map((sizes) => {
      const plan = new Plan(gpu, "beam");
      const { heads, axes, axis_query, axis_size, top_k } = sizes;
      const raw = t("raw", [8, heads * axes * axis_query]);
      const input = { sizes, raw, logit_scale: t("logit_scale", [heads, axes]) };
      const routed = beamRoute(plan, "route", input);
      for (const dtype of ["f32", "f16"] as const) {
        beamRouteBackward(plan, "back", {
          ...input,
          routed,
          dscore: t("dscore", [8, heads * top_k]),
          draw: t("draw", raw.shape, dtype),
          dlogit_scale: { tensor: t("dlogit_scale", [heads, axes]), epilogue: "none" },
        });
        const z = t("z", [axes, axis_size, 16], dtype);
        const codes = gatherCodes(plan, "codes", { z, coords: routed.coords, axes });
        const dcodes = codes.map(({ shape }) => t("dcodes", shape));
        for (const epilogue of ["none", "accumulate"] as const) {
          const gradient = { tensor: t("dz", z.shape), epilogue };
          factoredGradient(plan, "codes", { dcodes, coords: routed.coords, axes, gradient });
        }
      }
      return plan;
    });
  },
  query_statistics(gpu) {
    const plan = new Plan(gpu, "query statistics");
    for (const dtype of ["f32", "f16"] as const) {
      queryStatistics(plan, "query", { query: t("query", [32, 32], dtype), d_query: 16 });
    }
    return [plan];
  },
};
