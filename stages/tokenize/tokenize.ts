/**
 * The second stage: documents become packed token shards, split into train and validation.
 *
 * A document's SHA-256 decides its split, so that it stays where it is when more data comes; exact duplicates are
 * dropped. Where the source holds documents out (`documents/validation/`), those are the validation split instead.
 * Their duplicates among the other documents are dropped. Workers cut the text (`tokenize_worker.ts`). This module puts
 * their results in order, so that the shards do not depend on which worker was first.
 *
 * The compact vocabulary is chosen by the counts of the training text. Text is cut once: the tokens of
 * `cl100k_base` wait in the state folder until the vocabulary is known.
 *
 * @module
 */

import { z } from "zod";
import { join } from "@std/path";
import { defineStage, type NodeOutput, type StageContext } from "../../pipeline/stage.ts";
import { chooseCompact, COMPACT_MINIMUM, CompactTokenizer } from "../../model/text/compact.ts";
import {
  CL100K_ORDINARY,
  CL100K_SIZE,
  ENCODING_NAMES,
  type EncodingName,
  ENCODINGS,
  encodingVocabulary,
  formatVocabulary,
  openCl100k,
  type Vocabulary,
  vocabularyDigest,
} from "../../model/text/tokenizer.ts";
import { HELD_OUT, lineBatches, readBytes } from "../download/sources/document.ts";
import type { DatasetResult } from "../dataset_result.ts";
import { HashSet } from "./hash_set.ts";
import { Spill } from "./token_spill.ts";
import { SplitWriter } from "./split_writer.ts";
import {
  HASH_BYTES,
  type TokenizeJob,
  TokenizePool,
  type TokenizeResult,
  WORKER_MODULE,
} from "./pool.ts";

/** Bytes of JSON that a worker gets at once. */
const BATCH_BYTES = 512 * 1024;
/** Compact vocabulary if the configuration says no other. */
const COMPACT_DEFAULT = 8192;

/** Schema of the `tokenizer` section. */
export const tokenizerSchema = z.strictObject({
  vocabulary: z.enum([...ENCODING_NAMES, "compact"], {
    error: (issue) =>
      `${JSON.stringify(issue.input)} is not a vocabulary; expected ${
        ENCODING_NAMES.join(", ")
      } or compact`,
  }).default("cl100k_base")
    .describe(
      "cl100k_base: the paper's; gpt2: that of GPT-2; compact: the most frequent tokens of cl100k_base and single bytes",
    ),
  vocab_size: z.int("vocab_size must be a whole number")
    .min(
      COMPACT_MINIMUM,
      `vocab_size is at least ${COMPACT_MINIMUM}: 256 bytes and <|endoftext|>`,
    )
    .max(CL100K_ORDINARY + 1, `vocab_size is at most ${CL100K_ORDINARY + 1}`)
    .optional().describe(`ids of the compact vocabulary; ${COMPACT_DEFAULT} if not given`),
  validation_fraction: z.number().gt(0, "validation_fraction must be more than 0")
    .max(0.5, "validation_fraction is at most 0.5").default(0.01)
    .describe("share of the documents that is held out, where the source itself holds none out"),
  shard_tokens: z.int("shard_tokens must be a whole number").min(1024).max(2 ** 31)
    .default(2 ** 26).describe("tokens from which on a shard is closed after a document"),
  max_train_tokens: z.int("max_train_tokens must be a whole number").min(1).optional()
    .describe("tokens of training text at most; whole documents"),
  max_validation_tokens: z.int("max_validation_tokens must be a whole number").min(1).optional()
    .describe("tokens of validation text at most; whole documents"),
}).superRefine((tokenizer, context) => {
  const { vocabulary, vocab_size } = tokenizer;
  if (vocabulary !== "compact" && vocab_size !== undefined) {
    context.addIssue({
      code: "custom",
      path: ["vocab_size"],
      message: `${vocab_size} has no effect with vocabulary: ${vocabulary}, which has ${
        ENCODINGS[vocabulary].size
      } ids; set vocabulary: compact`,
      input: vocab_size,
    });
  }
});

