/**
 * `evaluate`: a trained checkpoint measured on any text.
 *
 * @module
 */

import { type EvaluationOptions, Evaluator } from "../../../model/inference/evaluator.ts";
import type { InferenceModel } from "../../../model/inference/model.ts";
import { type BatchOptions, tokenBatches } from "../../../model/inference/token_batch.ts";
import {
  ablate,
  applyEdit,
  type EditEffect,
  type ExpertEdit,
  type TokenChange,
} from "../../../model/interpret/ablation.ts";
import { ExpertProbe } from "../../../model/interpret/probe.ts";
import { tokenBlocks } from "../../../model/text/documents.ts";
import type { Gpu } from "../../../model/gpu/device.ts";
import { TokenSplit } from "../../../model/text/shard.ts";
import {
  parseVocabulary,
  type Tokenizer,
  vocabularyDigest,
} from "../../../model/text/tokenizer.ts";
import type { MlpStorage } from "../../../model/sparse/storage.ts";
import { EXIT, messageOf, UserError } from "../../../pipeline/errors.ts";
import {
  filesOf,
  findInput,
  type OpenedCheckpoint,
  trainedDocuments,
  trainedLength,
} from "./checkpoints.ts";
import { type EditOptions, type ParsedEdit, parseEdit } from "../interpret/edits.ts";
import { type ModelChoice, openModel } from "./models.ts";
import { byteLengths } from "../../dataset.ts";
import { describeEvaluation } from "../../evaluate/evaluation.ts";
import type { Evaluation } from "../../evaluate/result.ts";
import { readWhole, type WholeTextOptions } from "../../calibrate/whole_text.ts";
import { gpuProvenance } from "../../shared_gpu.ts";
import { encodingName } from "../../download/sources/encoding.ts";
import { findFiles, readFiles, requireSeparable } from "../../download/sources/files.ts";

/** How documents become sequences. */
export type DocumentMode = "packed" | "single" | "padded";

/** Options of {@linkcode evaluateCheckpoint}. */
export interface EvaluateCheckpointOptions extends ModelChoice {
  /** Path or glob of files to read. Either this or `split`. */
  readonly files?: string;
  /** Key of the text in JSON, column in Parquet. */
  readonly text_field?: string;
  /** Text that stands between the documents of plain text. */
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
  /** Tokens of a sequence; that of the training unless given, of a published model its longest up to 4096. */
  readonly sequence_length?: number;
  readonly precision: "f32" | "mixed";
  /** Edits of the experts: the edited model is measured, and compared with itself. The text then stays in memory. */
  readonly edits?: EditOptions;
  /** Opens the device, once the rest is known to be right. */
  gpu(): Promise<Gpu>;
  onProgress?(tokens: number): void;
  /** Called with each file that is left out. */
  warn?(line: string): void;
}

/** A checkpoint measured on a text. */
export interface CheckpointEvaluation extends Evaluation {
  /** Name of the model: of a checkpoint, or of a published one. */
  readonly checkpoint: string;
  /** The commit, of a model of the hub. */
  readonly revision?: string;
  /** The text that was read: files, or the split. */
  readonly files?: readonly string[];
  readonly split?: string;
  /** How documents became sequences; `whole`: all of them are one text, as for a published model. */
  readonly documents: DocumentMode | "whole";
  readonly sequence_length: number;
  readonly tokens_per_second: number;
  /** Storage and work of the experts, of a model that was expanded. */
  readonly expansion?: MlpStorage;
  /** The model as it is beside the edited one, which the other numbers are of, and random edits. */
  readonly edit?: EvaluatedEdit;
  /** The device that computed it. */
  readonly gpu: ReturnType<typeof gpuProvenance>;
}

/** An edit and its effect. */
export interface EvaluatedEdit extends Omit<EditEffect, "by_token"> {
  /** Mean loss of the model as it is, nats. */
  readonly unedited_nats: number;
  /** Tokens that change most in sum, with their text. */
  readonly by_token: readonly (TokenChange & { readonly text: string })[];
}

/** Tokens of {@linkcode EvaluatedEdit.by_token}. */
const CHANGED_TOKENS = 20;

/** Names of the options that messages give. */
const SETTINGS = { encoding: "--encoding", separator: "--separator" };

/** Tokens of a sequence when nobody knows the length that the model was trained with. */
const DEFAULT_LENGTH = 512;
/** Tokens of a sequence of a published model at most, unless asked for: some are made for a hundred thousand. */
const PUBLISHED_LENGTH = 4096;

