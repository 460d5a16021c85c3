/**
 * GPT-NeoX, the family of Pythia: layer norms, parallel residual, rotary positions of a part of each head, an MLP of two matrices.
 *
 * @module
 */

import { z } from "zod";
import type { ModelConfig } from "../section.ts";
import { epsilon, type Family, headWidth, sharedKeys } from "./family.ts";
import { type HubConfig, readKeys, refused } from "./json.ts";
import { readRotary, ROTARY_KEYS } from "./rotary.ts";
import { biases, linear, type Run, same, type TensorMap } from "./tensor_map.ts";

const schema = z.object({
  ...sharedKeys,
  hidden_act: z.enum(["gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh"]).default("gelu"),
  layer_norm_eps: epsilon.default(1e-5),
  use_parallel_residual: z.boolean().default(true),
  tie_word_embeddings: z.boolean().default(false),
  attention_bias: z.boolean().default(true),
});

/** Part of a head that turns, where the file does not say. */
const FRACTION = 0.25;

/** Buffers that files of earlier years hold. */
const BUFFERS = /^gpt_neox\.layers\.\d+\.attention\.(bias|masked_bias|rotary_emb\.inv_freq)$/;

/** GPT-NeoX. */
export const gptNeox: Family = {
  read(config: HubConfig) {
    const keys = readKeys(config, schema, ROTARY_KEYS);
    const { hidden_size: d_model, num_attention_heads: num_heads } = keys;
    const rotary = readRotary(config);
    const d_head = headWidth(keys);
    // The product of a decimal fraction may come out just below a whole number.
    const d_rope = Math.floor(d_head * (rotary.fraction ?? FRACTION) + 1e-9);
    if (d_rope % 2 !== 0) {
      const key = config["rope_parameters"]
        ? "rope_parameters.partial_rotary_factor"
        : "rotary_pct";
      const why = `${d_rope} of a head's ${d_head} columns would turn; expected an even number`;
      throw refused(key, rotary.fraction ?? FRACTION, why);
    }
    const model: ModelConfig = {
      vocab_size: keys.vocab_size,
      d_model,
      num_layers: keys.num_hidden_layers,
      leading_dense: { num_layers: 0, d_ffn: keys.intermediate_size },
      attention: {
        kind: "mha",
        num_heads,
        d_head,
        bias: keys.attention_bias,
        d_rope,
        rope_base: rotary.base,
        ...(rotary.scaling && d_rope > 0 && { rope_scaling: rotary.scaling }),
        dropout: 0,
      },
      ffn: {
        kind: "dense",
        d_ffn: keys.intermediate_size,
        activation: keys.hidden_act === "gelu" ? "gelu_exact" : "gelu",
        biases: true,
      },
      trunk: {
        norm: "layer",
        epsilon: keys.layer_norm_eps,
        positions: "none",
        max_positions: 1,
        residual: keys.use_parallel_residual ? "parallel" : "sequential",
        head: keys.tie_word_embeddings ? "tied" : "own",
        dropout: 0,
      },
    };
    return {
      model,
      positions: keys.max_position_embeddings,
      tensors: tensorsOf(model, { num_heads, d_head, attention_bias: keys.attention_bias }),
      ignores: (name) =>
        BUFFERS.test(name) || (keys.tie_word_embeddings && name === "embed_out.weight"),
    };
  },
};

/** A head's rows of the fused product are its query, its key and its value; the parameter has all queries first, then keys, then values. */
function fusedRuns(num_heads: number, d_head: number): Run[] {
  return Array.from({ length: 3 * num_heads }, (_, i) => {
    const [head, what] = [Math.floor(i / 3), i % 3];
    return { from: i * d_head, to: (what * num_heads + head) * d_head, count: d_head };
  });
}

function tensorsOf(
  { vocab_size, d_model, num_layers, ffn, trunk }: ModelConfig,
  { num_heads, d_head, attention_bias }: {
    readonly num_heads: number;
    readonly d_head: number;
    readonly attention_bias: boolean;
  },
): TensorMap[] {
  const { d_ffn } = ffn as Extract<ModelConfig["ffn"], { kind: "dense" }>;
  const norm = (name: string, stored: string) =>
    ["weight", "bias"].map((part) => same(`${name}.${part}`, `${stored}.${part}`, [d_model]));
  const layer = (stored: string, [weight, bias]: readonly [string, string], sizes: {
    readonly input: number;
    readonly output: number;
    readonly biased: boolean;
    readonly runs?: readonly Run[];
  }): TensorMap[] => {
    const { input, output, biased, runs } = sizes;
    const maps = [
      linear(weight, input, [{ name: `${stored}.weight`, output }]),
      ...biased ? [biases(bias, [{ name: `${stored}.bias`, output }])] : [],
    ];
    if (!runs) return maps;
    return maps.map((map) => ({ ...map, parts: map.parts.map((part) => ({ ...part, runs })) }));
  };
  const width = num_heads * d_head;
  return [
    same("embed.weight", "gpt_neox.embed_in.weight", [vocab_size, d_model]),
    ...Array.from({ length: num_layers }, (_, i) => {
      const [at, stored] = [`layers.${i}`, `gpt_neox.layers.${i}`];
      const biased = attention_bias;
      return [
        ...norm(`${at}.attn_norm`, `${stored}.input_layernorm`),
        ...layer(
          `${stored}.attention.query_key_value`,
          [`${at}.attn.w_qkv`, `${at}.attn.b_qkv`],
          { input: d_model, output: 3 * width, biased, runs: fusedRuns(num_heads, d_head) },
        ),
        ...layer(`${stored}.attention.dense`, [`${at}.attn.w_o`, `${at}.attn.b_o`], {
          input: width,
          output: d_model,
          biased,
        }),
        ...norm(`${at}.ffn_norm`, `${stored}.post_attention_layernorm`),
        ...layer(`${stored}.mlp.dense_h_to_4h`, [`${at}.ffn.w_up`, `${at}.ffn.b_up`], {
          input: d_model,
          output: d_ffn,
          biased: true,
        }),
        ...layer(`${stored}.mlp.dense_4h_to_h`, [`${at}.ffn.w_down`, `${at}.ffn.b_down`], {
          input: d_ffn,
          output: d_model,
          biased: true,
        }),
      ];
    }).flat(),
    ...norm("final_norm", "gpt_neox.final_layer_norm"),
    ...(trunk.head === "own"
      ? [same("head.weight", "embed_out.weight", [vocab_size, d_model])]
      : []),
  ];
}
