/**
 * An ETHOS layer as it is measured: in each execution, and its router and its experts apart.
 *
 * @module
 */

import type { ExpertBench } from "../../layer/kind.ts";
import { benchRoute, productKeyScaling } from "../product_key/bench.ts";
import { ethosBackward, ethosForward } from "./ethos.ts";
import type { EthosSection } from "./schema.ts";

/** The layer of these sizes, for measuring. */
export function ethosBench(ethos: EthosSection): ExpertBench {
  return {
    executions: ["naive", "materialized", "fused"],
    kept: ethos.routing_heads * ethos.top_k,
    scaling: (options) => productKeyScaling(ethos, options),
    route: (context, at, x) => benchRoute(context, at, { x, router: ethos }),
    experts(context, at, { index, score, ...input }) {
      const { y, saved } = ethosForward(context, at, { ...input, ethos, kept: { index, score } });
      return {
        y,
        backward: (dy, options) => ethosBackward(context, at, { ethos, dy, saved, ...options }),
      };
    },
  };
}
