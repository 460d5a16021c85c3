/**
 * A trained model as a folder that transformers loads, and plain PyTorch too.
 *
 * ```text
 * model.safetensors        weights and running statistics, by the specification's names
 * config.json              the section `model`, and the keys that general tools read
 * generation_config.json   the token that ends a text
 * ethos_torch.py           the network in plain PyTorch
 * modeling_ethos.py        the network as a model of transformers, with configuration_ethos.py
 * tokenizer.json …         see `tokenizer.ts`
 * ```
 *
 * @module
 */

import { join } from "@std/path";
import { MODEL_FILE, readArchitecture } from "../checkpoint/checkpoint.ts";
import { modelTensors } from "../checkpoint/model_tensors.ts";
import { SafetensorsFile, type TensorSource, writeSafetensors } from "../checkpoint/safetensors.ts";
import type { AttentionSection, FfnSection } from "../section.ts";
import type { Vocabulary } from "../text/vocabulary.ts";
import type { Architecture } from "../trunk/architecture.ts";
import configurationSource from "./python/configuration_ethos.py" with { type: "text" };
import networkSource from "./python/ethos_torch.py" with { type: "text" };
import modelingSource from "./python/modeling_ethos.py" with { type: "text" };
import { tokenizerFiles } from "./tokenizer.ts";

/** Name of the network's file. */
export const NETWORK_FILE = "ethos_torch.py";

/** `model_type` of an exported `config.json`, which tells such a folder from those of published models. */
export const MODEL_TYPE = "ethos";

/** The kinds that `ethos_torch.py` has a class for. A kind that is registered and not here does not compile. */
const KINDS: Readonly<Record<AttentionSection["kind"] | FfnSection["kind"], true>> = {
  mha: true,
  mla: true,
  dense: true,
  ethos: true,
  peer: true,
  switch: true,
  topk_moe: true,
};

/** Bytes of a tensor in memory at once. */
const BLOCK = 64 * 2 ** 20;

/** A model to write. */
export interface TransformersOptions {
  /** Path of its `model.safetensors`. */
  readonly model: string;
  readonly vocabulary: Vocabulary;
  /** Tokens of the sequences that it was trained with, where they are known. */
  readonly trained?: number | undefined;
}

/**
 * Writes the files into a folder, which must be there.
 *
 * @returns Their names, sorted.
 * @throws {RangeError} If the model has a kind that the Python files lack, or its vocabulary is another.
 * @throws {Error} If the model's file is damaged, or lacks a tensor.
 */
export async function writeTransformers(
  folder: string,
  options: TransformersOptions,
): Promise<string[]> {
  const { model, vocabulary, trained } = options;
  const architecture = await readArchitecture(model);
  const { config } = architecture;
  for (const section of ["attention", "ffn"] as const) {
    const { kind } = config[section];
    if (Object.hasOwn(KINDS, kind)) continue;
    throw new RangeError(
      `model.${section}.kind is ${kind}, which has no form for transformers; expected one of ${
        Object.keys(KINDS).join(", ")
      }`,
    );
  }
  if (vocabulary.vocab_size !== config.vocab_size) {
    throw new RangeError(
      `The vocabulary has ${vocabulary.vocab_size} tokens, the model ${config.vocab_size}`,
    );
  }
  const longest = Math.min(architecture.longest, trained ?? Infinity);
  const positions = Number.isFinite(longest) ? longest : undefined;
  const texts: Record<string, string> = {
    ...await tokenizerFiles(vocabulary, { longest: positions }),
    "config.json": json(configOf(architecture, { endoftext: vocabulary.endoftext, positions })),
    "generation_config.json": json({ ...endsWith(vocabulary.endoftext), use_cache: false }),
    [NETWORK_FILE]: networkSource,
    "modeling_ethos.py": modelingSource,
    "configuration_ethos.py": configurationSource,
  };
  for (const [name, text] of Object.entries(texts)) {
    await Deno.writeTextFile(join(folder, name), text);
  }
  await writeWeights(join(folder, MODEL_FILE), model, architecture);
  return [...Object.keys(texts), MODEL_FILE].sort();
}

function json(value: unknown): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}

function endsWith(endoftext: number) {
  return { bos_token_id: endoftext, eos_token_id: endoftext, pad_token_id: endoftext };
}

/** The `config.json`. Keys beside `model` say the same to tools that know no kinds. */
function configOf(
  architecture: Architecture,
  { endoftext, positions }: { endoftext: number; positions: number | undefined },
): Record<string, unknown> {
  const { config } = architecture.forGeneration();
  return {
    architectures: ["EthosForCausalLM"],
    model_type: MODEL_TYPE,
    auto_map: {
      AutoConfig: "configuration_ethos.EthosConfig",
      AutoModelForCausalLM: "modeling_ethos.EthosForCausalLM",
    },
    torch_dtype: "float32",
    vocab_size: config.vocab_size,
    hidden_size: config.d_model,
    num_hidden_layers: config.num_layers,
    num_attention_heads: config.attention.num_heads,
    ...(positions === undefined ? {} : { max_position_embeddings: positions }),
    ...endsWith(endoftext),
    tie_word_embeddings: false,
    use_cache: false,
    model: config,
  };
}

/** Copies the model's tensors, with a header that transformers takes: it asks for the format `pt`. */
async function writeWeights(to: string, from: string, architecture: Architecture): Promise<void> {
  using file = await SafetensorsFile.open(from);
  const found = modelTensors(from, { file, architecture });
  const tensors = found.map(({ name, shape, byteLength: size }): TensorSource => {
    return {
      name,
      dtype: "F32",
      shape,
      data: async function* () {
        for (let offset = 0; offset < size; offset += BLOCK) {
          const byteLength = Math.min(BLOCK, size - offset);
          yield await file.readBytes(name, { offset, byteLength });
        }
      },
    };
  });
  await writeSafetensors(to, tensors, {
    metadata: { format: "pt", config: JSON.stringify(architecture.config) },
  });
}
