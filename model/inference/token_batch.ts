/**
 * Batches of sequences for a model: what it reads, and what follows each token.
 *
 * @module
 */

import { NO_TARGET } from "../ops/elementwise/cross_entropy.ts";
import { documentHeads } from "../text/documents.ts";

/** A batch of sequences: `targets[i]` follows `tokens[i]`, or is {@linkcode NO_TARGET} where nothing is predicted. */
export interface TokenBatch {
  /** `[B · L]`. */
  readonly tokens: Uint32Array<ArrayBuffer>;
  /** `[B · L]`. */
  readonly targets: Uint32Array<ArrayBuffer>;
}

/** Sizes of a batch of documents, each a sequence of its own. */
export interface DocumentBatchSizes {
  /** Sequences in a batch. */
  readonly batch: number;
  /** Predictions in a sequence at most. */
  readonly length: number;
  /** The token after a document, which also pads a sequence. */
  readonly endoftext: number;
  /** Whether padding is predicted, so that every sequence has `length` predictions; it is not unless given. */
  readonly padded?: boolean | undefined;
}

/**
 * A batch whose sequences are documents: each begins with one, and what follows its end is padding that is not predicted,
 * unless `padded` says so.
 *
 * @param heads At most `batch` documents, cut at `length + 1` tokens.
 */
export function documentBatch(
  heads: readonly Uint32Array[],
  { batch, length, endoftext, padded }: DocumentBatchSizes,
): TokenBatch {
  const tokens = new Uint32Array(batch * length).fill(endoftext);
  const targets = new Uint32Array(batch * length).fill(NO_TARGET);
  if (padded) targets.fill(endoftext, 0, heads.length * length);
  heads.forEach((head, i) => {
    tokens.set(head.subarray(0, -1), i * length);
    targets.set(head.subarray(1), i * length);
  });
  return { tokens, targets };
}

/** Documents as batches, in their order, up to `most` predictions in all; padded ones are not cut by it. */
export async function* documentBatches(
  heads: AsyncIterable<Uint32Array>,
  options: DocumentBatchSizes & { readonly most: number },
): AsyncGenerator<TokenBatch> {
  const { padded, length } = options;
  let left = options.most;
  let waiting: Uint32Array[] = [];
  for await (const head of heads) {
    if (padded && left < length) break;
    const taken = head.subarray(0, left + 1);
    waiting.push(taken);
    left -= padded ? length : taken.length - 1;
    if (left === 0) break;
    if (waiting.length < options.batch) continue;
    yield documentBatch(waiting, options);
    waiting = [];
  }
  if (waiting.length > 0) yield documentBatch(waiting, options);
}

/** Consecutive tokens as a batch of `size` predictions; what is left of it is not predicted. */
export function packedBatch(row: Uint32Array, size: number): TokenBatch {
  const tokens = new Uint32Array(size);
  const targets = new Uint32Array(size).fill(NO_TARGET);
  tokens.set(row.subarray(0, -1));
  targets.set(row.subarray(1));
  return { tokens, targets };
}

/**
 * Whole windows of a stream as batches, each a sequence of its own whose first token is given: `length − 1` predictions. Tokens that fill no window are left out.
 *
 * @param blocks Consecutive tokens, cut anywhere.
 * @param sizes `most` predictions in all: a window that would pass it is left out, too.
 */
export async function* windowBatches(
  blocks: AsyncIterable<Uint32Array> | Iterable<Uint32Array>,
  { batch, length, most }: {
    readonly batch: number;
    readonly length: number;
    readonly most: number;
  },
): AsyncGenerator<TokenBatch> {
  const tokens = new Uint32Array(batch * length);
  let filled = 0;
  let left = Math.floor(most / (length - 1));
  const take = (): TokenBatch | undefined => {
    const windows = Math.min(left, Math.floor(filled / length));
    left -= windows;
    const whole = windows * length;
    filled = 0;
    if (windows === 0) return undefined;
    const targets = new Uint32Array(tokens.length).fill(NO_TARGET);
    targets.set(tokens.subarray(1, whole));
    for (let last = length - 1; last < whole; last += length) targets[last] = NO_TARGET;
    return { tokens: tokens.slice().fill(0, whole), targets };
  };
  for await (const block of blocks) {
    if (left === 0) break;
    for (let at = 0; at < block.length && left > 0;) {
      const part = block.subarray(at, at + tokens.length - filled);
      tokens.set(part, filled);
      filled += part.length;
      at += part.length;
      if (filled < tokens.length) continue;
      const full = take();
      if (full) yield full;
    }
  }
  const rest = take();
  if (rest) yield rest;
}

/** How a stream of tokens becomes batches. */
export interface BatchOptions {
  /** Sequences in a batch. */
  readonly batch: number;
  /** Tokens in a sequence. */
  readonly length: number;
  /** Predictions in all, at most. */
  readonly most: number;
  /** Makes each document a sequence of its own; sequences take the tokens as they come unless given. */
  readonly documents?:
    | { readonly endoftext: number; readonly padded?: boolean | undefined }
    | undefined;
  /** Whole windows alone, each a sequence whose first token is given. */
  readonly windows?: boolean | undefined;
}

/**
 * A stream of tokens as batches: packed, a sequence a document, or in windows.
 *
 * @param blocks Consecutive tokens, cut anywhere.
 */
export function tokenBatches(
  blocks: AsyncIterable<Uint32Array> | Iterable<Uint32Array>,
  { documents, windows, ...sizes }: BatchOptions,
): AsyncGenerator<TokenBatch> {
  const { batch, length, most } = sizes;
  if (windows) return windowBatches(blocks, sizes);
  if (documents === undefined) return packedBatches(blocks, batch * length, most);
  const heads = documentHeads(blocks, { ...documents, most: length + 1 });
  return documentBatches(heads, { ...documents, ...sizes });
}

/** Cuts a stream into batches of `size` predictions; the last may have fewer. */
async function* packedBatches(
  blocks: AsyncIterable<Uint32Array> | Iterable<Uint32Array>,
  size: number,
  most: number,
): AsyncGenerator<TokenBatch> {
  const row = new Uint32Array(size + 1);
  let filled = 0;
  let left = most;
  for await (const block of blocks) {
    for (let at = 0; at < block.length;) {
      const wanted = Math.min(row.length, left + 1);
      const take = Math.min(wanted - filled, block.length - at);
      row.set(block.subarray(at, at + take), filled);
      filled += take;
      at += take;
      if (filled < wanted) continue;
      yield packedBatch(row.subarray(0, filled), size);
      left -= filled - 1;
      if (left === 0) return;
      row[0] = row[filled - 1]!;
      filled = 1;
    }
  }
  if (filled > 1) yield packedBatch(row.subarray(0, filled), size);
}
