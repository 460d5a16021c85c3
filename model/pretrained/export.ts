/**
 * Writes a model that was trained here as a published checkpoint: a Llama whose tokens are single bytes.
 *
 * @module
 */

import { join } from "@std/path";
import { MODEL_FILE, type WeightSink } from "../checkpoint/checkpoint.ts";
import { type TensorSource, writeSafetensors } from "../checkpoint/safetensors.ts";
import type { ModelConfig, ModelSection } from "../section.ts";
import { byteTokenizer } from "../text/byte_level.ts";
import type { Architecture } from "../trunk/architecture.ts";
import { readPretrainedConfig } from "./config.ts";
import { PretrainedError } from "./error.ts";
import { CONFIG_FILE } from "./json.ts";
import { take } from "./tensor_map.ts";
import { TOKENIZER_FILE } from "./tokenizer.ts";

/** Ids of the bytes and the token that ends a text. */
export const BYTE_VOCABULARY = 257;

/** The token that ends a text. */
const END = BYTE_VOCABULARY - 1;

/** Sizes of a Llama whose heads all have keys of their own. */
export interface LlamaSizes {
  readonly d_model: number;
  readonly num_layers: number;
  readonly num_heads: number;
  readonly d_ffn: number;
}

/** The section `model` of a Llama of these sizes, to be trained. */
export function llamaSection(sizes: LlamaSizes): ModelSection {
  const { vocab_size: _, ...section } = readPretrainedConfig(llamaConfig(sizes, 1)).model;
  return section;
}

/** The `config.json` of a Llama of single bytes. */
function llamaConfig(
  { d_model, num_layers, num_heads, d_ffn }: LlamaSizes,
  positions: number,
): Record<string, unknown> {
  return {
    architectures: ["LlamaForCausalLM"],
    model_type: "llama",
    vocab_size: BYTE_VOCABULARY,
    hidden_size: d_model,
    intermediate_size: d_ffn,
    num_hidden_layers: num_layers,
    num_attention_heads: num_heads,
    num_key_value_heads: num_heads,
    hidden_act: "silu",
    rms_norm_eps: 1e-6,
    rope_theta: 10000,
    max_position_embeddings: positions,
    tie_word_embeddings: true,
    eos_token_id: END,
    torch_dtype: "float32",
  };
}

/**
 * Writes a model of {@linkcode llamaSection} as `config.json`, `tokenizer.json` and `model.safetensors` in f32.
 *
 * @param options `positions`: tokens of the longest sequence.
 * @throws {PretrainedError} If the model is another.
 */
export async function writeByteLlama(
  folder: string,
  source: { readonly architecture: Architecture; fill(sink: WeightSink): Promise<void> },
  { positions, ...sizes }: LlamaSizes & { readonly positions: number },
): Promise<void> {
  const config = llamaConfig(sizes, positions);
  const { model, tensors } = readPretrainedConfig(config);
  requireSame(source.architecture.config, model);
  const values = new Map<string, Float32Array>();
  await source.fill({
    architecture: source.architecture,
    writeState: (_kind, name, array) => void values.set(name, array),
  });
  const stored = tensors.flatMap((map) => {
    const from = values.get(map.name)!;
    return map.parts.map((part): TensorSource => ({
      name: part.name,
      dtype: "F32",
      shape: part.shape,
      data: take(map, part, from),
    }));
  });
  await Deno.mkdir(folder, { recursive: true });
  const write = (name: string, json: unknown) =>
    Deno.writeTextFile(join(folder, name), `${JSON.stringify(json, null, 2)}\n`);
  await write(CONFIG_FILE, config);
  await write(TOKENIZER_FILE, byteTokenizer());
  await writeSafetensors(join(folder, MODEL_FILE), stored);
}

/** Compares the keys that a published configuration decides. */
function requireSame(found: ModelConfig, expected: ModelConfig): void {
  const differ = (a: unknown, b: unknown, path: string): string | undefined => {
    if (typeof b !== "object" || b === null) return Object.is(a, b) ? undefined : path;
    for (const [key, value] of Object.entries(b)) {
      const found = differ(Object(a)[key], value, path === "" ? key : `${path}.${key}`);
      if (found !== undefined) return found;
    }
    return undefined;
  };
  const path = differ(found, expected, "");
  if (path === undefined) return;
  const at = (config: unknown) =>
    JSON.stringify(path.split(".").reduce((here, key) => Object(here)[key], config));
  throw new PretrainedError(
    `model.${path} is ${at(found)}, expected ${
      at(expected)
    }: only a Llama of single bytes is written`,
  );
}
