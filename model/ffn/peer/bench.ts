/**
 * A PEER layer as it is measured: in each execution, and its router and its experts apart.
 *
 * @module
 */

import type { ExpertBench } from "../../layer/kind.ts";
import { benchRoute, productKeyScaling } from "../product_key/bench.ts";
import { peerBackward, peerForward } from "./peer.ts";
import type { PeerSection } from "./schema.ts";

/** The layer of these sizes, for measuring. */
export function peerBench(peer: PeerSection): ExpertBench {
  return {
    executions: ["naive", "fused"],
    kept: peer.routing_heads * peer.top_k,
    scaling: (options) => productKeyScaling(peer, options),
    route: (context, at, x) => benchRoute(context, at, { x, router: peer }),
    experts(context, at, { index, score, ...input }) {
      const { y, saved } = peerForward(context, at, { ...input, peer, kept: { index, score } });
      return {
        y,
        backward: (dy, options) => peerBackward(context, at, { peer, dy, saved, ...options }),
      };
    },
  };
}
