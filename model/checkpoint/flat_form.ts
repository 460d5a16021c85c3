/**
 * The flat form in which earlier versions wrote a model's configuration: every size on one level, one kind of attention, `ethos` or
 * `dense` feed-forwards. Files that hold it are read.
 *
 * @module
 */

/** Keys of the flat form by the section that they belong to now. */
const ATTENTION = ["num_heads", "q_lora_rank", "kv_lora_rank", "d_nope", "d_rope", "d_v"];
const ETHOS = [
  "num_experts",
  "routing_heads",
  "top_k",
  "d_query",
  "router_batch_norm",
  "load_balance_coef",
  "d_latent",
  "d_hidden",
  "d_context",
  "execution",
];

/** A configuration in today's form; one that is not in the flat form comes back as it is. */
export function fromFlatForm(value: unknown): unknown {
  const flat = Object(value) as Readonly<Record<string, unknown>>;
  if (typeof flat["kind"] !== "string") return value;
  const { kind, d_model, num_layers, num_dense_layers, d_ffn, vocab_size } = flat;
  const pick = (keys: readonly string[]) =>
    Object.fromEntries(keys.filter((key) => key in flat).map((key) => [key, flat[key]]));
  const dense = kind === "dense";
  return {
    d_model,
    num_layers,
    leading_dense: { num_layers: dense ? 0 : num_dense_layers, d_ffn },
    attention: { kind: "mla", ...pick(ATTENTION) },
    ffn: dense ? { kind, d_ffn } : { kind, ...pick(ETHOS) },
    vocab_size,
  };
}
