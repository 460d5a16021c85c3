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
/** Tokens of the first submission, of each text. */
export const FIRST_TOKENS = 4;

/** Tokens of the next submission, at most `most`, where one took so many milliseconds a token. */
export function tokensWithin(milliseconds: number, most: number): number {
  return Math.max(1, Math.min(most, Math.floor(PATIENCE / milliseconds)));
}

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

/** A text in the making: its tokens, and what of them is text. */
export class GrowingText {
  /** How its tokens are chosen; it knows those of the prompt. */
  readonly sampling: Sampling;
  /** Tokens of the prompt, with those that begin a text. */
  readonly prompt_tokens: number;
  /** Why the text ends; undefined while it goes on. */
  finish: FinishReason | undefined;
  readonly #tokenizer: Tokenizer;
  readonly #max_tokens: number;
  readonly #decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  readonly #ends: ReadonlySet<number>;
  readonly #seen: number[];
  #tokens = 0;
  #choices = 0;
  #trim: boolean;

  /**
   * The text before its first token.
   *
   * @throws {CapacityError} If the prompt does not fit the context.
   */
  constructor(
    tokenizer: Tokenizer,
    options: Pick<GenerateTextOptions, "prompt" | "max_tokens" | "sampling" | "seed">,
    { capacity }: { readonly capacity: number },
  ) {
    const { prompt, max_tokens } = options;
    const ids = tokenizer.encode(prompt);
    this.#seen = [...firstTokens(tokenizer, ids.length), ...ids];
    this.prompt_tokens = this.#seen.length;
    if (this.prompt_tokens > capacity) {
      throw new CapacityError(
        `The prompt has ${this.prompt_tokens} tokens, but the context holds ${capacity}`,
      );
    }
    this.#tokenizer = tokenizer;
    this.#max_tokens = max_tokens;
    this.#ends = tokenizer.ends ?? new Set([tokenizer.endoftext]);
    // Of a text that follows no prompt, the first token's space is not the text's.
    this.#trim = tokenizer.trims === true && ids.length === 0;
    this.sampling = new Sampling(options.sampling ?? {}, options.seed);
    this.sampling.note(ids);
    if (max_tokens === 0) this.finish = "max_tokens";
  }

  /** The tokens so far, with those of the prompt. */
  get seen(): readonly number[] {
    return this.#seen;
  }

  /** Tokens that may still come. */
  get left(): number {
    return this.#max_tokens - this.#tokens;
  }

  /** Takes the next token. @returns What it adds to the text: whole characters, or nothing. */
  take(token: number): string {
    this.#choices++;
    if (this.#ends.has(token)) {
      this.finish = "endoftext";
      return "";
    }
    this.#tokens++;
    this.#seen.push(token);
    if (this.left === 0) this.finish = "max_tokens";
    const piece = this.#decoder.decode(this.#tokenizer.decodeBytes([token]), { stream: true });
    if (!this.#trim || piece === "") return piece;
    this.#trim = false;
    return piece.replace(/^ /, "");
  }

  /** The bytes of a character that did not become whole. */
  rest(): string {
    return this.#decoder.decode();
  }

  /** The summary of a text that has ended. */
  summary(
    seconds: Pick<GenerationSummary, "prefill_seconds" | "decode_seconds">,
  ): GenerationSummary {
    return {
      prompt_tokens: this.prompt_tokens,
      tokens: this.#tokens,
      finish: this.finish!,
      ...seconds,
      decode_passes: Math.max(0, this.#choices - 1),
    };
  }
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
  const { max_tokens, signal } = options;
  const text = new GrowingText(tokenizer, options, generator);
  generator.reset();
  const atOnce = generator.traced ? 1 : options.tokens_at_once ?? MOST_STEPS;
  if (atOnce > 1 && max_tokens > 1) await generator.prepareToChoose();
  const start = performance.now();
  let logits: Float32Array | undefined = await generator.feed(Uint32Array.from(text.seen));
  const begun = performance.now();
  /** Tokens that the device chose and that were not looked at. */
  const chosen: Choice[] = [];
  let wanted = Math.min(FIRST_TOKENS, atOnce);
  let decodeMilliseconds = 0;
  while (text.finish === undefined) {
    signal?.throwIfAborted();
    const token = logits ? text.sampling.choose(logits) : finiteToken(chosen.shift()!);
    const piece = text.take(token);
    if (piece !== "") yield piece;
    if (text.finish !== undefined || chosen.length > 0) continue;
    const full = generator.position === generator.capacity;
    if (full && !options.slide) {
      text.finish = "context";
      break;
    }
    // Whoever reads the pieces takes its own time.
    const before = performance.now();
    if (full) generator.reset();
    const count = Math.min(wanted, text.left, generator.capacity - generator.position);
    if (full || atOnce === 1) {
      logits = await generator.feed(full ? lastHalf(text, generator) : [token]);
    } else {
      logits = undefined;
      chosen.push(...await generator.choose(token, text.sampling, count));
      wanted = tokensWithin((performance.now() - before) / count, atOnce);
    }
    decodeMilliseconds += performance.now() - before;
  }
  const rest = text.rest();
  if (rest !== "") yield rest;
  return text.summary({
    prefill_seconds: (begun - start) / 1000,
    decode_seconds: decodeMilliseconds / 1000,
  });
}

/** The tokens that are read anew when the context is full. */
export function lastHalf({ seen }: GrowingText, { capacity }: { readonly capacity: number }) {
  return seen.slice(-Math.max(1, capacity >> 1));
}

/** The token of a choice. @throws {NotFiniteError} If no token could be chosen. */
export function finiteToken({ token, logit }: Choice): number {
  if (!Number.isFinite(logit)) throw notFinite(token, logit);
  return token;
}
