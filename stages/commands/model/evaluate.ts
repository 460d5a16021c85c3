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
import { EXIT, messageOf, UserError } from "../../../pipeline/errors.ts";
import {
  type CheckpointKind,
  filesOf,
  findInput,
  openCheckpoint,
  type OpenedCheckpoint,
  trainedDocuments,
  trainedLength,
} from "./checkpoints.ts";
import { byteLengths } from "../../dataset.ts";
import { describeEvaluation } from "../../evaluate/evaluation.ts";
import type { Evaluation } from "../../evaluate/result.ts";
import { gpuProvenance } from "../../shared_gpu.ts";
import { encodingName } from "../../download/sources/encoding.ts";
import { findFiles, readFiles, requireSeparable } from "../../download/sources/files.ts";

/** How documents become sequences. */
type DocumentMode = "packed" | "single" | "padded";

/** Options of {@linkcode evaluateCheckpoint}. */
export interface EvaluateCheckpointOptions {
  /** See `findCheckpoint`. */
  readonly checkpoint: string;
  readonly which?: CheckpointKind;
  readonly storeDir: string;
  /** Path or glob of files to read. Either this or `split`. */
  readonly files?: string;
  /** Key of the text in JSON, column in Parquet. */
  readonly text_field?: string;
  /** What stands between the documents of plain text. */
  readonly separator?: string;
  /** Encoding of files without a byte-order mark; UTF-8 unless given. */
  readonly encoding?: string;
  /** Split of the dataset that the node was trained on. */
  readonly split?: "train" | "validation";
  /** Whether a document is a sequence of its own, and with `padded` its padding is scored; as in the training unless given. */
  readonly documents?: DocumentMode;
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
  /** Called with each file that is left out. */
  warn?(line: string): void;
}

/** A checkpoint measured on a text. */
export interface CheckpointEvaluation extends Evaluation {
  readonly checkpoint: string;
  /** The text that was read: files, or the split. */
  readonly files?: readonly string[];
  readonly split?: string;
  readonly documents: DocumentMode;
  readonly sequence_length: number;
  readonly tokens_per_second: number;
  /** The device that computed it. */
  readonly gpu: ReturnType<typeof gpuProvenance>;
}

/** Names of the options that messages give. */
const SETTINGS = { encoding: "--encoding", separator: "--separator" };

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
  const files = glob === undefined ? undefined : await filesOfGlob(glob, options);
  await using text = files && await openText(files, checkpoint.tokenizer, options);
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
  const documents = options.documents ?? trainedDocuments(checkpoint) ?? "packed";
  const { endoftext } = checkpoint.tokenizer;
  const scoring = {
    documents: documents === "packed" ? undefined : { endoftext, padded: documents === "padded" },
    byteLength: byteLengths(checkpoint.tokenizer),
    ...(options.tokens === undefined ? {} : { tokens: options.tokens }),
    ...(options.onProgress ? { onProgress: options.onProgress } : {}),
  };
  const start = performance.now();
  const result = source
    ? await evaluator.evaluate(source, scoring)
    : await evaluator.evaluateStream(text!.tokens, scoring);
  const seconds = (performance.now() - start) / 1000;
  return {
    checkpoint: checkpoint.name,
    ...(files ? { files } : {}),
    ...(split ? { split } : {}),
    documents,
    sequence_length: length,
    tokens_per_second: result.tokens / seconds,
    ...describeEvaluation(result),
    gpu: gpuProvenance(gpu),
  };
}

/** The files that `--files` names. @throws {UserError} If there are none, or the encoding is none. */
export async function filesOfGlob(
  glob: string,
  options: Pick<EvaluateCheckpointOptions, "encoding" | "separator" | "warn">,
): Promise<string[]> {
  const { encoding, separator, warn } = options;
  if (encoding !== undefined && encodingName(encoding) === undefined) {
    throw new UserError(
      `--encoding is ${encoding}; expected an encoding that TextDecoder knows, such as utf-8, latin1 or utf-16le.`,
    );
  }
  try {
    const files = await findFiles(glob, { setting: "--files", warn });
    requireSeparable(files, separator, SETTINGS.separator);
    return files;
  } catch (error) {
    throw new UserError(`${messageOf(error)}.`, { cause: error });
  }
}

/** A split of the dataset that a node was trained on. */
export async function openSplit(
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

/**
 * Tokens of files, document after document, as the tokeniser packs them. Reads as far as the first text, so that files
 * without one are refused before a device is opened.
 *
 * @throws {UserError} If the files have no text, or what comes before it can't be read.
 */
export async function openText(
  files: readonly string[],
  tokenizer: Tokenizer,
  options: Pick<EvaluateCheckpointOptions, "text_field" | "separator" | "encoding">,
): Promise<AsyncDisposable & { readonly tokens: AsyncIterable<Uint32Array> }> {
  const { text_field, separator, encoding } = options;
  const documents = readFiles(files, { text_field, separator, encoding, settings: SETTINGS });
  const next = async (exitCode: number): Promise<Uint32Array | undefined> => {
    try {
      for (;;) {
        const { done, value } = await documents.next();
        if (done) return undefined;
        const tokens = tokenizer.encode(value.text);
        // The tokeniser drops empty documents.
        if (tokens.length > 0) return tokens;
      }
    } catch (error) {
      throw new UserError(`${messageOf(error)}.`, { exitCode, cause: error });
    }
  };
  const first = await next(EXIT.usage);
  if (first === undefined) {
    await documents.return(undefined);
    throw new UserError(`--files has no text: ${files.join(", ")}; expected at least one word.`);
  }
  const end = Uint32Array.of(tokenizer.endoftext);
  async function* tokens(): AsyncGenerator<Uint32Array> {
    // The first token follows an end.
    yield end;
    for (let text = first; text !== undefined; text = await next(EXIT.failed)) {
      yield text;
      yield end;
    }
  }
  return {
    tokens: tokens(),
    [Symbol.asyncDispose]: async () => void await documents.return(undefined),
  };
}
