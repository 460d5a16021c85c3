/**
 * An ETHOS layer as it is measured: in each execution, and its router and its experts apart.
 *
 * @module
 */

import type { ExpertBench } from "../../layer/kind.ts";
import { routerBackward, routerForward } from "../product_key/router.ts";
import { subKeys } from "../product_key/schema.ts";
import { ethosBackward, ethosForward } from "./ethos.ts";
import type { EthosSection } from "./schema.ts";

/** The layer of these sizes, for measuring. */
export function ethosBench(ethos: EthosSection): ExpertBench {
  return {
    executions: ["naive", "materialized", "fused"],
    kept: ethos.routing_heads * ethos.top_k,
    scaling: ({ software }) => ({
      num_experts: (software ? [8, 16] : [64, 128, 256, 512, 1024])
        .filter((keys) => keys >= ethos.top_k)
        .map((keys) => keys ** 2),
      routing_heads: software ? [1, 2] : [2, 4, 8, 16],
      top_k: (software ? [2, 4] : [4, 8, 16, 32]).filter((top_k) => top_k <= subKeys(ethos)),
    }),
    route(context, at, x) {
      const prefix = `${at}.router`;
      const saved = routerForward(context, prefix, { x, router: ethos });
      const { index, score } = saved.routed;
      return {
        index,
        score,
        backward: (options) =>
          routerBackward(context, prefix, { router: ethos, saved, ...options }),
      };
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
