/**
 * Reads a dataset that `tokenize` published.
 *
 * @module
 */

import { TokenSplit } from "../model/text/shard.ts";
import { openTokenizer, type Tokenizer } from "../model/text/tokenizer.ts";
import type { NodeOutput, StageContext } from "../pipeline/stage.ts";

/** Name of the vocabulary's file, in a tokenised dataset and in a checkpoint. */
export const VOCABULARY_FILE = "vocabulary.json";

/** A tokenised dataset. */
export interface Dataset extends Disposable {
  readonly tokenizer: Tokenizer;
  readonly vocab_size: number;
  /** Text of `vocabulary.json`, to put beside a model that speaks it. */
  readonly vocabulary: string;
  split(name: "train" | "validation"): TokenSplit;
  /** UTF-8 bytes that a token stands for; 0 for the one between documents, which is no text. */
  byteLength(token: number): number;
}

/** Paths of a tokenised dataset's files. */
export interface DatasetFiles {
  readonly vocabulary: string;
  /** Shards, in order. */
  readonly train: readonly string[];
  readonly validation: readonly string[];
}

/** Files of the dataset among a node's inputs. */
export function datasetFiles<Params>(context: StageContext<Params>): DatasetFiles {
  const [node] = context.inputs.dataset ?? [];
  if (!node) throw new Error(`${context.node.name} has no input named dataset`);
  return {
    vocabulary: node.file("tokens", VOCABULARY_FILE),
    train: shards(node, "train"),
    validation: shards(node, "validation"),
  };
}

/** Opens the dataset among a node's inputs. */
export async function openDataset<Params>(context: StageContext<Params>): Promise<Dataset> {
  return await openDatasetFiles(datasetFiles(context));
}

/** Opens a dataset by its files. */
export async function openDatasetFiles(files: DatasetFiles): Promise<Dataset> {
  const vocabulary = await Deno.readTextFile(files.vocabulary);
  const tokenizer = await openTokenizer(JSON.parse(vocabulary));
  const splits = new Map<string, TokenSplit>();
  return {
    tokenizer,
    vocab_size: tokenizer.vocab_size,
    vocabulary,
    byteLength: byteLengths(tokenizer),
    split(name) {
      let split = splits.get(name);
      if (!split) splits.set(name, split = TokenSplit.open(files[name]));
      return split;
    },
    [Symbol.dispose]() {
      for (const split of splits.values()) split[Symbol.dispose]();
    },
  };
}

function shards(node: NodeOutput, split: string): string[] {
  return node.files("tokens")
    .filter((file) => file.startsWith(`${split}/`))
    .map((file) => node.file("tokens", file));
}

/** UTF-8 bytes by token, each looked up once. */
export function byteLengths(tokenizer: Tokenizer): (token: number) => number {
  const known = new Int32Array(tokenizer.vocab_size).fill(-1);
  known[tokenizer.endoftext] = 0;
  return (token) => {
    let length = known[token] ?? 0;
    if (length < 0) known[token] = length = tokenizer.decodeBytes([token]).length;
    return length;
  };
}
