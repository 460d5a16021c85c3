/**
 * A dataset and a trained model that are small enough for a test.
 *
 * @module
 */

import { join } from "@std/path";
import { ShardWriter } from "../model/text/shard.ts";
import { formatVocabulary, type Vocabulary, vocabularyDigest } from "../model/text/tokenizer.ts";
import type { JsonValue, NodeOutput } from "../pipeline/stage.ts";
import { VOCABULARY_FILE } from "./dataset.ts";

/** The 256 bytes and the end of text. */
export const BYTE_VOCABULARY: Vocabulary = {
  format: "ethos-vocabulary",
  version: 1,
  vocabulary: "compact",
  vocab_size: 257,
  endoftext: 256,
  tokens: [],
};

const SENTENCES = [
  "the cat sat on the mat. ",
  "a dog ran to the river and back. ",
  "né à Zürich, she said: “why not?” ",
];

/** Text that goes on and on; the same for the same length. */
export function someText(length: number): string {
  let text = "";
  for (let i = 0; text.length < length; i = (i * 7 + 3) % 1009) text += SENTENCES[i % 3];
  return text.slice(0, length);
}

/** Writes a tokenised dataset, as `tokenize` publishes it. */
export async function writeDataset(folder: string): Promise<NodeOutput> {
  const digest = await vocabularyDigest(BYTE_VOCABULARY);
  const tokens = join(folder, "tokens");
  for (const [split, length] of [["train", 6000], ["validation", 700]] as const) {
    await Deno.mkdir(join(tokens, split), { recursive: true });
    using writer = new ShardWriter(join(tokens, split, "00000.tokens"), {
      vocab_size: 257,
      digest,
    });
    const text = someText(length + split.length).slice(split.length);
    writer.write(Uint32Array.of(...new TextEncoder().encode(text), 256));
    writer.close();
  }
  await Deno.writeTextFile(join(tokens, VOCABULARY_FILE), formatVocabulary(BYTE_VOCABULARY));
  const files = ["train/00000.tokens", "validation/00000.tokens", VOCABULARY_FILE];
  return {
    name: "tokenize",
    stage: "tokenize",
    key: "1".repeat(64),
    params: {},
    labels: {},
    json: () => null,
    file: (name, inside) => join(folder, name, inside ?? ""),
    files: () => files.toSorted(),
    metrics: () => Promise.resolve([]),
    provenance: {},
  };
}

/** Parameters of a training that takes a second. */
export const SMALL_TRAINING: JsonValue = {
  model: {
    d_model: 16,
    num_layers: 2,
    num_dense_layers: 1,
    d_ffn: 16,
    num_heads: 2,
    q_lora_rank: 8,
    kv_lora_rank: 8,
    d_nope: 4,
    d_rope: 8,
    d_v: 4,
    num_experts: 64,
    routing_heads: 2,
    top_k: 2,
    d_query: 8,
    d_latent: 8,
    d_hidden: 8,
  },
  train: {
    sequence_length: 16,
    micro_batch: 4,
    steps: 4,
    learning_rate: { initial: 0.001, peak: 0.003, warmup_steps: 1 },
    evaluate_every: 2,
    evaluate_tokens: 500,
    checkpoint_every: 2,
    log_every: 1,
  },
  seed: 1,
};
