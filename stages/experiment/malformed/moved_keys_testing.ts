/**
 * Keys of the flat configuration of earlier versions.
 *
 * @module
 */

import { MINIMAL } from "../config_testing.ts";
import { type Malformed, withLines } from "./malformed_testing.ts";

/** Keys that the section `model` had when it was flat, with the place that each has now. */
const MOVED: Readonly<Record<string, string>> = {
  kind: "model.ffn.kind",
  num_dense_layers: "model.leading_dense.num_layers",
  d_ffn: "model.leading_dense.d_ffn, or model.ffn.d_ffn of a dense model",
  num_heads: "model.attention.num_heads",
  q_lora_rank: "model.attention.q_lora_rank",
  kv_lora_rank: "model.attention.kv_lora_rank",
  d_nope: "model.attention.d_nope",
  d_rope: "model.attention.d_rope",
  d_v: "model.attention.d_v",
  num_experts: "model.ffn.num_experts",
  routing_heads: "model.ffn.routing_heads",
  top_k: "model.ffn.top_k",
  d_query: "model.ffn.d_query",
  d_latent: "model.ffn.d_latent",
  d_hidden: "model.ffn.d_hidden",
  d_context: "model.ffn.d_context",
  execution: "model.ffn.execution",
  router_batch_norm: "model.ffn.router_batch_norm",
  load_balance_coef: "model.ffn.load_balance_coef",
};

/** Each of these keys in a file, with `--set` and as the path of a factor. */
export function movedKeys(): Malformed[] {
  return Object.entries(MOVED).flatMap(([key, place]) => {
    const answer = ["kind", "num_dense_layers", "d_ffn"].includes(key)
      ? `the key is now ${place}`
      : `unknown key here; did you mean ${place}?`;
    return [
      {
        what: `the former key model.${key}`,
        text: withLines("model:", `  ${key}: 8`),
        says: [`bad.yaml:6: model.${key}: ${answer}`],
      },
      {
        what: `the former key model.${key} in --set`,
        text: MINIMAL,
        set: [`model.${key}=8`],
        says: [`--set model.${key}=8: model.${key}: ${answer}`],
      },
      {
        what: `the former key model.${key} in an ablation`,
        text: withLines("ablations:", `  - { name: x, path: model.${key}, values: [8, 16] }`),
        says: [`bad.yaml:6: ablations.0.path: 8 gives model.${key}: ${answer}`],
      },
    ];
  });
}