/**
 * Measures a model. Text for a checkpoint is read as a stream; memory does not grow with it. A published model is measured as its makers do: the text is
 * tokenised as one, and cut into sequences that are scored each by itself; a last one that is not full is left out.
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
  using chosen = await openModel(options);
  const { checkpoint, longest, tokenizer } = chosen;
  for (const key of ["split", "documents", "separator"] as const) {
    if (checkpoint || options[key] === undefined) continue;
    throw new UserError(`--${key} is ${options[key]}, which only --checkpoint has.`);
  }
  const files = glob === undefined ? undefined : await filesOfGlob(glob, options);
  const length = options.sequence_length ??
    (checkpoint
      ? trainedLength(checkpoint) ?? DEFAULT_LENGTH
      : Math.min(longest, PUBLISHED_LENGTH));
  using source = checkpoint && split && await openSplit(checkpoint, split, options);
  await using text = files && checkpoint && await openText(files, tokenizer, options);
  if (length > longest) {
    throw new UserError(
      `--sequence-length is ${length}, but the model has ${longest} positions; lower it.`,
    );
  }
  const edit = options.edits && await parseEdit(chosen.architecture, options.edits);
  const whole = files && checkpoint === undefined
    ? await wholeTokens(files, tokenizer, { ...options, length })
    : undefined;

  const gpu = await options.gpu();
  using loaded = await chosen.load(gpu, options.precision);
  const { model: { architecture, weights }, expansion } = loaded;
  const batch = micro_batch;
  const documents = checkpoint
    ? options.documents ?? trainedDocuments(checkpoint) ?? "packed"
    : "whole";
  const scoring: EvaluationOptions = {
    ...(checkpoint
      ? {
        documents: documents === "packed" ? undefined : {
          endoftext: tokenizer.endoftext,
          padded: documents === "padded",
        },
      }
      : { windows: true }),
    byteLength: byteLengths(tokenizer),
    ...(options.tokens === undefined ? {} : { tokens: options.tokens }),
    ...(options.onProgress ? { onProgress: options.onProgress } : {}),
  };
  // An edited model reads the text several times.
  const stream = whole ?? text?.tokens;
  const blocks = edit && stream && !source ? await Array.fromAsync(stream) : stream;
  const edited = edit && await measureEdit(loaded.model, edit, {
    ...options.edits!,
    blocks: source ? tokenBlocks(source) : blocks as readonly Uint32Array[],
    batching: {
      ...{ batch, length, most: options.tokens ?? Infinity },
      ...{ documents: scoring.documents, windows: scoring.windows },
    },
    tokenizer,
  });
  await using applied = edited && await applyEdit(loaded.model, edited.made);
  using evaluator = await Evaluator.open(gpu, {
    ...{ architecture, weights, batch, length },
    ...(applied && { onChoice: applied.onChoice }),
  });
  const start = performance.now();
  const result = source
    ? await evaluator.evaluate(source, scoring)
    : await evaluator.evaluateStream(blocks!, scoring);
  const seconds = (performance.now() - start) / 1000;
  return {
    checkpoint: chosen.name,
    ...(chosen.revision === undefined ? {} : { revision: chosen.revision }),
    ...(files ? { files } : {}),
    ...(split ? { split } : {}),
    documents,
    sequence_length: length,
    tokens_per_second: result.tokens / seconds,
    ...describeEvaluation(result),
    ...(expansion && { expansion }),
    ...(edited && { edit: edited.edit }),
    gpu: gpuProvenance(gpu),
  };
}

/** Compares an edited model with itself as it is, and with random edits. The model is as it was afterwards. */
async function measureEdit(
  model: InferenceModel,
  edit: ParsedEdit,
  options: EditOptions & {
    readonly blocks: Iterable<Uint32Array>;
    readonly batching: BatchOptions;
    readonly tokenizer: Tokenizer;
  },
): Promise<{ readonly made: ExpertEdit; readonly edit: EvaluatedEdit }> {
  const { blocks, batching, tokenizer, controls, seed } = options;
  const made = await edit.make(model);
  const batches = await Array.fromAsync(tokenBatches(blocks, batching));
  const capacity = Math.max(1, ...made.without.values().map((names) => names.length));
  using probe = await ExpertProbe.open(model, { ...batching, capacity });
  const found = await ablate(probe, batches, {
    ...{ edits: [made], controls, seed, most_tokens: CHANGED_TOKENS },
  });
  const { by_token, ...effect } = found.edits[0]!;
  return {
    made,
    edit: {
      ...effect,
      unedited_nats: found.nats,
      by_token: by_token.map((each) => ({ ...each, text: tokenizer.decode([each.token]) })),
    },
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
  options: Pick<EvaluateCheckpointOptions, "storeDir">,
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

function noText(files: readonly string[]): UserError {
  return new UserError(`--files has no text: ${files.join(", ")}; expected at least one word.`);
}

/**
 * Tokens of files as one text, behind the tokens that a text begins with.
 *
 * @throws {UserError} If the files have no text, can't be read, or do not fill one sequence.
 */
async function wholeTokens(
  files: readonly string[],
  tokenizer: Tokenizer,
  { length, tokens: most = Infinity, text_field, encoding }:
    & Pick<EvaluateCheckpointOptions, "tokens">
    & WholeTextOptions
    & { readonly length: number },
): Promise<Uint32Array[]> {
  if (length < 2) {
    throw new UserError(
      `--sequence-length is ${length}; expected 2 or more: its first token is given.`,
    );
  }
  if (most < length - 1) {
    throw new UserError(
      `--tokens is ${most}, fewer than the ${
        length - 1
      } predictions of a sequence; raise it, or lower --sequence-length.`,
    );
  }
  let ids: Uint32Array;
  try {
    const text = await readWhole(files, { text_field, encoding });
    if (text.trim() === "") throw noText(files);
    ids = tokenizer.encode(text);
  } catch (error) {
    if (error instanceof UserError) throw error;
    throw new UserError(`${messageOf(error)}.`, { cause: error });
  }
  const begin = Uint32Array.from(tokenizer.begin ?? []);
  const count = begin.length + ids.length;
  if (count >= length) return [begin, ids];
  throw new UserError(
    `--files has ${count} tokens, fewer than a sequence of ${length}; lower --sequence-length, or give more text.`,
  );
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
    throw noText(files);
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
