/**
 * The body of `POST /v1/completions`, checked.
 *
 * @module
 */

import { z } from "zod";
import { MOST_LIKELIEST } from "../../../model/inference/found_prediction.ts";
import { type SamplingOptions, samplingSchema } from "../../../model/inference/sampling.ts";
import { firstTokens } from "../../../model/inference/generate_text.ts";
import type { Tokenizer } from "../../../model/text/tokenizer.ts";
import { ApiError } from "./errors.ts";

/** The largest seed: a generator takes 32 bits. */
const LARGEST_SEED = 2 ** 32 - 1;
/** Stop sequences at most, and characters of one. */
const MOST_STOPS = 16;
const MOST_STOP_CHARACTERS = 1000;

const ids = z.array(z.int().min(0)).min(1);
const stop = z.string().min(1).max(MOST_STOP_CHARACTERS);
/** Zero, as a key that does nothing may be. */
const none = z.literal(0).nullish();

const bodySchema = z.strictObject({
  model: z.string().optional(),
  prompt: z.union([z.string(), z.array(z.string()).min(1), ids, z.array(ids).min(1)], {
    error: "expected a text, a list of texts, a list of token ids, or a list of such lists",
  }),
  max_tokens: z.int().min(0).nullish(),
  temperature: samplingSchema.shape.temperature.unwrap().nullish(),
  top_p: samplingSchema.shape.top_p.unwrap().nullish(),
  top_k: samplingSchema.shape.top_k.unwrap().nullish(),
  min_p: samplingSchema.shape.min_p.unwrap().nullish(),
  repetition_penalty: samplingSchema.shape.repetition_penalty.unwrap().nullish(),
  n: z.int().min(1).nullish(),
  best_of: z.int().min(1).nullish(),
  seed: z.int().min(0).max(LARGEST_SEED).nullish(),
  echo: z.boolean().nullish(),
  logprobs: z.int().min(0).max(MOST_LIKELIEST).nullish(),
  stop: z.union([stop, z.array(stop).max(MOST_STOPS)], {
    error: `expected a text, or a list of at most ${MOST_STOPS} texts, none of them empty`,
  }).nullish(),
  stream: z.boolean().nullish(),
  stream_options: z.strictObject({ include_usage: z.boolean().nullish() }).nullish(),
  user: z.string().nullish(),
  presence_penalty: none,
  frequency_penalty: none,
  logit_bias: z.strictObject({}).nullish(),
  suffix: z.literal("").nullish(),
});

/** A prompt as the model reads it. */
export interface Prompt {
  /** The text that `echo` repeats; of token ids the text that they spell. */
  readonly text: string;
  /** Tokens before the client's, which no result shows: those that a text begins with. */
  readonly begin: readonly number[];
  /** The client's tokens. */
  readonly ids: readonly number[];
}

/** A request to complete prompts. */
export interface CompletionRequest {
  readonly prompts: readonly Prompt[];
  readonly max_tokens: number;
  readonly sampling: Partial<SamplingOptions>;
  /** Completions of each prompt. */
  readonly n: number;
  /** Of the draws of the first completion; the others count on. */
  readonly seed: number;
  readonly echo: boolean;
  /** Alternatives of each token that are told; without it no probabilities are. */
  readonly logprobs: number | undefined;
  readonly stop: readonly string[];
  readonly stream: boolean;
  /** Whether a stream ends with the counts of tokens. */
  readonly include_usage: boolean;
}

/** The served model and its limits, for {@linkcode parseCompletion}. */
export interface RequestLimits {
  /** Name that clients give. */
  readonly model: string;
  readonly tokenizer: Tokenizer;
  /** Width of the model's output. */
  readonly vocab_size: number;
  /** Tokens of prompt and completion together. */
  readonly context: number;
  /** Completions of all prompts together. */
  readonly sequences: number;
  /** Tokens of all completions together, prompts included: an answer may tell each with its probabilities. */
  readonly request_tokens: number;
}

/**
 * Checks the body of a request.
 *
 * @throws {ApiError} 400 (404 for another model) that names the key, the value and the expectation.
 */
