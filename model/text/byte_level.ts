/**
 * Tokenizers of bytes in the form of `tokenizer.json`, for those who read published models.
 *
 * @module
 */

import { ENDOFTEXT } from "./tokens.ts";
import { BYTE_LETTERS } from "./tokenizer_json.ts";

/** Bytes that merge in pairs. */
export interface BytePairs {
  /** Ids by tokens in letters of bytes. */
  readonly vocab: Readonly<Record<string, number>>;
  /** Pairs of tokens with a space between, in the order of their ranks. */
  readonly merges: readonly string[];
  /** Id of the token that ends a text. */
  readonly endoftext: number;
  /** The regular expression by which text is cut before pairs merge; that of GPT-2, which the format knows by name, unless given. */
  readonly cut?: string | undefined;
}

/** A `tokenizer.json` of bytes that merge in pairs. The keys' order is part of what stages write. */
export function bytePairTokenizer(pairs: BytePairs): Record<string, unknown> {
  const { vocab, merges, endoftext, cut } = pairs;
  const level = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true };
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: [{
      id: endoftext,
      content: ENDOFTEXT,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    }],
    normalizer: null,
    pre_tokenizer: cut === undefined ? level : {
      type: "Sequence",
      pretokenizers: [
        { type: "Split", pattern: { Regex: cut }, behavior: "Isolated", invert: false },
        { ...level, use_regex: false },
      ],
    },
    post_processor: level,
    decoder: level,
    model: {
      type: "BPE",
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: "",
      end_of_word_suffix: "",
      fuse_unk: false,
      vocab: { ...vocab, [ENDOFTEXT]: endoftext },
      merges,
    },
  };
}

/** The `tokenizer.json` of single bytes, whose ids are the bytes; the token after them ends a text. */
export function byteTokenizer(): Record<string, unknown> {
  const vocab = Object.fromEntries(BYTE_LETTERS.map((letter, byte) => [letter, byte]));
  return bytePairTokenizer({ vocab, merges: [], endoftext: BYTE_LETTERS.length });
}
