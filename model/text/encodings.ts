/**
 * The encodings of `tiktoken` that text is cut with.
 *
 * @module
 */

import type { PieceRules } from "./pieces.ts";
import type { EncodingName } from "./vocabulary.ts";

/** The parts in which one encoding differs from another. */
export interface Encoding {
  /** Ids: ordinary tokens, special tokens and the unused ids between them. */
  readonly size: number;
  /** Ordinary tokens, whose ids are `0 … ordinary − 1`. */
  readonly ordinary: number;
  /** Id of `<|endoftext|>`. */
  readonly endoftext: number;
  /** Its regular expression, as rules. */
  readonly rules: PieceRules;
}

/** Encodings by name. */
export const ENCODINGS: Readonly<Record<EncodingName, Encoding>> = {
  /** The paper's. */
  cl100k_base: {
    size: 100277,
    ordinary: 100256,
    endoftext: 100257,
    rules: {
      folds_case: true,
      letters_take: "any",
      max_digits: 3,
      digits_take_space: false,
      cuts_lines: true,
    },
  },
  /** That of GPT-2 and of the models of its time. */
  gpt2: {
    size: 50257,
    ordinary: 50256,
    endoftext: 50256,
    rules: {
      folds_case: false,
      letters_take: "space",
      max_digits: Infinity,
      digits_take_space: true,
      cuts_lines: false,
    },
  },
};

/** Ids of `cl100k_base`: ordinary tokens, special tokens and the unused ids between them. */
export const CL100K_SIZE: number = ENCODINGS.cl100k_base.size;
/** Ordinary tokens of `cl100k_base`; their ids are `0 … CL100K_ORDINARY − 1`. */
export const CL100K_ORDINARY: number = ENCODINGS.cl100k_base.ordinary;
/** Id of `<|endoftext|>` in `cl100k_base`. */
export const CL100K_ENDOFTEXT: number = ENCODINGS.cl100k_base.endoftext;
