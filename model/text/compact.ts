/**
 * The compact vocabulary: `cl100k_base` cut down to its most frequent tokens, without loss.
 *
 * Ids 0 … 255 are the single bytes, 256 … V − 2 the chosen `cl100k_base` tokens, V − 1 is `<|endoftext|>`. Text is cut
 * as `cl100k_base` cuts it; a token that was not chosen falls back to its bytes, so every text has ids and every
 * sequence of ids that came from a text gives it back.
 *
 * @module
 */

import { CL100K_ENDOFTEXT, CL100K_ORDINARY, CL100K_SIZE } from "./encodings.ts";
import { joinBytes, type Tokenizer } from "./tokens.ts";
import type { Vocabulary } from "./vocabulary.ts";

/** `cl100k_base`, as far as a compact vocabulary needs it. */
interface Base {
  encode(text: string): Uint32Array;
  /** Bytes of one token. */
  tokenBytes(id: number): Uint8Array;
}

/** Smallest compact vocabulary: the bytes and `<|endoftext|>`. */
export const COMPACT_MINIMUM = 257;

/**
 * Chooses a compact vocabulary.
 *
 * @param counts How often each `cl100k_base` id occurs in the training text: `CL100K_SIZE` numbers.
 * @param options `vocab_size`: ids of the result, from 257 on; `base`: to know which tokens are single bytes.
 * @returns The most frequent tokens, equal counts by lower `cl100k_base` id (which is the order of merging).
 * @throws {RangeError} if `vocab_size` is not possible.
 */
export function chooseCompact(
  counts: ArrayLike<number>,
  options: { vocab_size: number; base: Base },
): Vocabulary {
  const { vocab_size, base } = options;
  // 256 of the ordinary tokens are single bytes, which have ids of their own.
  const maximum = CL100K_ORDINARY + 1;
  if (!Number.isInteger(vocab_size) || vocab_size < COMPACT_MINIMUM || vocab_size > maximum) {
    throw new RangeError(
      `A compact vocabulary of ${vocab_size} tokens is not possible; expected ${COMPACT_MINIMUM} to ${maximum}`,
    );
  }
  const candidates: number[] = [];
  for (let id = 0; id < CL100K_ORDINARY; id++) {
    if (base.tokenBytes(id).length > 1) candidates.push(id);
  }
  candidates.sort((a, b) => (counts[b] ?? 0) - (counts[a] ?? 0) || a - b);
  return {
    format: "ethos-vocabulary",
    version: 1,
    vocabulary: "compact",
    vocab_size,
    endoftext: vocab_size - 1,
    tokens: candidates.slice(0, vocab_size - COMPACT_MINIMUM),
  };
}

/** A compact vocabulary over `cl100k_base`. */
export class CompactTokenizer implements Tokenizer {
  /** Ids: bytes, chosen tokens and `<|endoftext|>`. */
  readonly vocab_size: number;
  /** The last id. */
  readonly endoftext: number;
  readonly #base: Base;
  /** `cl100k_base` ids behind the ids from 256 on. */
  readonly #tokens: Uint32Array;
  /** Compact id by `cl100k_base` id; −1 falls back to bytes. */
  readonly #ids = new Int32Array(CL100K_SIZE).fill(-1);

  /**
   * Opens a vocabulary.
   *
   * @param base `cl100k_base`.
   * @param tokens Its ids behind the compact ids 256, 257, ….
   */
  constructor(base: Base, tokens: readonly number[]) {
    this.#base = base;
    this.#tokens = Uint32Array.from(tokens);
    this.vocab_size = tokens.length + COMPACT_MINIMUM;
    this.endoftext = this.vocab_size - 1;
    tokens.forEach((token, index) => this.#ids[token] = 256 + index);
    this.#ids[CL100K_ENDOFTEXT] = this.endoftext;
  }

  encode(text: string): Uint32Array {
    return this.fromCl100k(this.#base.encode(text));
  }

  /** Compact ids of `cl100k_base` ids; what {@linkcode encode} does after the text is cut. */
  fromCl100k(tokens: Uint32Array): Uint32Array {
    let length = 0;
    for (const token of tokens) {
      length += (this.#ids[token] ?? -1) >= 0 ? 1 : this.#base.tokenBytes(token).length;
    }
    const ids = new Uint32Array(length);
    let at = 0;
    for (const token of tokens) {
      const id = this.#ids[token] ?? -1;
      if (id >= 0) {
        ids[at++] = id;
      } else {
        for (const byte of this.#base.tokenBytes(token)) ids[at++] = byte;
      }
    }
    return ids;
  }

  decode(ids: Iterable<number>): string {
    return new TextDecoder().decode(this.decodeBytes(ids));
  }

  decodeBytes(ids: Iterable<number>): Uint8Array {
    return joinBytes(ids, (id) => this.#tokenBytes(id));
  }

  #tokenBytes(id: number): Uint8Array {
    if (!Number.isInteger(id) || id < 0 || id >= this.vocab_size) {
      throw new RangeError(
        `Token ${id} is outside the compact vocabulary, whose ids are 0 to ${this.vocab_size - 1}`,
      );
    }
    if (id < 256) return Uint8Array.of(id);
    return this.#base.tokenBytes(
      id === this.endoftext ? CL100K_ENDOFTEXT : this.#tokens[id - 256]!,
    );
  }
}
