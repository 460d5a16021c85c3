/**
 * A vocabulary in the forms that transformers reads.
 *
 * An encoding, and the vocabulary of single bytes, is one `tokenizer.json`. A larger compact vocabulary is not: the merges on the way to a chosen token may
 * lead through tokens that were not chosen, and a table of merges cannot leave those out. It goes with the file of `cl100k_base` and a class in Python that
 * cuts as `model/text/compact.ts` does.
 *
 * @module
 */

import { bytePairTokenizer, byteTokenizer } from "../text/byte_level.ts";
import { ENCODINGS } from "../text/encodings.ts";
import { openEncoding, type TiktokenTokenizer } from "../text/tiktoken.ts";
import { ENDOFTEXT } from "../text/tokens.ts";
import { formatVocabulary } from "../text/tokenizer.ts";
import { BYTE_LETTERS } from "../text/tokenizer_json.ts";
import type { EncodingName, Vocabulary } from "../text/vocabulary.ts";
import tokenizationSource from "./python/tokenization_ethos.py" with { type: "text" };

/** The regular expression by which each encoding cuts text before pairs merge; undefined for that of GPT-2, which the format knows by name. */
const CUTS: Readonly<Record<EncodingName, string | undefined>> = {
  cl100k_base:
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
  gpt2: undefined,
};

/** Files of a vocabulary by name. */
export type TokenizerFiles = Readonly<Record<string, string>>;

/**
 * The files that a folder for transformers needs of a vocabulary, `vocabulary.json` among them, which this project reads.
 *
 * @param options `longest`: tokens of the longest text, where something limits it.
 */
export async function tokenizerFiles(
  vocabulary: Vocabulary,
  options: { readonly longest?: number | undefined } = {},
): Promise<TokenizerFiles> {
  const { longest } = options;
  const config = {
    bos_token: ENDOFTEXT,
    eos_token: ENDOFTEXT,
    pad_token: ENDOFTEXT,
    clean_up_tokenization_spaces: false,
    ...(longest === undefined ? {} : { model_max_length: longest }),
  };
  const own = { "vocabulary.json": formatVocabulary(vocabulary) };
  if (vocabulary.vocabulary === "compact" && vocabulary.tokens.length > 0) {
    return {
      ...own,
      "base_tokenizer.json": json(await encodingTokenizer("cl100k_base")),
      "tokenization_ethos.py": tokenizationSource,
      "tokenizer_config.json": json({
        ...config,
        tokenizer_class: "EthosTokenizer",
        auto_map: { AutoTokenizer: ["tokenization_ethos.EthosTokenizer", null] },
      }),
    };
  }
  const tokenizer = vocabulary.vocabulary === "compact"
    ? byteTokenizer()
    : await encodingTokenizer(vocabulary.vocabulary);
  return {
    ...own,
    "tokenizer.json": json(tokenizer),
    "tokenizer_config.json": json({ ...config, tokenizer_class: "PreTrainedTokenizerFast" }),
  };
}

function json(value: unknown): string {
  return `${JSON.stringify(value, null, 1)}\n`;
}

/** The tokenizer of an encoding, with its ids. */
async function encodingTokenizer(name: EncodingName): Promise<Record<string, unknown>> {
  const { ordinary, endoftext } = ENCODINGS[name];
  const base = await openEncoding(name);
  const tokens = Array.from({ length: ordinary }, (_, id) => spell(base, id));
  const vocab = Object.fromEntries(tokens.map((token, id) => [token, id]));
  const ranks = new Map(tokens.map((token, id) => [token, id]));
  const merges = tokens.flatMap((token) => {
    const pair = lastPair(token, ranks);
    return pair === undefined ? [] : [pair.join(" ")];
  });
  return bytePairTokenizer({ vocab, merges, endoftext, cut: CUTS[name] });
}

/** A token's bytes as letters. */
function spell(base: TiktokenTokenizer, id: number): string {
  return Array.from(base.tokenBytes(id), (byte) => BYTE_LETTERS[byte]!).join("");
}

/**
 * The two tokens whose merge makes a token, when pairs of lower ranks merge first; undefined for a single byte. Two tokens side by side got there by the same
 * merges as inside of this one, so no other pair makes it.
 */
function lastPair(
  token: string,
  ranks: ReadonlyMap<string, number>,
): readonly [string, string] | undefined {
  const parts = [...token];
  while (parts.length > 2) {
    let lowest = Infinity;
    let at = -1;
    for (let i = 0; i + 1 < parts.length; i++) {
      const rank = ranks.get(parts[i]! + parts[i + 1]!);
      if (rank === undefined || rank >= lowest) continue;
      lowest = rank;
      at = i;
    }
    if (at < 0) throw new Error(`The token ${token} is not made by merges`);
    parts.splice(at, 2, parts[at]! + parts[at + 1]!);
  }
  return parts.length === 2 ? [parts[0]!, parts[1]!] : undefined;
}