export function parseCompletion(body: unknown, limits: RequestLimits): CompletionRequest {
  const result = bodySchema.safeParse(body);
  if (!result.success) throw refusal(body, result.error.issues[0]!);
  const { data } = result;
  const { context, sequences, request_tokens } = limits;
  if (data.model !== undefined && data.model !== limits.model) {
    throw new ApiError(`The model ${data.model} is not served here; ${limits.model} is.`, {
      status: 404,
      code: "model_not_found",
      param: "model",
    });
  }
  const { max_tokens, n, best_of, seed, stop, ...rest } = data;
  const most = max_tokens ?? 16;
  const copies = n ?? 1;
  if (most > context) {
    throw wrong("max_tokens", `is ${most}; expected at most ${context}, the tokens of a context`);
  }
  if ((best_of ?? copies) !== copies) {
    throw wrong("best_of", `is ${best_of}; expected ${copies} as \`n\`: no choice is left out`);
  }
  if (data.stream_options && data.stream !== true) {
    throw wrong("stream_options", "is given; expected it with `stream` alone");
  }
  const prompts = promptsOf(data.prompt).map((prompt, i) => readPrompt(prompt, i, limits));
  if (prompts.length * copies > sequences) {
    throw wrong(
      "prompt",
      `asks for ${prompts.length * copies} completions; expected at most ${sequences}`,
    );
  }
  const tokens = prompts.reduce((sum, { begin, ids }) => sum + begin.length + ids.length + most, 0);
  if (tokens * copies > request_tokens) {
    throw wrong(
      "prompt",
      `and its completions have up to ${
        tokens * copies
      } tokens; expected at most ${request_tokens}`,
    );
  }
  const { temperature, top_p, top_k, min_p, repetition_penalty } = rest;
  const sampling = Object.fromEntries(
    Object.entries({ temperature, top_p, top_k, min_p, repetition_penalty })
      .filter(([, value]) => (value ?? undefined) !== undefined),
  );
  return {
    prompts,
    max_tokens: most,
    sampling,
    n: copies,
    seed: seed ?? crypto.getRandomValues(new Uint32Array(1))[0]!,
    echo: data.echo ?? false,
    logprobs: data.logprobs ?? undefined,
    stop: typeof stop === "string" ? [stop] : stop ?? [],
    stream: data.stream ?? false,
    include_usage: data.stream_options?.include_usage ?? false,
  };
}

function wrong(param: string, message: string, code?: string): ApiError {
  return new ApiError(`\`${param}\` ${message}.`, {
    status: 400,
    param,
    ...(code === undefined ? {} : { code }),
  });
}

function refusal(body: unknown, issue: z.core.$ZodIssue): ApiError {
  if (issue.code === "unrecognized_keys") {
    const path = [...issue.path, issue.keys[0]!].join(".");
    return wrong(path, "is no key that this server knows");
  }
  if (issue.path.length === 0) {
    return new ApiError("The body is no JSON object.", { status: 400 });
  }
  const path = issue.path.join(".");
  let value: unknown = body;
  for (const key of issue.path) value = (value as Record<PropertyKey, unknown> | undefined)?.[key];
  if (value === undefined) return wrong(path, "is missing");
  const shown = JSON.stringify(value);
  const short = shown.length > 60 ? `${shown.slice(0, 60)}…` : shown;
  return wrong(path, `is ${short}: ${issue.message}`);
}

function promptsOf(
  prompt: z.infer<typeof bodySchema>["prompt"],
): readonly (string | readonly number[])[] {
  if (typeof prompt === "string") return [prompt];
  return typeof prompt[0] === "number" ? [prompt as number[]] : prompt as string[] | number[][];
}

function readPrompt(
  prompt: string | readonly number[],
  i: number,
  { tokenizer, vocab_size, context }: RequestLimits,
): Prompt {
  let read: Prompt;
  if (typeof prompt === "string") {
    const ids = [...tokenizer.encode(prompt)];
    read = { text: prompt, begin: firstTokens(tokenizer, ids.length), ids };
  } else {
    const unknown = prompt.find((id) => id >= vocab_size);
    if (unknown !== undefined) {
      throw wrong("prompt", `has token ${unknown}; expected ids from 0 to ${vocab_size - 1}`);
    }
    read = { text: tokenizer.decode(prompt), begin: [], ids: prompt };
  }
  const length = read.begin.length + read.ids.length;
  if (length > context) {
    throw wrong(
      "prompt",
      `${i} has ${length} tokens; expected at most ${context}, the tokens of a context`,
      "context_length_exceeded",
    );
  }
  return read;
}
