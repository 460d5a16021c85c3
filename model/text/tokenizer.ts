/**
 * Text to token ids and back.
 *
 * Two vocabularies share one segmentation, `cl100k_base`:
 *
 * - `cl100k_base`: the ids of `tiktoken`, unchanged (100,277 of them, the paper's vocabulary);
 * - `compact`: the 256 single bytes, the most frequent `cl100k_base` tokens of the training text, and `<|endoftext|>`
 *   last (`compact.ts`). Small models want a small softmax.
 *
 * A vocabulary is described by JSON (`vocabulary.json`), which travels with token shards and checkpoints.
 *
 * @module
 */

import { z } from "zod";
import type { Tiktoken } from "tiktoken/lite";
import { CompactTokenizer } from "./compact.ts";

/** Ids of `cl100k_base`: ordinary tokens, special tokens and the unused ids between them. */
export const CL100K_SIZE = 100277;
/** Ordinary tokens of `cl100k_base`; their ids are `0 … CL100K_ORDINARY − 1`. */
export const CL100K_ORDINARY = 100256;
/** Id of `<|endoftext|>` in `cl100k_base`. */
export const CL100K_ENDOFTEXT = 100257;
/** How the token between documents is spelled when ids are decoded. */
export const ENDOFTEXT = "<|endoftext|>";

/** Turns text into token ids and back. */
export interface Tokenizer {
  /** Number of ids: a model's output width. */
  readonly vocab_size: number;
  /** Id of the token that ends a document. */
  readonly endoftext: number;
  /** Ids of `text`. Text that spells a special token is ordinary text; lone surrogates become U+FFFD. */
  encode(text: string): Uint32Array;
  /** Text of `ids`; bytes that are no UTF-8 become U+FFFD. */
  decode(ids: Iterable<number>): string;
  /** Bytes of `ids`, for streams that cut a character in two. */
  decodeBytes(ids: Iterable<number>): Uint8Array;
}

const cl100kSchema = z.strictObject({
  format: z.literal("ethos-vocabulary"),
  version: z.literal(1),
  vocabulary: z.literal("cl100k_base"),
  vocab_size: z.literal(CL100K_SIZE),
  endoftext: z.literal(CL100K_ENDOFTEXT),
});

const compactSchema = z.strictObject({
  format: z.literal("ethos-vocabulary"),
  version: z.literal(1),
  vocabulary: z.literal("compact"),
  vocab_size: z.int().min(257).max(CL100K_SIZE),
  endoftext: z.int(),
  tokens: z.array(z.int().min(0).max(CL100K_ORDINARY - 1)),
});

const vocabularySchema = z.discriminatedUnion("vocabulary", [cl100kSchema, compactSchema]);

/** What `vocabulary.json` holds; `tokens` are the `cl100k_base` ids behind the compact ids 256, 257, …. */
export type Vocabulary =
  & { format: "ethos-vocabulary"; version: 1; vocab_size: number; endoftext: number }
  & ({ vocabulary: "cl100k_base" } | { vocabulary: "compact"; tokens: number[] });

/** The vocabulary of `cl100k_base`. */
export const CL100K_VOCABULARY: Vocabulary = Object.freeze({
  format: "ethos-vocabulary",
  version: 1,
  vocabulary: "cl100k_base",
  vocab_size: CL100K_SIZE,
  endoftext: CL100K_ENDOFTEXT,
});

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
  const base = await openCl100k();
  return vocabulary.vocabulary === "compact" ? new CompactTokenizer(base, vocabulary.tokens) : base;
}

let cl100k: Promise<Cl100kTokenizer> | undefined;

/** Opens `cl100k_base`, once a thread: its tables take a quarter of a second and 40 MB. */
export function openCl100k(): Promise<Cl100kTokenizer> {
  cl100k ??= (async () => {
    // Loaded only when used, so that commands which tokenise nothing start at once.
    const [{ Tiktoken }, { default: ranks }] = await Promise.all([
      import("tiktoken/lite"),
      import("tiktoken/encoders/cl100k_base"),
    ]);
    // The package's declarations describe its ES module; Deno loads the CommonJS one, without the inner `default`.
    const encoder = ranks as unknown as typeof ranks.default;
    return new Cl100kTokenizer(
      new Tiktoken(encoder.bpe_ranks, encoder.special_tokens, encoder.pat_str),
    );
  })();
  return cl100k;
}

/** `cl100k_base` by `tiktoken`. */
export class Cl100kTokenizer implements Tokenizer {
  /** 100,277. */
  readonly vocab_size: number = CL100K_SIZE;
  /** 100,257. */
  readonly endoftext: number = CL100K_ENDOFTEXT;
  readonly #tiktoken: Tiktoken;
  readonly #bytes: (Uint8Array | undefined)[] = [];

  /** Wraps `tiktoken`; callers use {@linkcode openCl100k}. */
  constructor(tiktoken: Tiktoken) {
    this.#tiktoken = tiktoken;
  }

  encode(text: string): Uint32Array {
    return this.#tiktoken.encode_ordinary(text);
  }

  decode(ids: Iterable<number>): string {
    return new TextDecoder().decode(this.decodeBytes(ids));
  }

  decodeBytes(ids: Iterable<number>): Uint8Array {
    return joinBytes(ids, (id) => this.tokenBytes(id));
  }

  /** Bytes of one token; `<|endoftext|>` for the token that ends a document. */
  tokenBytes(id: number): Uint8Array {
    const known = this.#bytes[id];
    if (known) return known;
    if (!Number.isInteger(id) || id < 0 || id >= CL100K_SIZE) {
      throw new RangeError(`Token ${id} is outside cl100k_base, whose ids are 0 to 100276`);
    }
    // The ids between the ordinary and the special tokens stand for nothing.
    const bytes = id < CL100K_ORDINARY || id === CL100K_ENDOFTEXT
      ? this.#tiktoken.decode_single_token_bytes(id)
      : new Uint8Array();
    this.#bytes[id] = bytes;
    return bytes;
  }
}

/** Joins the bytes of many tokens. */
export function joinBytes(
  ids: Iterable<number>,
  tokenBytes: (id: number) => Uint8Array,
): Uint8Array {
  const parts: Uint8Array[] = [];
  let length = 0;
  for (const id of ids) {
    const bytes = tokenBytes(id);
    parts.push(bytes);
    length += bytes.length;
  }
  const joined = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}
