/**
 * `evaluate`: a trained checkpoint measured on any text.
 *
 * @module
 */

import { Evaluator } from "../../../model/inference/evaluator.ts";
import type { Gpu } from "../../../model/gpu/device.ts";
import { InferenceModel } from "../../../model/inference/model.ts";
import { TokenSplit } from "../../../model/text/shard.ts";
import {
  parseVocabulary,
  type Tokenizer,
  vocabularyDigest,
} from "../../../model/text/tokenizer.ts";
import { messageOf, UserError } from "../../../pipeline/errors.ts";
import {
  type CheckpointKind,
  filesOf,
  findInput,
  openCheckpoint,
  type OpenedCheckpoint,
  trainedLength,
} from "./checkpoints.ts";
import { byteLengths } from "../../dataset.ts";
import { describeEvaluation } from "../../evaluate/evaluation.ts";
import type { Evaluation } from "../../evaluate/result.ts";
import { gpuProvenance } from "../../shared_gpu.ts";
import { findFiles, readFiles } from "../../download/sources/files.ts";

/** Options of {@linkcode evaluateCheckpoint}. */
export interface EvaluateCheckpointOptions {
  /** See `findCheckpoint`. */
  readonly checkpoint: string;
  readonly which?: CheckpointKind;
  readonly storeDir: string;
  /** Glob of files to read. Either this or `split`. */
  readonly files?: string;
  /** Key of the text in JSON lines. */
  readonly text_field?: string;
  /** Split of the dataset that the node was trained on. */
  readonly split?: "train" | "validation";
  /** Predictions at most. */
  readonly tokens?: number;
  /** Sequences scored at once. */
  readonly micro_batch: number;
  /** Tokens of a sequence; that of the training unless given. */
  readonly sequence_length?: number;
  readonly precision: "f32" | "mixed";
  /** Opens the device, once the rest is known to be right. */
  gpu(): Promise<Gpu>;
  onProgress?(tokens: number): void;
}

/** A checkpoint measured on a text. */
export interface CheckpointEvaluation extends Evaluation {
  readonly checkpoint: string;
  /** The text that was read: files, or the split. */
  readonly files?: readonly string[];
  readonly split?: string;
  readonly sequence_length: number;
  readonly tokens_per_second: number;
  /** The device that computed it. */
  readonly gpu: ReturnType<typeof gpuProvenance>;
}

/** Tokens of a sequence when nobody knows the length that the model was trained with. */
const DEFAULT_LENGTH = 512;

/**
 * Measures a checkpoint. Text is read as a stream; memory does not grow with it.
 *
 * @throws {UserError} If checkpoint, files or options are wrong.
 */
export async function evaluateCheckpoint(
  options: EvaluateCheckpointOptions,
): Promise<CheckpointEvaluation> {
  const { files: glob, split, micro_batch } = options;
  if ((glob === undefined) === (split === undefined)) {
    throw new UserError("Expected either --files or --split, to say which text to read.");
  }
  const checkpoint = await openCheckpoint(options.checkpoint, options);
  const files = glob === undefined ? undefined : await filesOfGlob(glob);
  using source = split === undefined ? undefined : await openSplit(checkpoint, split, options);
  const length = options.sequence_length ?? trainedLength(checkpoint) ?? DEFAULT_LENGTH;
  const { longest } = checkpoint.architecture;
  if (length > longest) {
    throw new UserError(
      `--sequence-length is ${length}, but the model has ${longest} positions; lower it.`,
    );
  }

  const gpu = await options.gpu();
  using model = await InferenceModel.open(gpu, checkpoint.model, { precision: options.precision });
  const { architecture, weights } = model;
  const batch = micro_batch;
  using evaluator = await Evaluator.open(gpu, { architecture, weights, batch, length });
  const scoring = {
    byteLength: byteLengths(checkpoint.tokenizer),
    ...(options.tokens === undefined ? {} : { tokens: options.tokens }),
    ...(options.onProgress ? { onProgress: options.onProgress } : {}),
  };
  const start = performance.now();
  const result = source
    ? await evaluator.evaluate(source, scoring)
    : await evaluator.evaluateStream(tokensOf(files!, checkpoint.tokenizer, options), scoring);
  const seconds = (performance.now() - start) / 1000;
  return {
    checkpoint: checkpoint.name,
    ...(files ? { files } : {}),
    ...(split ? { split } : {}),
    sequence_length: length,
    tokens_per_second: result.tokens / seconds,
    ...describeEvaluation(result),
    gpu: gpuProvenance(gpu),
  };
}

async function filesOfGlob(glob: string): Promise<string[]> {
  try {
    return await findFiles(glob, "--files");
  } catch (error) {
    throw new UserError(`${messageOf(error)}.`, { cause: error });
  }
}

/** A split of the dataset that a node was trained on. */
async function openSplit(
  checkpoint: OpenedCheckpoint,
  split: "train" | "validation",
  options: EvaluateCheckpointOptions,
): Promise<TokenSplit> {
  const { storeDir } = options;
  if (!checkpoint.record) {
    throw new UserError(
      `--split ${split} needs a checkpoint in the store, whose dataset is known; ${checkpoint.name} is a file. Give --files.`,
    );
  }
  const dataset = await findInput(checkpoint.record, { input: "dataset", storeDir });
  const shards = dataset === undefined
    ? []
    : filesOf(dataset, { output: "tokens", storeDir }).filter(({ path }) =>
      path.startsWith(`${split}/`)
    );
  if (shards.length === 0) {
    throw new UserError(
      `The ${split} split of the dataset that ${checkpoint.name} was trained on is no longer in the store; give --files.`,
    );
  }
  const vocabulary = parseVocabulary(JSON.parse(await Deno.readTextFile(checkpoint.vocabulary)));
  try {
    const digest = await vocabularyDigest(vocabulary);
    return TokenSplit.open(shards.map(({ file }) => file), { digest });
  } catch (error) {
    throw new UserError(`The ${split} split can't be used: ${messageOf(error)}.`, { cause: error });
  }
}

/** Tokens of files, document after document, as the tokeniser packs them. */
async function* tokensOf(
  files: readonly string[],
  tokenizer: Tokenizer,
  options: { text_field?: string },
): AsyncGenerator<Uint32Array> {
  const { text_field } = options;
  const end = Uint32Array.of(tokenizer.endoftext);
  // The first token follows an end.
  yield end;
  try {
    for await (const { text } of readFiles(files, text_field === undefined ? {} : { text_field })) {
      yield tokenizer.encode(text);
      yield end;
    }
  } catch (error) {
    throw new UserError(`${messageOf(error)}.`, { exitCode: 1, cause: error });
  }
}
