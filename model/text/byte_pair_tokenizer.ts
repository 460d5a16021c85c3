/**
 * An encoding of `tiktoken` by its ranks alone: the same ids, in time that is n log n in the longest run of a text without a break
 * and otherwise linear. It needs no WebAssembly, so pages use it for all texts.
 *
 * @module
 */

import { BytePairs, IdList } from "./byte_pairs.ts";
import { type Encoding, ENCODINGS } from "./encodings.ts";
import { pieceEnds } from "./pieces.ts";
import { ENDOFTEXT, joinBytes, type Tokenizer } from "./tokens.ts";
import type { EncodingName } from "./vocabulary.ts";

/** An encoding by its ranks. */
export class BytePairTokenizer implements Tokenizer {
  /** Ids of the encoding. */
  readonly vocab_size: number;
  /** Id of `<|endoftext|>`. */
  readonly endoftext: number;
  readonly #name: EncodingName;
  readonly #encoding: Encoding;
  readonly #pairs: BytePairs;

  /** @param ranks As `tiktoken` ships them: see {@linkcode BytePairs}. */
  constructor(name: EncodingName, ranks: string) {
    this.#name = name;
    this.#encoding = ENCODINGS[name];
    this.vocab_size = this.#encoding.size;
    this.endoftext = this.#encoding.endoftext;
    this.#pairs = new BytePairs(ranks);
  }

  encode(text: string): Uint32Array {
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
    const { size, ordinary, endoftext } = this.#encoding;
    if (!Number.isInteger(id) || id < 0 || id >= size) {
      throw new RangeError(
        `Token ${id} is outside ${this.#name}, whose ids are 0 to ${size - 1}`,
      );
    }
    if (id === endoftext) return new TextEncoder().encode(ENDOFTEXT);
    // The ids between the ordinary and the special tokens stand for nothing.
    if (id >= ordinary) return new Uint8Array();
    return Uint8Array.from(this.#pairs.token(id), (letter) => letter.charCodeAt(0));
  }
}
