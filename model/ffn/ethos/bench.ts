/**
 * An ETHOS layer as it is measured: in each execution, and its router and its experts apart.
 *
 * @module
 */

import type { ExpertBench } from "../../layer/kind.ts";
import { productKeyScaling } from "../product_key/bench.ts";
import { ethosBackward, ethosForward } from "./ethos.ts";
import { routerOf } from "./router.ts";
import type { BeamEthosSection, EthosSection } from "./schema.ts";

/** Keys of the section behind beams that a scaling varies, with their values. */
function beamScaling(ethos: BeamEthosSection, { software }: { readonly software: boolean }) {
  const { axes, beam_width, axis_candidates, top_k } = ethos;
  return {
    axis_size: (software ? [8, 16] : [128, 256, 512, 1024])
      .filter((size) => Math.min(size, axis_candidates) ** axes >= top_k),
    routing_heads: software ? [1, 2] : [2, 4, 8, 16],
    top_k: (software ? [2, 4] : [4, 8, 16, 32]).filter((kept) => kept <= beam_width),
  };
}

/** The layer of these sizes, for measuring. */
export function ethosBench(ethos: EthosSection): ExpertBench {
  return {
    executions: ethos.router === "beam" ? ["naive", "fused"] : ["naive", "materialized", "fused"],
    kept: ethos.routing_heads * ethos.top_k,
    scaling: (options) =>
      ethos.router === "beam" ? beamScaling(ethos, options) : productKeyScaling(ethos, options),
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
