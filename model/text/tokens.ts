/**
 * The contract of tokenizers.
 *
 * @module
 */

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
