/**
 * Text to token ids and back.
 *
 * - `cl100k_base`: the ids of `tiktoken`, unchanged (100,277 of them, the paper's vocabulary);
 * - `gpt2`: the ids of `tiktoken`, unchanged (50,257 of them);
 * - `compact`: the 256 single bytes, the most frequent `cl100k_base` tokens of the training text, and `<|endoftext|>`
 *   last (`compact.ts`). Small models want a small softmax. Text is cut as `cl100k_base` cuts it.
 *
 * A vocabulary is described by JSON (`vocabulary.json`), which travels with token shards and checkpoints.
 *
 * @module
 */

import { z } from "zod";
import { CompactTokenizer } from "./compact.ts";
import { CL100K_ORDINARY, CL100K_SIZE, ENCODINGS } from "./encodings.ts";
import { openCl100k, openEncoding } from "./tiktoken.ts";
import type { Tokenizer } from "./tokens.ts";
import { ENCODING_NAMES, type EncodingName, type Vocabulary } from "./vocabulary.ts";

export { ENCODING_NAMES, type EncodingName, type Vocabulary } from "./vocabulary.ts";

export { CL100K_ENDOFTEXT, CL100K_ORDINARY, CL100K_SIZE, ENCODINGS } from "./encodings.ts";

export { openCl100k, openEncoding, TiktokenTokenizer } from "./tiktoken.ts";

export { ENDOFTEXT, type Tokenizer } from "./tokens.ts";

const encodingSchema = (name: EncodingName) =>
  z.strictObject({
    format: z.literal("ethos-vocabulary"),
    version: z.literal(1),
    vocabulary: z.literal(name),
    vocab_size: z.literal(ENCODINGS[name].size),
    endoftext: z.literal(ENCODINGS[name].endoftext),
  });

const compactSchema = z.strictObject({
  format: z.literal("ethos-vocabulary"),
  version: z.literal(1),
  vocabulary: z.literal("compact"),
  vocab_size: z.int().min(257).max(CL100K_SIZE),
  endoftext: z.int(),
  tokens: z.array(z.int().min(0).max(CL100K_ORDINARY - 1)),
});

const vocabularySchema = z.discriminatedUnion("vocabulary", [
  compactSchema,
  ...ENCODING_NAMES.map(encodingSchema),
]);

/** The vocabulary of an encoding, unchanged. */
export function encodingVocabulary(name: EncodingName): Vocabulary {
  return {
    format: "ethos-vocabulary",
    version: 1,
    vocabulary: name,
    vocab_size: ENCODINGS[name].size,
    endoftext: ENCODINGS[name].endoftext,
  };
}

/** The vocabulary of `cl100k_base`. */
export const CL100K_VOCABULARY: Vocabulary = Object.freeze(encodingVocabulary("cl100k_base"));

/**
 * Checks what a `vocabulary.json` holds.
 *
 * @throws {Error} naming the key that is wrong.
 */
export function parseVocabulary(json: unknown): Vocabulary {
  const result = vocabularySchema.safeParse(json);
  if (!result.success) {
    const issue = result.error.issues[0];
    const path = issue?.path.join(".") || "the file";
    throw new Error(`The vocabulary is not valid: ${path}: ${issue?.message ?? "unknown"}`);
  }
  const vocabulary: Vocabulary = result.data;
  if (vocabulary.vocabulary === "compact") {
    const expected = vocabulary.vocab_size - 257;
    if (vocabulary.tokens.length !== expected) {
      throw new Error(
        `The vocabulary is not valid: tokens: ${vocabulary.tokens.length} entries, but vocab_size ${vocabulary.vocab_size} takes ${expected}`,
      );
    }
    if (new Set(vocabulary.tokens).size !== expected) {
      throw new Error("The vocabulary is not valid: tokens: an entry is there twice");
    }
    if (vocabulary.endoftext !== vocabulary.vocab_size - 1) {
      throw new Error(
        `The vocabulary is not valid: endoftext: ${vocabulary.endoftext}, expected the last id, ${
          vocabulary.vocab_size - 1
        }`,
      );
    }
  }
  return vocabulary;
}

/** The text of `vocabulary.json`: the bytes that {@linkcode vocabularyDigest} covers. */
export function formatVocabulary(vocabulary: Vocabulary): string {
  return JSON.stringify(vocabulary) + "\n";
}

/** SHA-256 of a vocabulary, stored in every token shard's header. */
export async function vocabularyDigest(vocabulary: Vocabulary): Promise<Uint8Array> {
  const bytes = new TextEncoder().encode(formatVocabulary(parseVocabulary(vocabulary)));
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
}

/**
 * Opens the tokenizer that a `vocabulary.json` describes.
 *
 * @example
 * ```ts
 * import { CL100K_VOCABULARY, openTokenizer } from "./tokenizer.ts";
 * const tokenizer = await openTokenizer(CL100K_VOCABULARY);
 * console.assert(tokenizer.decode(tokenizer.encode("hello world")) === "hello world");
 * ```
 *
 * @param json Parsed `vocabulary.json`.
 * @throws {Error} if `json` is not a vocabulary.
 */
export async function openTokenizer(json: unknown): Promise<Tokenizer> {
  const vocabulary = parseVocabulary(json);
  return vocabulary.vocabulary === "compact"
    ? new CompactTokenizer(await openCl100k(), vocabulary.tokens)
    : await openEncoding(vocabulary.vocabulary);
}
