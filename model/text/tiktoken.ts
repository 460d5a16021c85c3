/**
 * The segmentation and the ids of `tiktoken`, for texts of any shape.
 *
 * `tiktoken` takes quadratic time for a long run without a break, and a run of a million characters ends it. Texts
 * with such a run go to `byte_pair_tokenizer.ts`, which gives the same ids.
 *
 * @module
 */

import type { Tiktoken } from "tiktoken/lite";
import { BytePairTokenizer } from "./byte_pair_tokenizer.ts";
import { type Encoding, ENCODINGS } from "./encodings.ts";
import { hasLongRun } from "./pieces.ts";
import { joinBytes, type Tokenizer } from "./tokens.ts";
import type { EncodingName } from "./vocabulary.ts";

// Loaded only when they are used: commands that tokenise nothing start at once.
const RANKS: Readonly<Record<EncodingName, () => Promise<{ readonly default: unknown }>>> = {
  cl100k_base: () => import("tiktoken/encoders/cl100k_base"),
  gpt2: () => import("tiktoken/encoders/gpt2"),
};

/** An encoding as the package ships it. */
interface Ranks {
  readonly bpe_ranks: string;
  readonly special_tokens: Record<string, number>;
  readonly pat_str: string;
}

/** The ranks of an encoding; `bpe_ranks` is what {@linkcode BytePairTokenizer} reads. */
export async function loadRanks(name: EncodingName): Promise<Ranks> {
  const { default: loaded } = await RANKS[name]();
  // The package's declarations describe its ES module; Deno loads the CommonJS one, without the inner `default`.
  return loaded as Ranks;
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
  const [{ Tiktoken }, ranks] = await Promise.all([import("tiktoken/lite"), loadRanks(name)]);
  return new TiktokenTokenizer(name, {
    tiktoken: new Tiktoken(ranks.bpe_ranks, ranks.special_tokens, ranks.pat_str),
    ranks: ranks.bpe_ranks,
  });
}

/** Opens `cl100k_base`, once a thread. */
export function openCl100k(): Promise<TiktokenTokenizer> {
  return openEncoding("cl100k_base");
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
  #pairs: BytePairTokenizer | undefined;
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
    this.#pairs ??= new BytePairTokenizer(this.#name, this.#ranks);
    return this.#pairs.encode(text);
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
