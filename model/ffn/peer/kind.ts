/**
 * The PEER layer, as a kind of feed-forward layer: product-key routing to experts whose rows `u` and `v` are stored.
 *
 * @module
 */

import type { FeedForward, Kind, TrunkSizes } from "../../layer/kind.ts";
import { type ParameterSpec, size, weight } from "../../layer/parameter.ts";
import {
  routerFlops,
  routerParameters,
  routerProblems,
  routerStatistics,
  routerUse,
} from "../product_key/router.ts";
import { peerBench } from "./bench.ts";
import { peerBackward, peerForward } from "./peer.ts";
import { peerSchema, type PeerSection } from "./schema.ts";

function parameters(peer: PeerSection, trunk: TrunkSizes, at: string): ParameterSpec[] {
  const shape = [peer.num_experts, trunk.d_model];
  // The specification gives stored experts the deviation of any matrix, those that write to the residual stream too.
  const role = "experts";
  return [
    ...routerParameters(peer, trunk, `${at}.router`),
    weight(`${at}.u`, shape, { role }),
    weight(`${at}.v`, shape, { role }),
  ];
}

/** Active: everything but the experts that a token did not keep. All experts are stored. */
function counts(peer: PeerSection, trunk: TrunkSizes): FeedForward["counts"] {
  const theoretical = parameters(peer, trunk, "ffn").reduce((n, spec) => n + size(spec), 0);
  const unused = peer.num_experts - peer.routing_heads * peer.top_k;
  return { active: theoretical - unused * 2 * trunk.d_model, theoretical };
}

/** The PEER layer. */
export const kind: Kind<PeerSection, FeedForward> = {
  schema: peerSchema,
  runtime: { execution: "auto" },
  create: (peer, trunk) => ({
    parameters: (at) => parameters(peer, trunk, at),
    statistics: (at) => routerStatistics(peer, `${at}.router`),
    counts: counts(peer, trunk),
    flops: () => ({
      router: routerFlops(peer, trunk),
      // A product with u and a multiple of v.
      experts: peer.routing_heads * peer.top_k * 4 * trunk.d_model,
    }),
    problems: (tokens) => routerProblems(peer, tokens),
    upcycled:
      "its experts are single neurons, of which a token adds up few by scores of its own, so no choice of them gives a dense layer",
    bench: peerBench(peer),
    forward(context, at, input) {
      const { y, saved } = peerForward(context, at, { ...input, peer });
      const router = saved.router!;
      const { balance } = router.routed;
      return {
        y,
        backward: (dy, options) => peerBackward(context, at, { peer, dy, saved, ...options }),
        ...(balance && { auxiliary: balance.value }),
        use: routerUse(context, `${at}.router`, { router: peer, saved: router }),
      };
    },
  }),
};