/** The part of the input's `source` that names held-out files. */
const sourceSchema = z.object({ validation: z.object({ files: z.array(z.string()) }).optional() });

/** The `tokenizer` section, validated. */
export type TokenizerSection = z.infer<typeof tokenizerSchema>;

/** Ids of the vocabulary that a `tokenizer` section asks for. */
export function vocabularySize(tokenizer: TokenizerSection): number {
  return tokenizer.vocabulary === "compact"
    ? tokenizer.vocab_size ?? COMPACT_DEFAULT
    : ENCODINGS[tokenizer.vocabulary].size;
}

/**
 * Tokenises the documents of its input `download`: `tokens/` has `train/*.tokens`,
 * `validation/*.tokens` and `vocabulary.json`; `dataset` describes them.
 */
export const tokenize = defineStage<TokenizerSection>({
  name: "tokenize",
  description: "Split documents into train and validation and pack their tokens into shards",
  module: import.meta.url,
  workers: [WORKER_MODULE],
  params: tokenizerSchema,
  outputs: { tokens: "directory", dataset: "json" },
  run: (context) => runTokenize(context),
});

/** The two halves of a dataset. */
type SplitName = "train" | "validation";

/** The encoding that cuts text for a vocabulary. */
function encodingOf(tokenizer: TokenizerSection): EncodingName {
  return tokenizer.vocabulary === "compact" ? "cl100k_base" : tokenizer.vocabulary;
}

/** One document, cut by the encoding. */
interface TokenizedDocument {
  readonly split: SplitName;
  readonly tokens: Uint32Array;
  readonly bytes: number;
}

/**
 * Runs {@linkcode tokenize}.
 *
 * @param options `workers`: how many; a worker per core if not given. The output does not depend on it.
 */
export async function runTokenize(
  context: StageContext<TokenizerSection>,
  options: { workers?: number } = {},
): Promise<void> {
  const { params } = context;
  const [input, ...others] = context.inputs.download ?? [];
  if (!input || others.length > 0) {
    throw new Error(
      `Stage tokenize has ${others.length + (input ? 1 : 0)} inputs "download"; expected one`,
    );
  }
  const folder = context.output("tokens");
  const dropped = { duplicates: 0, empty: 0, documents: 0 };
  const documents = readTokenized(context, input, dropped, options.workers);
  const open = async (vocabulary: Vocabulary) => ({
    vocabulary,
    writers: await openWriters(folder, vocabulary, params),
  });
  const { vocabulary, writers } = params.vocabulary === "compact"
    ? await writeCompact(context, documents, open)
    : await writeUnchanged(documents, await open(encodingVocabulary(params.vocabulary)));
  const splits = {
    train: writers.train.close(),
    validation: writers.validation.close(),
  };
  for (const name of ["train", "validation"] as const) {
    if (writers[name].documents === 0) throw new Error(emptySplit(name, params, dropped.documents));
  }
  requirePrediction(splits.validation, input, params);
  await Deno.writeTextFile(join(folder, "vocabulary.json"), formatVocabulary(vocabulary));
  const result: DatasetResult = {
    vocabulary: vocabulary.vocabulary,
    vocab_size: vocabulary.vocab_size,
    endoftext: vocabulary.endoftext,
    vocabulary_digest: (await vocabularyDigest(vocabulary)).toHex(),
    // Null where the source itself holds documents out.
    validation_fraction: input.files("documents").some(isHeldOut)
      ? null
      : params.validation_fraction,
    documents: dropped.documents,
    duplicates: dropped.duplicates,
    empty: dropped.empty,
    splits,
  };
  context.json("dataset", result);
  context.log.info(
    `${writers.train.tokens} tokens to train on, ${writers.validation.tokens} to validate; ${dropped.duplicates} duplicates dropped`,
  );
}

