/**
 * Text from a model: a prompt in, pieces of text out as they come.
 *
 * @module
 */

import { CapacityError, type Generator } from "./generator.ts";
import { type Choice, MOST_STEPS } from "./device_sampling.ts";
import { notFinite } from "./log_probability.ts";
import { Sampling, type SamplingOptions } from "./sampling.ts";
import type { Tokenizer } from "../text/tokenizer.ts";

/** Text comes about as often, in milliseconds: a slow device chooses fewer tokens in a submission. */
const PATIENCE = 200;
/** Tokens of the first submission. */
const FIRST = 4;

/** Options of {@linkcode generateText}. */
export interface GenerateTextOptions {
  /** May be empty: then a document begins. */
  readonly prompt: string;
  /** Tokens at most. */
  readonly max_tokens: number;
  /** How tokens are chosen. */
  readonly sampling?: Partial<SamplingOptions>;
  /** Of the draws; a whole number of 32 bits. */
  readonly seed: number;
  /**
   * Go on when the context is full: its last half is read anew, from position 0 on, since every position moves. Otherwise the text
   * ends there.
   */
  readonly slide?: boolean;
  /**
   * Tokens at most that the device chooses in one submission, up to {@linkcode MOST_STEPS}, the default. At 1 the host reads the logits and chooses each token, as it
   * does where experts are read back. The two ways choose the same tokens unless rounding decides.
   */
  readonly tokens_at_once?: number;
  readonly signal?: AbortSignal;
}

/** Why generation ended: the model ended the document, enough was made, or the context is full. */
export type FinishReason = "endoftext" | "max_tokens" | "context";

/** The summary that {@linkcode generateText} returns. */
export interface GenerationSummary {
  /** Tokens of the prompt, with those that begin a text. */
  readonly prompt_tokens: number;
  /** Tokens generated, without the one that ends a text. */
  readonly tokens: number;
  readonly finish: FinishReason;
  /** Seconds of reading the prompt. */
  readonly prefill_seconds: number;
  /** Seconds of the tokens after the first, and the number of their passes. */
  readonly decode_seconds: number;
  readonly decode_passes: number;
}

/**
 * The tokens before a prompt of `length` tokens: those that a text begins with. A model whose texts begin with none reads the one that ends a document
 * where there is no prompt, since it needs something to follow.
 */
export function firstTokens(tokenizer: Tokenizer, length: number): readonly number[] {
  const { begin = [tokenizer.endoftext], endoftext } = tokenizer;
  return begin.length + length > 0 ? begin : [endoftext];
}

/**
 * Continues a prompt. Yields whole characters: what a token leaves unfinished waits for the next.
 *
 * The prompt is read as the beginning of a document. Generation stops at a token that
 * ends a text, which is not yielded.
 *
 * @returns Counts and times, when the iterator is done.
 * @throws {CapacityError} If the prompt does not fit the context.
 */
export async function* generateText(
  generator: Generator,
  tokenizer: Tokenizer,
  options: GenerateTextOptions,
): AsyncGenerator<string, GenerationSummary> {
  const { prompt, max_tokens, signal } = options;
  const sampling = new Sampling(options.sampling ?? {}, options.seed);
  const ids = tokenizer.encode(prompt);
  const begin = firstTokens(tokenizer, ids.length);
  const prompt_tokens = begin.length + ids.length;
  if (prompt_tokens > generator.capacity) {
    throw new CapacityError(
      `The prompt has ${prompt_tokens} tokens, but the context holds ${generator.capacity}`,
    );
  }
  generator.reset();
  sampling.note(ids);
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  const seen = [...begin, ...ids];
  const ends = tokenizer.ends ?? new Set([tokenizer.endoftext]);
  // Of a text that follows no prompt, the first token's space is not the text's.
  let trim = tokenizer.trims === true && ids.length === 0;
  const atOnce = generator.traced ? 1 : options.tokens_at_once ?? MOST_STEPS;
  if (atOnce > 1 && max_tokens > 1) await generator.prepareToChoose();
  const start = performance.now();
  let logits: Float32Array | undefined = await generator.feed(Uint32Array.from(seen));
  const begun = performance.now();
  /** Tokens that the device chose and that were not looked at. */
  const chosen: Choice[] = [];
  let wanted = Math.min(FIRST, atOnce);
  let tokens = 0;
  let choices = 0;
  let decodeMilliseconds = 0;
  let finish: FinishReason = "max_tokens";
  while (tokens < max_tokens) {
    signal?.throwIfAborted();
    const token = logits ? sampling.choose(logits) : finite(chosen.shift()!);
    choices++;
    if (ends.has(token)) {
      finish = "endoftext";
      break;
    }
    tokens++;
    let piece = decoder.decode(tokenizer.decodeBytes([token]), { stream: true });
    if (trim && piece !== "") {
      piece = piece.replace(/^ /, "");
      trim = false;
    }
    if (piece !== "") yield piece;
    if (tokens === max_tokens) break;
    seen.push(token);
    if (chosen.length > 0) continue;
    const full = generator.position === generator.capacity;
    if (full && !options.slide) {
      finish = "context";
      break;
    }
    // Whoever reads the pieces takes its own time.
    const before = performance.now();
    if (full) generator.reset();
    const count = Math.min(wanted, max_tokens - tokens, generator.capacity - generator.position);
    if (full || atOnce === 1) {
      const half = Math.max(1, generator.capacity >> 1);
      logits = await generator.feed(full ? seen.slice(-half) : [token]);
    } else {
      logits = undefined;
      chosen.push(...await generator.choose(token, sampling, count));
      const each = (performance.now() - before) / count;
      wanted = Math.max(1, Math.min(atOnce, Math.floor(PATIENCE / each)));
    }
    decodeMilliseconds += performance.now() - before;
  }
  const rest = decoder.decode();
  if (rest !== "") yield rest;
  return {
    prompt_tokens,
    tokens,
    finish,
    prefill_seconds: (begun - start) / 1000,
    decode_seconds: decodeMilliseconds / 1000,
    decode_passes: Math.max(0, choices - 1),
  };
}

/** The token of a choice. @throws {NotFiniteError} If no token could be chosen. */
function finite({ token, logit }: Choice): number {
  if (!Number.isFinite(logit)) throw notFinite(token, logit);
  return token;
}
