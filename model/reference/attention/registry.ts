/**
 * The kinds of attention in float64.
 *
 * @module
 */

import type { AttentionSection } from "../../section.ts";
import type { AttentionKind } from "../layer.ts";
import { mha } from "./mha.ts";
import { mla } from "./mla.ts";

/** By the name that `model.attention.kind` gives. */
export const ATTENTION: {
  readonly [Name in AttentionSection["kind"]]: AttentionKind<
    Extract<AttentionSection, { kind: Name }>
  >;
} = {
  mha,
  mla,
};
