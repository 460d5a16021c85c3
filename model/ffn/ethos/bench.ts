/**
 * An ETHOS layer as it is measured: in each execution, and its router and its experts apart.
 *
 * @module
 */

import type { ExpertBench } from "../../layer/kind.ts";
import { subKeys } from "../product_key/schema.ts";
import { ethosBackward, ethosForward } from "./ethos.ts";
import { routerOf } from "./router.ts";
import type { EthosSection } from "./schema.ts";

/** Values of a router's own keys that a scaling varies. */
function scaling(ethos: EthosSection, { software }: { readonly software: boolean }) {
  if (ethos.router === "beam") {
    const { axes, beam_width, axis_candidates, top_k } = ethos;
    return {
      axis_size: (software ? [8, 16] : [128, 256, 512, 1024])
        .filter((size) => Math.min(size, axis_candidates) ** axes >= top_k),
      top_k: (software ? [2, 4] : [4, 8, 16, 32]).filter((kept) => kept <= beam_width),
    };
  }
  return {
    num_experts: (software ? [8, 16] : [64, 128, 256, 512, 1024])
      .filter((keys) => keys >= ethos.top_k)
      .map((keys) => keys ** 2),
    top_k: (software ? [2, 4] : [4, 8, 16, 32]).filter((top_k) => top_k <= subKeys(ethos)),
  };
}

/** The layer of these sizes, for measuring. */
export function ethosBench(ethos: EthosSection): ExpertBench {
  return {
    executions: ethos.router === "beam" ? ["naive", "fused"] : ["naive", "materialized", "fused"],
    kept: ethos.routing_heads * ethos.top_k,
    scaling(options) {
      const { top_k, ...sizes } = scaling(ethos, options);
      return { ...sizes, routing_heads: options.software ? [1, 2] : [2, 4, 8, 16], top_k };
    },
    route(context, at, x) {
      const { kept, backward } = routerOf(ethos).forward(context, `${at}.router`, x);
      return { ...kept, backward };
    },
    experts(context, at, { index, score, ...input }) {
      const { y, saved } = ethosForward(context, at, { ...input, ethos, kept: { index, score } });
      return {
        y,
        backward: (dy, options) => ethosBackward(context, at, { ethos, dy, saved, ...options }),
      };
    },
  };
}
