/**
 * The segmentation and the ids of `tiktoken`, for texts of any shape.
 *
 * `tiktoken` takes quadratic time for a long run without a break, and a run of a million characters ends it. Texts
 * with such a run are cut (`pieces.ts`) and merged (`byte_pairs.ts`) here, to the same ids.
 *
 * @module
 */

import type { Tiktoken } from "tiktoken/lite";
import { BytePairs, IdList } from "./byte_pairs.ts";
import { type Encoding, ENCODINGS } from "./encodings.ts";
import { hasLongRun, pieceEnds } from "./pieces.ts";
import type { EncodingName } from "./vocabulary.ts";

/** How the token between documents is spelled when ids are decoded. */
export const ENDOFTEXT = "<|endoftext|>";

/** Turns text into token ids and back. */
export interface Tokenizer {
  /** Number of ids: a model's output width. */
  readonly vocab_size: number;
  /** Id of the token that ends a document. */
  readonly endoftext: number;
  /** Tokens that a text begins with; the one that ends a document, before it, unless given. */
  readonly begin?: readonly number[];
  /** Tokens that end a text; `endoftext` alone unless given. */
  readonly ends?: ReadonlySet<number>;
  /** Whether a text's first token has a space before it that the text has not; not unless given. */
  readonly trims?: boolean;
  /** Ids of `text`. Text that spells a special token is ordinary text; lone surrogates become U+FFFD. */
  encode(text: string): Uint32Array;
  /** Text of `ids`; bytes that are no UTF-8 become U+FFFD. */
  decode(ids: Iterable<number>): string;
  /** Bytes of `ids`, for streams that cut a character in two. */
  decodeBytes(ids: Iterable<number>): Uint8Array;
}

const opened = new Map<EncodingName, Promise<TiktokenTokenizer>>();

/** Opens an encoding, once a thread: the tables of `cl100k_base` take a quarter of a second and 40 MB. */
export function openEncoding(name: EncodingName): Promise<TiktokenTokenizer> {
  let tokenizer = opened.get(name);
  if (tokenizer === undefined) {
    tokenizer = loadEncoding(name);
    opened.set(name, tokenizer);
  }
  return tokenizer;
}

async function loadEncoding(name: EncodingName): Promise<TiktokenTokenizer> {
  const [{ Tiktoken }, { default: loaded }] = await Promise.all([
    import("tiktoken/lite"),
    ENCODINGS[name].load(),
  ]);
  // The package's declarations describe its ES module; Deno loads the CommonJS one, without the inner `default`.
  const ranks = loaded as unknown as Ranks;
  return new TiktokenTokenizer(name, {
    tiktoken: new Tiktoken(ranks.bpe_ranks, ranks.special_tokens, ranks.pat_str),
    ranks: ranks.bpe_ranks,
  });
}

/** Opens `cl100k_base`, once a thread. */
export function openCl100k(): Promise<TiktokenTokenizer> {
  return openEncoding("cl100k_base");
}

/** An encoding as the package ships it. */
interface Ranks {
  readonly bpe_ranks: string;
  readonly special_tokens: Record<string, number>;
  readonly pat_str: string;
}

/** An encoding by `tiktoken`. */
export class TiktokenTokenizer implements Tokenizer {
  /** Ids of the encoding. */
  readonly vocab_size: number;
  /** Id of `<|endoftext|>`. */
  readonly endoftext: number;
  readonly #name: EncodingName;
  readonly #encoding: Encoding;
  readonly #tiktoken: Tiktoken;
  readonly #ranks: string;
  /** Made of the ranks for the first text with a long run. */
  #pairs: BytePairs | undefined;
  readonly #bytes: (Uint8Array | undefined)[] = [];

  /** Wraps `tiktoken` with the ranks it was made of; callers use {@linkcode openEncoding}. */
  constructor(name: EncodingName, parts: { tiktoken: Tiktoken; ranks: string }) {
    this.#name = name;
    this.#encoding = ENCODINGS[name];
    this.vocab_size = this.#encoding.size;
    this.endoftext = this.#encoding.endoftext;
    this.#tiktoken = parts.tiktoken;
    this.#ranks = parts.ranks;
  }

  encode(text: string): Uint32Array {
    return hasLongRun(text) ? this.encodeLong(text) : this.#tiktoken.encode_ordinary(text);
  }

  /** The same ids as `tiktoken`'s, without it; its time is n log n in the longest run, and otherwise linear. */
  encodeLong(text: string): Uint32Array {
    this.#pairs ??= new BytePairs(this.#ranks);
    const whole = text.toWellFormed();
    const ids = new IdList();
    let start = 0;
    for (const end of pieceEnds(whole, this.#encoding.rules)) {
      this.#pairs.encode(whole.slice(start, end), ids);
      start = end;
    }
    return ids.toArray();
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
    const { size, ordinary, endoftext } = this.#encoding;
    if (!Number.isInteger(id) || id < 0 || id >= size) {
      throw new RangeError(
        `Token ${id} is outside ${this.#name}, whose ids are 0 to ${size - 1}`,
      );
    }
    // The ids between the ordinary and the special tokens stand for nothing.
    const bytes = id < ordinary || id === endoftext
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
