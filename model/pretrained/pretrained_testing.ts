/**
 * Small checkpoints in the form of published ones, for tests.
 *
 * @module
 */

import { join } from "@std/path";
import { type TensorSource, writeSafetensors } from "../checkpoint/safetensors.ts";
import { readPretrainedConfig } from "./config.ts";

/** A small model of grouped heads, as published files say it. */
export const SMALL_LLAMA: Readonly<Record<string, unknown>> = {
  architectures: ["LlamaForCausalLM"],
  model_type: "llama",
  vocab_size: 263,
  hidden_size: 24,
  intermediate_size: 36,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 8,
  hidden_act: "silu",
  rms_norm_eps: 1e-5,
  rope_theta: 10000.0,
  rope_scaling: null,
  max_position_embeddings: 64,
  tie_word_embeddings: false,
  torch_dtype: "float32",
};

/** A small model of fused heads, as published files say it. */
export const SMALL_NEOX: Readonly<Record<string, unknown>> = {
  architectures: ["GPTNeoXForCausalLM"],
  model_type: "gpt_neox",
  vocab_size: 263,
  hidden_size: 24,
  intermediate_size: 36,
  num_hidden_layers: 2,
  num_attention_heads: 3,
  hidden_act: "gelu",
  layer_norm_eps: 1e-5,
  rotary_pct: 0.25,
  rotary_emb_base: 10000,
  use_parallel_residual: true,
  max_position_embeddings: 64,
  tie_word_embeddings: false,
};

/** Options of {@linkcode writePretrained}. */
export interface WritePretrainedOptions {
  /** Type of every tensor; F32 unless given. */
  readonly dtype?: "F32" | "F16" | "BF16";
  /** Files that the tensors are dealt out to, with an index; one file without an index unless given. */
  readonly shards?: number;
  /** Changes the tensors before they are written. */
  readonly edit?: (tensors: Map<string, StoredTensor>) => void;
}

/** A tensor to be stored. */
export interface StoredTensor {
  readonly shape: readonly number[];
  readonly values: Float32Array;
}

/** Small multiples of a power of two, which every type holds exactly; the same for the same name. */
function valuesOf(name: string, count: number): Float32Array {
  let state = [...name].reduce((hash, c) => Math.imul(hash ^ c.charCodeAt(0), 16777619), 5) >>> 0;
  const gain = /norm.*\.weight$/.test(name);
  return Float32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return gain ? 0.75 + (state >>> 27) / 64 : ((state >>> 24) - 128) / 512;
  });
}

/** Writes a checkpoint of numbers that are no model's. */
export async function writePretrained(
  folder: string,
  config: Readonly<Record<string, unknown>>,
  options: WritePretrainedOptions = {},
): Promise<void> {
  const { dtype = "F32", shards } = options;
  await Deno.mkdir(folder, { recursive: true });
  await Deno.writeTextFile(join(folder, "config.json"), JSON.stringify(config));
  const tensors = new Map<string, StoredTensor>();
  for (const { parts } of readPretrainedConfig(config).tensors) {
    for (const { name, shape } of parts) {
      const count = shape.reduce((product, n) => product * n, 1);
      tensors.set(name, { shape, values: valuesOf(name, count) });
    }
  }
  options.edit?.(tensors);
  const all = Array.from(tensors, ([name, { shape, values }]): TensorSource => ({
    name,
    dtype,
    shape,
    data: encode(values, dtype),
  }));
  if (shards === undefined) {
    await writeSafetensors(join(folder, "model.safetensors"), all);
    return;
  }
  const weight_map: Record<string, string> = {};
  for (let shard = 0; shard < shards; shard++) {
    const file = `model-${shard + 1}-of-${shards}.safetensors`;
    const own = all.filter((_, i) => i % shards === shard);
    for (const { name } of own) weight_map[name] = file;
    await writeSafetensors(join(folder, file), own);
  }
  await Deno.writeTextFile(
    join(folder, "model.safetensors.index.json"),
    JSON.stringify({ metadata: { total_size: 0 }, weight_map }),
  );
}

function encode(values: Float32Array, dtype: "F32" | "F16" | "BF16"): ArrayBufferView {
  if (dtype === "F32") return values;
  if (dtype === "F16") return new Float16Array(values);
  return Uint16Array.from(new Uint32Array(Float32Array.from(values).buffer), (word) => word >>> 16);
}
