/**
 * The keys of a model's configuration on which the numbers of a trained model depend.
 *
 * @module
 */

import type { ModelConfig } from "../section.ts";

/** Keys that change a training alone: first weights, dropout, and further terms of what is minimised. */
const OF_TRAINING =
  /(?:^|\.)(?:dropout|expert_dropout|weight_init|expert_init|load_balance_coef|balance_coef)$/;

/**
 * Values by their keys from the top: `ffn.d_latent`. Keys that change a training alone are left out, and those that nothing depends on:
 * the width of leading layers where there are none, and the longest sequence where no positions are learned. A default that a kind does not
 * store is there as if it had been given.
 */
export function meaningOf(config: ModelConfig): Map<string, unknown> {
  const keys = flatten(config);
  for (const key of keys.keys()) if (OF_TRAINING.test(key)) keys.delete(key);
  if (config.leading_dense.num_layers === 0) keys.delete("leading_dense.d_ffn");
  if (config.trunk.positions === "none") keys.delete("trunk.max_positions");
  if (config.ffn.kind === "dense") {
    keys.set("ffn.activation", config.ffn.activation ?? "swiglu");
    keys.set("ffn.biases", config.ffn.biases ?? false);
  }
  if (config.attention.kind === "mha") {
    const { num_heads, num_kv_heads, d_head, d_rope } = config.attention;
    keys.set("attention.num_kv_heads", num_kv_heads ?? num_heads);
    keys.set("attention.d_head", d_head ?? config.d_model / num_heads);
    if (d_rope === 0) keys.delete("attention.rope_base");
  }
  return keys;
}

/** Values by their keys from the top. */
export function flatten(value: unknown, at = ""): Map<string, unknown> {
  if (typeof value !== "object" || value === null) return new Map([[at, value]]);
  return new Map(
    Object.entries(value).flatMap(([key, child]) => [
      ...flatten(child, at === "" ? key : `${at}.${key}`),
    ]),
  );
}
