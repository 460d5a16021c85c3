/**
 * The text that a model is looked at with: batches of it, and the text around a token.
 *
 * @module
 */

import { type TokenBatch, tokenBatches } from "../../model/inference/token_batch.ts";
import { NO_TARGET } from "../../model/ops/elementwise/cross_entropy.ts";
import { tokenBlocks } from "../../model/text/documents.ts";
import type { Tokenizer } from "../../model/text/tokenizer.ts";
import { UserError } from "../../pipeline/errors.ts";
import {
  type OpenedCheckpoint,
  trainedDocuments,
  trainedLength,
} from "../commands/model/checkpoints.ts";
import { filesOfGlob, openSplit, openText } from "../commands/model/evaluate.ts";
import type { TextAround } from "./use.ts";

/** Which text to read, and how. */
export interface TextOptions {
  readonly storeDir: string;
  /** Path or glob of files; the validation split of the node's dataset unless given. */
  readonly files?: string;
  /** Predictions at most. */
  readonly tokens: number;
  /** Sequences at once. */
  readonly micro_batch: number;
  /** Tokens of a sequence; that of the training unless given. */
  readonly sequence_length?: number;
  warn?(line: string): void;
}

/** A text in memory. */
export interface ExploredText {
  /** Files, or the split. */
  readonly text: readonly string[];
  /** Tokens of a sequence. */
  readonly length: number;
  readonly batches: readonly TokenBatch[];
  /** Predictions. */
  readonly predictions: number;
  /** The token between documents, where a sequence has several. */
  readonly endoftext: number | undefined;
}

/** Tokens of a sequence where nobody knows the length that the model was trained with. */
const LENGTH = 256;

/** Reads a text into batches. @throws {UserError} If there is none, or sequences are longer than the model's positions. */
export async function readText(
  checkpoint: OpenedCheckpoint,
  options: TextOptions,
): Promise<ExploredText> {
  const { files: glob, tokens: most, micro_batch } = options;
  const { architecture, tokenizer } = checkpoint;
  const length = options.sequence_length ??
    Math.min(trainedLength(checkpoint) ?? LENGTH, architecture.longest);
  if (length > architecture.longest) {
    throw new UserError(
      `--sequence-length is ${length}, but the model has ${architecture.longest} positions; lower it.`,
    );
  }
  const single = trainedDocuments(checkpoint) === "single";
  const { endoftext } = tokenizer;
  const batch = Math.min(micro_batch, Math.ceil(most / length));
  const batching = { batch, length, most, documents: single ? { endoftext } : undefined };
  const collect = async (blocks: AsyncIterable<Uint32Array> | Iterable<Uint32Array>) => {
    const batches = await Array.fromAsync(tokenBatches(blocks, batching));
    const predictions = batches.reduce(
      (sum, { targets }) => sum + targets.reduce((n, t) => t === NO_TARGET ? n : n + 1, 0),
      0,
    );
    if (predictions === 0) throw new UserError("The text has no token to predict.");
    return { length, batches, predictions, endoftext: single ? undefined : endoftext };
  };
  if (glob === undefined) {
    using source = await openSplit(checkpoint, "validation", options);
    return { text: ["validation split"], ...await collect(tokenBlocks(source)) };
  }
  const files = await filesOfGlob(glob, options);
  await using text = await openText(files, tokenizer, {});
  return { text: files, ...await collect(text.tokens) };
}

/** Tokens that a context shows before and behind a token. */
const [BEFORE, AFTER] = [12, 6];

/** Reads contexts from the batches. */
export function textAround(
  { batches, length }: Pick<ExploredText, "batches" | "length">,
  tokenizer: Tokenizer,
): TextAround {
  const sequences = batches[0]!.tokens.length / length;
  return ({ sequence, position }) => {
    const { tokens, targets } = batches[Math.floor(sequence / sequences)]!;
    const start = (sequence % sequences) * length;
    // The rest of a batch is filled with tokens that nobody wrote.
    let end = position;
    while (end < length - 1 && targets[start + end] !== NO_TARGET) end++;
    const slice = (from: number, to: number) =>
      tokenizer.decode(tokens.subarray(start + Math.max(0, from), start + Math.min(end + 1, to)));
    return {
      before: slice(position - BEFORE, position),
      token: slice(position, position + 1),
      after: slice(position + 1, position + 1 + AFTER),
    };
  };
}
