/**
 * Small models of every kind as folders for transformers, with the logits that the float64 reference gives them.
 *
 * @module
 */

import { join } from "@std/path";
import { MODEL_FILE } from "../checkpoint/checkpoint.ts";
import { noisyTensors, smallModel, writeModelFile } from "../inference/inference_testing.ts";
import { noise } from "../ops/testing.ts";
import { row } from "../reference/matrix.ts";
import { networkForward } from "../reference/network.ts";
import { BEAM, DENSE, type ModelChanges, PEER } from "../testing.ts";
import { encodingVocabulary, openTokenizer, type Vocabulary } from "../text/tokenizer.ts";
import { writeTransformers } from "./transformers.ts";

/** The 256 bytes and the end of text. */
export const BYTES: Vocabulary = {
  format: "ethos-vocabulary",
  version: 1,
  vocabulary: "compact",
  vocab_size: 257,
  endoftext: 256,
  tokens: [],
};

/** Some tokens of `cl100k_base` besides: " the", " and", "ing", " of", "er", " cat". */
export const COMPACT: Vocabulary = {
  ...BYTES,
  vocab_size: 263,
  endoftext: 262,
  tokens: [279, 323, 287, 315, 261, 8415],
};

/** Texts that tokenizers cut in different places. */
export const TEXTS = [
  "the cat and the singing of 1234567 birds",
  " two  spaces \n\n and\tlines\r\n",
  "I'll can't WE'RE né à Zürich “why not?” 😀",
  "x = foo(bar_baz)[12] // ok!!!",
];

const MIXTURE = { num_experts: 5, d_expert: 20 } as const;

/** A model of a kind by its name. */
const CASES: Readonly<Record<string, { changes: ModelChanges; vocabulary?: Vocabulary }>> = {
  ethos: { changes: {} },
  ethos_mass: {
    changes: { ffn: { choice: "mass", mass: 0.7, min_k: 2, d_context: 8 } },
    vocabulary: COMPACT,
  },
  ethos_threshold: {
    changes: { ffn: { choice: "threshold", threshold: 0.3, router_batch_norm: false } },
  },
  ethos_beam: { changes: { ffn: BEAM } },
  ethos_beam_context: { changes: { ffn: { ...BEAM, d_context: 4 } } },
  peer: { changes: { ffn: PEER } },
  switch: { changes: { ffn: { kind: "switch", ...MIXTURE } } },
  topk_moe: { changes: { ffn: { kind: "topk_moe", ...MIXTURE, gelu: "exact" } } },
  topk_moe_top_p: {
    changes: {
      ffn: { kind: "topk_moe", ...MIXTURE, top_k: 4, biases: false, choice: "top_p", top_p: 0.6 },
    },
  },
  dense_grouped: {
    changes: {
      ...DENSE,
      attention: {
        kind: "mha",
        num_heads: 4,
        num_kv_heads: 2,
        d_head: 8,
        d_rope: 6,
        bias: false,
        rope_base: 500,
        rope_scaling: {
          type: "llama3",
          factor: 4,
          low_freq_factor: 1,
          high_freq_factor: 4,
          original_max_position_embeddings: 32,
        },
      },
      trunk: { epsilon: 1e-5, head: "own" },
    },
  },
  dense_gpt: {
    changes: {
      ...DENSE,
      ffn: { kind: "dense", d_ffn: 36, activation: "gelu", biases: true },
      attention: { kind: "mha", num_heads: 3 },
      trunk: { norm: "layer", positions: "learned", max_positions: 24 },
    },
    vocabulary: encodingVocabulary("gpt2"),
  },
  dense_neox: {
    changes: {
      ...DENSE,
      ffn: { kind: "dense", d_ffn: 36, activation: "gelu_exact", biases: true },
      attention: {
        kind: "mha",
        num_heads: 3,
        d_rope: 4,
        rope_scaling: { type: "linear", factor: 2 },
      },
      trunk: { norm: "layer", residual: "parallel", head: "own" },
    },
  },
};

/** Sequences, and tokens of each. */
const SEQUENCES = 2;
const LENGTH = 11;
/** Ids whose logits are compared, at most. */
const COMPARED = 300;

/**
 * Writes a folder for each kind, with `expected.json`, which `check_export.py` reads.
 *
 * @returns Paths of the folders.
 */
export async function writeCases(folder: string): Promise<string[]> {
  const paths: string[] = [];
  for (const [i, [name, { changes, vocabulary = BYTES }]] of Object.entries(CASES).entries()) {
    const small = vocabulary.vocabulary === "compact" ? {} : { d_model: 12, num_layers: 1 };
    const architecture = smallModel(vocabulary.vocab_size, { ...changes, ...small });
    const tensors = noisyTensors(architecture, 7 + 100 * i);
    const path = join(folder, name);
    await Deno.mkdir(path, { recursive: true });
    const model = join(folder, `${name}.${MODEL_FILE}`);
    await writeModelFile(model, architecture, tensors);
    await writeTransformers(path, { model, vocabulary, trained: 24 });
    await Deno.remove(model);
    const tokens = Array.from(
      noise(SEQUENCES * LENGTH, i),
      (v) => Math.floor((v + 1) / 2 * (vocabulary.vocab_size - 1)),
    );
    const { logits } = networkForward(architecture.config, tensors, {
      tokens,
      length: LENGTH,
      training: false,
    });
    const rows = Array.from(
      { length: tokens.length },
      (_, t) => [...row(logits, t).subarray(0, COMPARED)],
    );
    const sequences = <T>(all: readonly T[]) =>
      Array.from({ length: SEQUENCES }, (_, s) => all.slice(s * LENGTH, (s + 1) * LENGTH));
    const tokenizer = await openTokenizer(vocabulary);
    await Deno.writeTextFile(
      join(path, "expected.json"),
      JSON.stringify({
        tokens: sequences(tokens),
        logits: sequences(rows),
        texts: TEXTS.map((text) => ({ text, ids: [...tokenizer.encode(text)] })),
      }),
    );
    paths.push(path);
  }
  return paths;
}