/** Splits without duplicates and empty texts, in the order of the files. Counts the documents seen and dropped. */
async function* readTokenized(
  context: StageContext<TokenizerSection>,
  input: NodeOutput,
  dropped: { duplicates: number; empty: number; documents: number },
  workers: number | undefined,
): AsyncGenerator<TokenizedDocument> {
  const seen = new HashSet();
  using pool = new TokenizePool(workers);
  const names = input.files("documents");
  const heldOut = names.filter(isHeldOut);
  // Held-out documents come first: nothing must be learned from a duplicate of one.
  const order = [...heldOut, ...names.filter((name) => !heldOut.includes(name))];
  const jobs = await jobReader(context, input, order);
  const split = (hash: Uint8Array, part: "held out" | "rest"): SplitName => {
    if (heldOut.length > 0) return part === "held out" ? "validation" : "train";
    return isValidation(hash, context.params.validation_fraction) ? "validation" : "train";
  };
  for (const part of ["held out", "rest"] as const) {
    const files = part === "held out" ? heldOut : order.slice(heldOut.length);
    for await (const batch of pool.map(jobs(files))) {
      context.signal.throwIfAborted();
      for (const { hash, ...document } of unpack(batch)) {
        dropped.documents++;
        if (document.tokens.length === 0) dropped.empty++;
        else if (!seen.add(hash)) dropped.duplicates++;
        else yield { ...document, split: split(hash, part) };
      }
    }
  }
}

/** The documents of a batch. */
function* unpack(
  batch: TokenizeResult,
): Generator<Omit<TokenizedDocument, "split"> & { readonly hash: Uint8Array }> {
  let start = 0;
  for (let index = 0; index < batch.lengths.length; index++) {
    const end = start + batch.lengths[index]!;
    yield {
      hash: batch.hashes.subarray(index * HASH_BYTES, (index + 1) * HASH_BYTES),
      tokens: batch.tokens.subarray(start, end),
      bytes: batch.bytes[index]!,
    };
    start = end;
  }
}

/** Whether a file of the input has documents that the source holds out. */
function isHeldOut(name: string): boolean {
  return name.startsWith(`${HELD_OUT}/`);
}

/** Whether a document is held out: the first 48 bits of its hash, as a fraction, are below `fraction`. */
export function isValidation(hash: Uint8Array, fraction: number): boolean {
  let bits = 0;
  for (let i = 0; i < 6; i++) bits = bits * 256 + hash[i]!;
  return bits / 2 ** 48 < fraction;
}

/** Reads files of the input as jobs, with one progress over all files of `order`. */
async function jobReader(
  context: StageContext<TokenizerSection>,
  input: NodeOutput,
  order: readonly string[],
): Promise<(names: readonly string[]) => AsyncGenerator<TokenizeJob>> {
  const sizes = await Promise.all(
    order.map(async (name) => (await Deno.stat(input.file("documents", name))).size),
  );
  const progress = context.progress(sizes.reduce((sum, size) => sum + size, 0), { unit: "bytes" });
  let before = 0;
  return async function* (names) {
    for (const name of names) {
      // The store's path ends in a hash; the name tells whether the file is packed.
      const bytes = readBytes(input.file("documents", name), {
        name,
        onRead: (read) => progress.update(before + read, name),
      });
      for await (const batch of lineBatches(bytes, { size: BATCH_BYTES, name })) {
        yield { ...batch, name, encoding: encodingOf(context.params) };
      }
      before += sizes[order.indexOf(name)]!;
    }
  };
}

type Writers = Record<SplitName, SplitWriter>;

