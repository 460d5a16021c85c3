/**
 * Llama 2 and 3: RMS norms, grouped keys and values, rotary positions of whole heads, SwiGLU.
 *
 * @module
 */

import { z } from "zod";
import type { ModelConfig } from "../section.ts";
import { count, epsilon, type Family, headWidth, sharedKeys } from "./family.ts";
import { type HubConfig, readKeys, refused } from "./json.ts";
import { readRotary, ROTARY_KEYS } from "./rotary.ts";
import { biases, linear, same, type TensorMap } from "./tensor_map.ts";

const schema = z.object({
  ...sharedKeys,
  num_key_value_heads: count(1024).optional(),
  head_dim: count(2 ** 16).optional(),
  hidden_act: z.enum(["silu", "swish"]).default("silu"),
  rms_norm_eps: epsilon.default(1e-6),
  tie_word_embeddings: z.boolean().default(false),
  attention_bias: z.boolean().default(false),
  mlp_bias: z.boolean().default(false),
});

/** Buffers that files of earlier years hold. */
const BUFFERS = /^model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq$/;

/** Llama. */
export const llama: Family = {
  read(config: HubConfig) {
    const keys = readKeys(config, schema, ROTARY_KEYS);
    const { num_attention_heads: num_heads, num_key_value_heads: num_kv_heads = num_heads } = keys;
    const { base, fraction, scaling } = readRotary(config);
    const d_head = headWidth(keys);
    if (num_heads % num_kv_heads !== 0) {
      throw refused(
        "num_key_value_heads",
        num_kv_heads,
        `it does not divide num_attention_heads ${num_heads}`,
      );
    }
    if (fraction !== undefined && fraction !== 1) {
      throw refused("partial_rotary_factor", fraction, "all columns of a llama's head turn");
    }
    const model: ModelConfig = {
      vocab_size: keys.vocab_size,
      d_model: keys.hidden_size,
      num_layers: keys.num_hidden_layers,
      leading_dense: { num_layers: 0, d_ffn: keys.intermediate_size },
      attention: {
        kind: "mha",
        num_heads,
        num_kv_heads,
        d_head,
        bias: keys.attention_bias,
        d_rope: d_head,
        rope_base: base,
        ...(scaling && { rope_scaling: scaling }),
        dropout: 0,
      },
      ffn: {
        kind: "dense",
        d_ffn: keys.intermediate_size,
        activation: "swiglu",
        biases: keys.mlp_bias,
      },
      trunk: {
        norm: "rms",
        epsilon: keys.rms_norm_eps,
        positions: "none",
        max_positions: 1,
        residual: "sequential",
        head: keys.tie_word_embeddings ? "tied" : "own",
        dropout: 0,
      },
    };
    return {
      model,
      positions: keys.max_position_embeddings,
      tensors: tensorsOf(model, { ...keys, num_heads, num_kv_heads, d_head }),
      ignores: (name) =>
        BUFFERS.test(name) || (keys.tie_word_embeddings && name === "lm_head.weight"),
    };
  },
};

function tensorsOf(
  { vocab_size, d_model, num_layers, ffn, trunk }: ModelConfig,
  { num_heads, num_kv_heads, d_head, attention_bias, mlp_bias }: {
    readonly num_heads: number;
    readonly num_kv_heads: number;
    readonly d_head: number;
    readonly attention_bias: boolean;
    readonly mlp_bias: boolean;
  },
): TensorMap[] {
  const { d_ffn } = ffn as Extract<ModelConfig["ffn"], { kind: "dense" }>;
  /** Layers of one input, given by the end of the parameter's name and of the stored ones. */
  const layer = (
    at: string,
    name: string,
    sizes: {
      readonly input: number;
      readonly outputs: Readonly<Record<string, number>>;
      readonly biased: boolean;
    },
  ): TensorMap[] => {
    const { input, outputs, biased } = sizes;
    const stored = (what: string) =>
      Object.entries(outputs).map(([layer, output]) => ({ name: `${layer}.${what}`, output }));
    return [
      linear(`${at}.w_${name}`, input, stored("weight")),
      ...biased ? [biases(`${at}.b_${name}`, stored("bias"))] : [],
    ];
  };
  return [
    same("embed.weight", "model.embed_tokens.weight", [vocab_size, d_model]),
    ...Array.from({ length: num_layers }, (_, i) => {
      const [at, stored] = [`layers.${i}`, `model.layers.${i}`];
      const attention = `${stored}.self_attn`;
      const mlp = { input: d_model, biased: mlp_bias };
      return [
        same(`${at}.attn_norm.weight`, `${stored}.input_layernorm.weight`, [d_model]),
        ...layer(`${at}.attn`, "qkv", {
          input: d_model,
          outputs: {
            [`${attention}.q_proj`]: num_heads * d_head,
            [`${attention}.k_proj`]: num_kv_heads * d_head,
            [`${attention}.v_proj`]: num_kv_heads * d_head,
          },
          biased: attention_bias,
        }),
        ...layer(`${at}.attn`, "o", {
          input: num_heads * d_head,
          outputs: { [`${attention}.o_proj`]: d_model },
          biased: attention_bias,
        }),
        same(`${at}.ffn_norm.weight`, `${stored}.post_attention_layernorm.weight`, [d_model]),
        ...layer(`${at}.ffn`, "gate", {
          ...mlp,
          outputs: { [`${stored}.mlp.gate_proj`]: d_ffn },
        }),
        ...layer(`${at}.ffn`, "up", { ...mlp, outputs: { [`${stored}.mlp.up_proj`]: d_ffn } }),
        ...layer(`${at}.ffn`, "down", {
          input: d_ffn,
          outputs: { [`${stored}.mlp.down_proj`]: d_model },
          biased: mlp_bias,
        }),
      ];
    }).flat(),
    same("final_norm.weight", "model.norm.weight", [d_model]),
    ...(trunk.head === "own" ? [same("head.weight", "lm_head.weight", [vocab_size, d_model])] : []),
  ];
}
