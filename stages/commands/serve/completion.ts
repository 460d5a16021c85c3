/**
 * One completion of one prompt: what the engine is asked, and what the client gets piece by piece.
 *
 * @module
 */

import {
  type Prediction,
  predictionOf,
  type TokenLogProbability,
} from "../../../model/inference/log_probability.ts";
import { Sampling } from "../../../model/inference/sampling.ts";
import type { Tokenizer } from "../../../model/text/tokenizer.ts";
import type { Engine } from "./engine.ts";
import type { CompletionRequest, Prompt } from "./request.ts";
import {
  characters,
  type PlacedToken,
  type TextPiece,
  tokenName,
  TokenText,
} from "./token_text.ts";

/** Why a completion ended: the model or a stop sequence ended it, or there was no room for more. */
export type FinishReason = "stop" | "length";

/** Probabilities of tokens, a list a property. */
export interface LogProbabilities {
  readonly tokens: string[];
  /** Null for a first token that follows nothing. */
  readonly token_logprobs: (number | null)[];
  readonly top_logprobs: (Record<string, number> | null)[];
  readonly text_offset: number[];
}

/** A part of a completion. */
export interface CompletionPiece {
  readonly text: string;
  /** Of the tokens that begin in the text, if they are asked for. */
  readonly logprobs: LogProbabilities | null;
}

/** The end of a completion. */
export interface CompletionEnd {
  readonly finish_reason: FinishReason;
  /** Tokens that were generated, with the one that ended the text. */
  readonly tokens: number;
}

/** A token with its probability and its likeliest alternatives, where they are asked for. */
interface Told {
  readonly token: number;
  readonly log_probability: number | null;
  readonly top: readonly TokenLogProbability[] | null;
}

/** Options of {@linkcode complete}. */
export interface CompleteOptions {
  readonly engine: Engine;
  readonly tokenizer: Tokenizer;
  readonly request: CompletionRequest;
  readonly prompt: Prompt;
  /** Of the draws. */
  readonly seed: number;
  readonly signal: AbortSignal;
  /** Takes the completion piece by piece. */
  emit(piece: CompletionPiece): void;
}

/**
 * Completes a prompt.
 *
 * Probabilities are the model's own, before temperature and the other ways of choosing. A token that ends a text is among them, with no
 * text. One token alone comes from the scorer, whose batches all clients share.
 */
export async function complete(options: CompleteOptions): Promise<CompletionEnd> {
  const { engine, tokenizer, request, prompt, signal, emit } = options;
  const { max_tokens, echo, logprobs } = request;
  const sampling = new Sampling(request.sampling, options.seed);
  sampling.note(prompt.ids);
  const sequence = [...prompt.begin, ...prompt.ids];
  /** Of the likeliest tokens; without `logprobs` they are not told. */
  const count = Math.max(1, logprobs ?? 1);
  const tell = (prediction: Prediction, token: number): Told => told(prediction, token, logprobs);
  const ends = tokenizer.ends ?? new Set([tokenizer.endoftext]);
  const text = new TokenText<Told>(tokenizer, {
    stop: request.stop,
    trim: tokenizer.trims === true && prompt.ids.length === 0,
    offset: echo ? characters(prompt.text) : 0,
  });
  const emitPiece = ({ text, tokens }: TextPiece<Told>) => {
    if (text === "" && tokens.length === 0) return;
    emit({ text, logprobs: logprobs === undefined ? null : listed(tokenizer, tokens) });
  };
  let tokens = 0;
  let finish: FinishReason = "length";
  /** Takes a token that was chosen, and emits it. @returns The token, unless it is the last one. */
  const accept = (one: Told): number | undefined => {
    const { token } = one;
    tokens++;
    if (ends.has(token)) {
      finish = "stop";
      emitPiece(text.end(one));
      return undefined;
    }
    const { stopped, ...piece } = text.add(token, one);
    emitPiece(piece);
    if (stopped) finish = "stop";
    else if (tokens < max_tokens) return token;
    return undefined;
  };
  /** Chooses a token. */
  const next = (logits: Float32Array): number | undefined => {
    const token = sampling.choose(logits);
    const none = { token, log_probability: null, top: null };
    return accept(
      logprobs === undefined ? none : tell(predictionOf(logits, { next: token, count }), token),
    );
  };
  const scored = echo && logprobs !== undefined;
  if (scored || max_tokens === 1) {
    // A client that scores prompts asks for one token that it does not need: it comes with the prompt's.
    const prompted: Told[] = [];
    const skipped = prompt.begin.length;
    if (scored && skipped === 0) {
      prompted.push({ token: sequence[0]!, log_probability: null, top: null });
    }
    const last = sequence.length - 1;
    let likeliest: Told | undefined;
    let ending: Float32Array | undefined;
    await engine.score({
      tokens: sequence,
      from: scored ? Math.max(0, skipped - 1) : last,
      likeliest: count,
      // A draw looks at all of them.
      logits: max_tokens === 1 && !sampling.greedy,
      signal,
      take(position, prediction, logits) {
        if (position < last) return void prompted.push(tell(prediction, sequence[position + 1]!));
        if (logits) ending = logits.slice();
        else if (max_tokens === 1) likeliest = tell(prediction, prediction.likeliest[0]!.token);
      },
    });
    if (scored) emit(echoed(tokenizer, prompt, prompted));
    else if (echo) emit({ text: prompt.text, logprobs: null });
    if (max_tokens === 1) {
      if (ending) next(ending);
      else accept(likeliest!);
    }
  } else if (echo) {
    emit({ text: prompt.text, logprobs: null });
  }
  if (max_tokens > 1) await engine.generate({ tokens: sequence, signal, next });
  // After a stop sequence nothing that waits is told; after a token that ends a text nothing waits.
  if (finish === "length") emitPiece(text.end());
  return { finish_reason: finish, tokens };
}

/** The prompt with the probabilities of its tokens. */
function echoed(tokenizer: Tokenizer, prompt: Prompt, told: readonly Told[]): CompletionPiece {
  const text = new TokenText<Told>(tokenizer, {
    stop: [],
    trim: tokenizer.trims === true,
    offset: 0,
  });
  const tokens = told.flatMap((token) => text.add(token.token, token).tokens);
  return {
    text: prompt.text,
    logprobs: listed(tokenizer, [...tokens, ...text.end().tokens]),
  };
}

/** The probability of a token that follows or is among the likeliest, and the `count` likeliest ones. */
function told(prediction: Prediction, token: number, count: number | undefined): Told {
  if (count === undefined) return { token, log_probability: null, top: null };
  const { likeliest } = prediction;
  const log_probability = prediction.log_probability ??
    likeliest.find((one) => one.token === token)!.log_probability;
  const top = likeliest.slice(0, count);
  const shown = top.some((one) => one.token === token) ? top : [...top, { token, log_probability }];
  return { token, log_probability, top: shown };
}

/** Tokens in the form that clients of OpenAI's interface read. */
function listed(tokenizer: Tokenizer, placed: readonly PlacedToken<Told>[]): LogProbabilities {
  return {
    tokens: placed.map(({ info }) => tokenName(tokenizer, info.token)),
    token_logprobs: placed.map(({ info }) => info.log_probability),
    top_logprobs: placed.map(({ info: { top } }) => {
      if (top === null) return null;
      const names = new Map<string, number>();
      for (const { token, log_probability } of top) {
        const name = tokenName(tokenizer, token);
        // Two tokens may have one text.
        names.set(names.has(name) ? `token_id:${token}` : name, log_probability);
      }
      return Object.fromEntries(names);
    }),
    text_offset: placed.map(({ offset }) => offset),
  };
}