async function openWriters(
  folder: string,
  vocabulary: Vocabulary,
  params: TokenizerSection,
): Promise<Writers> {
  const digest = await vocabularyDigest(vocabulary);
  const open = (name: SplitName, max_tokens: number | undefined) =>
    new SplitWriter(folder, {
      name,
      digest,
      vocab_size: vocabulary.vocab_size,
      endoftext: vocabulary.endoftext,
      shard_tokens: params.shard_tokens,
      max_tokens: max_tokens ?? Infinity,
    });
  return {
    train: open("train", params.max_train_tokens),
    validation: open("validation", params.max_validation_tokens),
  };
}

interface Written {
  readonly vocabulary: Vocabulary;
  readonly writers: Writers;
}

async function writeUnchanged(
  documents: AsyncIterable<TokenizedDocument>,
  written: Written,
): Promise<Written> {
  const { writers } = written;
  for await (const { split, tokens, bytes } of documents) {
    writers[split].write(tokens, bytes);
    // More text would only add to validation, whose fraction would no longer be the one asked for.
    if (writers.train.full) break;
  }
  return written;
}

async function writeCompact(
  context: StageContext<TokenizerSection>,
  documents: AsyncIterable<TokenizedDocument>,
  open: (vocabulary: Vocabulary) => Promise<Written>,
): Promise<Written> {
  const { params } = context;
  const counts = new Float64Array(CL100K_SIZE);
  using spill = new Spill(join(context.stateDir, "cl100k.spill"));
  let train = 0;
  for await (const { split, tokens, bytes } of documents) {
    spill.write(tokens, bytes, split === "train" ? 0 : 1);
    if (split !== "train") continue;
    for (const token of tokens) counts[token]!++;
    // A compact text is never shorter, so this is enough text and the rest need not be cut.
    train += tokens.length + 1;
    if (train > (params.max_train_tokens ?? Infinity)) break;
  }
  const base = await openCl100k();
  const vocabulary = chooseCompact(counts, {
    vocab_size: vocabularySize(params),
    base,
  });
  if (vocabulary.vocabulary !== "compact") throw new Error("Unreachable: the choice is compact");
  const tokenizer = new CompactTokenizer(base, vocabulary.tokens);
  const written = await open(vocabulary);
  for (const { tokens, bytes, tag } of spill.read()) {
    context.signal.throwIfAborted();
    const writer = tag === 0 ? written.writers.train : written.writers.validation;
    writer.write(tokenizer.fromCl100k(tokens), bytes);
    if (written.writers.train.full) break;
  }
  return written;
}

/** Tokens that a split has when one of its text is predicted: one before it, and the end of its document. */
const MINIMUM_TOKENS = 3;

/** Throws when no token of the held-out text would be predicted, which a training would find out at its end. */
function requirePrediction(
  { tokens, documents }: DatasetResult["splits"]["validation"],
  input: NodeOutput,
  params: TokenizerSection,
): void {
  if (tokens >= MINIMUM_TOKENS) return;
  const files = heldOutFiles(input);
  const limit = params.max_validation_tokens;
  const advice = limit !== undefined
    ? `raise max_validation_tokens ${limit} or give more text`
    : files.length > 0
    ? `add text to ${files.join(", ")}`
    : `give more text or a larger validation_fraction than ${params.validation_fraction}`;
  throw new Error(
    `The held-out split has ${tokens} tokens of ${documents} document, <|endoftext|> included; it needs at least ${MINIMUM_TOKENS}, for the first is not predicted: ${advice}`,
  );
}

/** The files that `data.files.validation` named. */
function heldOutFiles(input: NodeOutput): string[] {
  const source = sourceSchema.safeParse(input.json("source"));
  return source.data?.validation?.files ?? [];
}

function emptySplit(name: SplitName, params: TokenizerSection, documents: number): string {
  const limit = name === "train" ? params.max_train_tokens : params.max_validation_tokens;
  return limit === undefined
    ? `The ${name} split has no document: ${documents} documents at validation_fraction ${params.validation_fraction}; give more text or another fraction`
    : `The ${name} split has no document: the first is longer than max_${name}_tokens ${limit}, or there is none; raise it`;
}
