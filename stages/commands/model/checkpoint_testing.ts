/**
 * A dataset and a trained model that are small enough for a test.
 *
 * @module
 */

import { join } from "@std/path";
import {
  noisyTensors,
  smallModel,
  writeModelFile,
} from "../../../model/inference/inference_testing.ts";
import { ShardWriter } from "../../../model/text/shard.ts";
import {
  formatVocabulary,
  type Vocabulary,
  vocabularyDigest,
} from "../../../model/text/tokenizer.ts";
import type { KeyComponents } from "../../../pipeline/graph/key.ts";
import { ObjectStore } from "../../../pipeline/store/objects.ts";
import { inputDigest } from "../../../pipeline/run/plan.ts";
import {
  type NodeRecord,
  outputsDigest,
  Records,
} from "../../../pipeline/store/records/records.ts";
import type { JsonValue, NodeOutput } from "../../../pipeline/stage.ts";
import { VOCABULARY_FILE } from "../../dataset.ts";

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

/**
 * Writes a tokenised dataset, as `tokenize` publishes it.
 *
 * @param options `document`: bytes of a document; each split is one unless given.
 */
export async function writeDataset(
  folder: string,
  options: { readonly document?: number } = {},
): Promise<NodeOutput> {
  const digest = await vocabularyDigest(BYTE_VOCABULARY);
  const tokens = join(folder, "tokens");
  for (const [split, length] of [["train", 6000], ["validation", 700]] as const) {
    await Deno.mkdir(join(tokens, split), { recursive: true });
    using writer = new ShardWriter(join(tokens, split, "00000.tokens"), {
      vocab_size: 257,
      digest,
    });
    const text = someText(length + split.length).slice(split.length);
    const bytes = new TextEncoder().encode(text);
    const { document = bytes.length } = options;
    for (let at = 0; at < bytes.length; at += document) {
      writer.write(Uint32Array.of(...bytes.subarray(at, at + document), 256));
    }
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
    measured: () => null,
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
    leading_dense: { num_layers: 1, d_ffn: 16 },
    attention: {
      kind: "mla",
      num_heads: 2,
      q_lora_rank: 8,
      kv_lora_rank: 8,
      d_nope: 4,
      d_rope: 8,
      d_v: 4,
    },
    ffn: {
      kind: "ethos",
      num_experts: 64,
      routing_heads: 2,
      top_k: 2,
      d_query: 8,
      d_latent: 8,
      d_hidden: 8,
    },
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

/** Publishes a dataset and a `train[base,seed=1]` node with a checkpoint of noise in a store. */
export async function writeStore(storeDir: string): Promise<{ key: string }> {
  const temporary = join(storeDir, "tmp");
  await Deno.mkdir(temporary, { recursive: true });
  const objects = new ObjectStore(join(storeDir, "objects"), temporary);
  const records = new Records(storeDir, temporary);
  const folder = await Deno.makeTempDir();
  try {
    const dataset = await writeDataset(folder);
    const publish = async (
      record: Pick<NodeRecord, "node" | "stage" | "key">,
      parts: {
        output: string;
        files: readonly { path: string; file: string }[];
        params: JsonValue;
        inputs: KeyComponents["inputs"];
      },
    ) => {
      const entries = [];
      for (const { path, file } of parts.files) {
        const { sha256, size } = await objects.put(file, { ...record, output: parts.output, path });
        entries.push({ path, sha256, size });
      }
      const outputs = { [parts.output]: { kind: "directory" as const, files: entries } };
      const { params, inputs } = parts;
      const whole: NodeRecord = {
        format: 1,
        ...record,
        resource: "gpu",
        labels: {},
        components: {
          format: 1,
          stage: record.stage,
          params,
          inputs,
          code: { files: {}, packages: {}, digest: "" },
        },
        outputs,
        digest: outputsDigest(outputs, undefined),
        provenance: {
          run: "r1",
          started_at: "2026-01-01T00:00:00Z",
          finished_at: "2026-01-01T00:00:01Z",
          seconds: 1,
        },
      };
      await records.writeNode(whole);
      return whole;
    };
    const tokenized = await publish({ node: "tokenize", stage: "tokenize", key: "1".repeat(64) }, {
      output: "tokens",
      files: dataset.files("tokens").map((path) => ({ path, file: dataset.file("tokens", path) })),
      params: {},
      inputs: {},
    });
    const architecture = smallModel(257);
    const files = [];
    for (const [which, seed] of [["last", 5], ["best", 6]] as const) {
      const file = join(folder, `${which}.safetensors`);
      await writeModelFile(file, architecture, noisyTensors(architecture, seed));
      files.push({ path: `${which}/model.safetensors`, file });
    }
    const vocabulary = join(folder, VOCABULARY_FILE);
    await Deno.writeTextFile(vocabulary, formatVocabulary(BYTE_VOCABULARY));
    const digest = inputDigest(
      { name: "tokenize", stage: { name: "tokenize" }, labels: {}, params: {} },
      tokenized,
    );
    const key = "ab12".repeat(16);
    await publish({ node: "train[base,seed=1]", stage: "train", key }, {
      output: "checkpoint",
      files: [...files, { path: VOCABULARY_FILE, file: vocabulary }],
      params: { train: { sequence_length: 16 } },
      inputs: { dataset: [{ node: "tokenize", digest }] },
    });
    return { key };
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}
