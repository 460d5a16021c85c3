/**
 * From a text to windows of tokens.
 *
 * @module
 */

import { uniform, windowStarts } from "../../model/sparse/routing/uniform.ts";
import type { Tokenizer } from "../../model/text/tokenizer.ts";
import type { FoundText } from "./texts.ts";

/** Windows of a text, one after another. */
export interface Windows {
  readonly tokens: Uint32Array<ArrayBuffer>;
  /** Tokens of a window. */
  readonly length: number;
  /** First token of each window: of the text, or of its document. */
  readonly starts: readonly number[];
  /** Documents or rows that were read. */
  readonly documents: number;
  /** UTF-8 bytes of the text. */
  readonly bytes: number;
  /** Tokens of the text. */
  readonly text_tokens: number;
}

/** How to take windows. */
interface WindowOptions {
  readonly tokenizer: Tokenizer;
  readonly length: number;
  /** Section of the configuration, for messages. */
  readonly section: string;
  readonly signal?: AbortSignal;
}

/** The whole text, and how much it is. */
interface WholeText {
  readonly text: string;
  readonly documents: number;
}

async function whole(
  { documents, join = "" }: FoundText,
  signal?: AbortSignal,
): Promise<WholeText> {
  const all: string[] = [];
  for await (const document of documents) {
    signal?.throwIfAborted();
    all.push(document);
  }
  return { text: all.join(join), documents: all.length };
}

/** Tokens of a text behind those that the tokenizer begins every text with. */
function tokensOf(text: string, tokenizer: Tokenizer): Uint32Array {
  const begin = tokenizer.begin ?? [];
  const ids = tokenizer.encode(text);
  const tokens = new Uint32Array(begin.length + ids.length);
  tokens.set(begin);
  tokens.set(ids, begin.length);
  return tokens;
}

function utf8Length(text: string): number {
  return new TextEncoder().encode(text).length;
}

/**
 * Windows for calibration: window `j` starts at `⌊u(seed, j) · (n − length)⌋` of the text's `n` tokens, or of the tokens of the `j`-th document that is longer than a window.
 *
 * @throws {RangeError} If no window fits, or too few documents are longer than one.
 */
export async function calibrationWindows(
  text: FoundText,
  { samples, seed, ...options }: WindowOptions & {
    readonly samples: number;
    readonly seed: number;
  },
): Promise<Windows> {
  const { tokenizer, length, section, signal } = options;
  const tokens = new Uint32Array(samples * length);
  if (text.join === undefined) {
    return await windowsOfDocuments(text, tokens, { ...options, samples, seed });
  }
  const { text: all, documents } = await whole(text, signal);
  const ids = tokensOf(all, tokenizer);
  const starts = fitting(
    section,
    () => windowStarts(seed, samples, { tokens: ids.length, length }),
  );
  for (const [j, start] of starts.entries()) {
    tokens.set(ids.subarray(start, start + length), j * length);
  }
  return { tokens, length, starts, documents, bytes: utf8Length(all), text_tokens: ids.length };
}

async function windowsOfDocuments(
  { documents }: FoundText,
  tokens: Uint32Array<ArrayBuffer>,
  { tokenizer, length, samples, seed, section, signal }: WindowOptions & {
    readonly samples: number;
    readonly seed: number;
  },
): Promise<Windows> {
  const starts: number[] = [];
  let [read, bytes, text_tokens] = [0, 0, 0];
  for await (const document of documents) {
    signal?.throwIfAborted();
    read++;
    // A token is a byte at least.
    if (utf8Length(document) + (tokenizer.begin?.length ?? 0) <= length) continue;
    const ids = tokensOf(document, tokenizer);
    if (ids.length <= length) continue;
    const start = Math.floor(uniform(seed, starts.length) * (ids.length - length));
    tokens.set(ids.subarray(start, start + length), starts.length * length);
    starts.push(start);
    bytes += utf8Length(document);
    text_tokens += ids.length;
    if (starts.length === samples) {
      return { tokens, length, starts, documents: read, bytes, text_tokens };
    }
  }
  throw new RangeError(
    `${section}: ${starts.length} of ${read} documents are longer than ${length} tokens, expected ${samples}; lower ${section}.samples or ${section}.length`,
  );
}

/**
 * Windows to measure on: they follow each other from the start of the text, and what does not fill the last one is left out.
 *
 * @param options `most`: windows at most.
 * @throws {RangeError} If no window fits.
 */
export async function evaluationWindows(
  text: FoundText,
  { most = Infinity, ...options }: WindowOptions & { readonly most?: number | undefined },
): Promise<Windows> {
  const { tokenizer, length, section, signal } = options;
  const { text: all, documents } = await whole(text, signal);
  const ids = tokensOf(all, tokenizer);
  const count = Math.min(most, Math.floor(ids.length / length));
  if (count === 0) {
    throw new RangeError(
      `${section}: no window of ${length} tokens fits in a text of ${ids.length}; lower ${section}.length`,
    );
  }
  return {
    tokens: Uint32Array.from(ids.subarray(0, count * length)),
    length,
    starts: Array.from({ length: count }, (_, j) => j * length),
    documents,
    bytes: utf8Length(all),
    text_tokens: ids.length,
  };
}

/** Puts the section's name before what the text does not allow. */
function fitting<Result>(section: string, work: () => Result): Result {
  try {
    return work();
  } catch (cause) {
    if (!(cause instanceof RangeError)) throw cause;
    throw new RangeError(`${section}: ${cause.message}; lower ${section}.length`, { cause });
  }
}
