/**
 * The kinds of feed-forward layers in float64.
 *
 * @module
 */

import type { FfnSection } from "../../section.ts";
import type { FeedForwardKind } from "../layer.ts";
import { dense } from "./dense.ts";
import { ethos } from "./ethos/ethos.ts";
import { peer } from "./peer.ts";
import { switchLayer } from "./switch.ts";
import { topkMoe } from "./topk_moe.ts";

/** By the name that `model.ffn.kind` gives. */
export const FFN: {
  readonly [Name in FfnSection["kind"]]: FeedForwardKind<Extract<FfnSection, { kind: Name }>>;
} = {
  dense,
  ethos,
  peer,
  switch: switchLayer,
  topk_moe: topkMoe,
};
