/**
 * Small models for tests: a base with changes of single keys.
 *
 * @module
 */

import { architectureOf, modelSchema } from "./config.ts";
import type { Architecture } from "./trunk/architecture.ts";

/** Changes of a section `model`. A section that names another kind takes the base's place; other keys are changed one by one. */
export interface ModelChanges {
  readonly d_model?: number;
  readonly num_layers?: number;
  readonly vocab_size?: number;
  readonly leading_dense?: Readonly<Record<string, unknown>>;
  readonly attention?: Readonly<Record<string, unknown>>;
  readonly ffn?: Readonly<Record<string, unknown>>;
  readonly trunk?: Readonly<Record<string, unknown>>;
}

/** The architecture of a base, whose sections are whole, with changes. */
export function changedModel(base: ModelChanges, changes: ModelChanges): Architecture {
  const merged = (key: "leading_dense" | "attention" | "ffn" | "trunk") => {
    const changed = changes[key];
    return changed?.["kind"] === undefined ? { ...base[key], ...changed } : changed;
  };
  const { vocab_size = 2, d_model, num_layers } = { ...base, ...changes };
  const section = modelSchema.parse({
    d_model,
    num_layers,
    leading_dense: merged("leading_dense"),
    attention: merged("attention"),
    ffn: merged("ffn"),
    trunk: merged("trunk"),
  });
  return architectureOf({ ...section, vocab_size });
}

/** A dense model instead of experts, in changes of a base. */
export const DENSE = {
  leading_dense: { num_layers: 0 },
  ffn: { kind: "dense", d_ffn: 36 },
} satisfies ModelChanges;

/** A section `model.ffn` of stored experts, with odd counts. */
export const PEER = {
  kind: "peer",
  num_experts: 49,
  routing_heads: 3,
  top_k: 3,
  d_query: 16,
} as const;

/** A section `model.ffn` of experts behind beams, with odd counts. */
export const BEAM = {
  kind: "ethos",
  router: "beam",
  routing_heads: 2,
  top_k: 3,
  axes: 3,
  axis_query: 8,
  axis_size: 7,
  axis_candidates: 5,
  beam_width: 6,
  d_latent: 8,
  d_hidden: 12,
} as const;
