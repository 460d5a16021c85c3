/**
 * `cl100k_base`, the segmentation and the ids of `tiktoken`.
 *
 * @module
 */

import type { Tiktoken } from "tiktoken/lite";

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
