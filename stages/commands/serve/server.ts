/**
 * Completions over HTTP, in the form of OpenAI's interface.
 *
 * @module
 */

import type { Tokenizer } from "../../../model/text/tokenizer.ts";
import {
  complete,
  type CompletionPiece,
  type FinishReason,
  type LogProbabilities,
} from "./completion.ts";
import type { Engine } from "./engine.ts";
import { ApiError } from "./errors.ts";
import { type CompletionRequest, parseCompletion } from "./request.ts";

/** The served model and the limits of its clients. */
export interface ServedModel {
  /** Name that clients give. */
  readonly name: string;
  readonly engine: Engine;
  readonly tokenizer: Tokenizer;
  /** Width of the model's output. */
  readonly vocab_size: number;
  /** Tokens of prompt and completion together. */
  readonly context: number;
}

/** Options of {@linkcode completionHandler}. */
export interface HandlerOptions {
  /** The model, once it is loaded. */
  model(): ServedModel | undefined;
  /** Names that a `Host` header may have, without a port. */
  readonly hosts: ReadonlySet<string>;
  /** Bytes of a request's body at most. */
  readonly body_bytes: number;
  /** Tokens of a request at most, prompts and completions together. */
  readonly request_tokens: number;
  /** Completions that are waited for at most, of all clients together. */
  readonly queue: number;
  /** Told of failures that are no client's mistake. */
  warn(line: string): void;
}

/** A choice of a response. */
interface Choice {
  readonly index: number;
  text: string;
  logprobs: LogProbabilities | null;
  finish_reason: FinishReason | null;
}

/** Counts of a request's tokens. */
interface Usage {
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
  readonly total_tokens: number;
}

/**
 * Answers `POST /v1/completions`, `GET /v1/models`, `GET /v1/models/NAME` and `GET /health`.
 *
 * A client that goes away takes its completions with it. Errors are JSON: 400 for a request that is wrong, 403 for a foreign `Host`, 404,
 * 405, 413 for a body that is too large, 415 for one that is no JSON, 429 where too many completions wait, 503 while the model loads.
 */
export function completionHandler(
  options: HandlerOptions,
): (request: Request) => Promise<Response> {
  const { hosts, warn } = options;
  const started = Math.floor(Date.now() / 1000);
  const queue = { taken: 0 };
  const answer = async (request: Request): Promise<Response> => {
    const host = hostOf(request.headers.get("host"));
    if (host === undefined || !hosts.has(host)) {
      throw new ApiError("The Host header names no host of this server.", { status: 403 });
    }
    const { pathname } = new URL(request.url);
    if (pathname === "/v1/completions") {
      requireMethod(request, "POST");
      const model = loaded(options);
      const body = await readBody(request, options.body_bytes);
      return await answerCompletion(
        request,
        parseCompletion(body, {
          ...model,
          model: model.name,
          sequences: options.queue,
          request_tokens: options.request_tokens,
        }),
        { ...options, queue, most: options.queue, model },
      );
    }
    if (pathname === "/v1/models" || pathname.startsWith("/v1/models/")) {
      requireMethod(request, "GET");
      const { name, context } = loaded(options);
      const card = {
        id: name,
        object: "model",
        created: started,
        owned_by: "local",
        max_model_len: context,
      };
      if (pathname === "/v1/models") return Response.json({ object: "list", data: [card] });
      const asked = decodeName(pathname.slice("/v1/models/".length));
      if (asked === name) return Response.json(card);
      throw new ApiError(`The model ${asked} is not served here; ${name} is.`, {
        status: 404,
        code: "model_not_found",
      });
    }
    if (pathname === "/health") {
      requireMethod(request, "GET");
      const { load } = loaded(options).engine;
      return Response.json({ status: "ok", completions: queue.taken, ...load });
    }
    throw new ApiError(
      "There is nothing here; expected /v1/completions, /v1/models or /health.",
      { status: 404 },
    );
  };
  return async (request) => {
    try {
      return await answer(request);
    } catch (error) {
      // Nobody reads what a client that left is told.
      if (request.signal.aborted) return new Response(null, { status: 499 });
      return failure(error, warn).response();
    }
  };
}

/** The error that a client is told. */
function failure(error: unknown, warn: (line: string) => void): ApiError {
  if (error instanceof ApiError) return error;
  const message = error instanceof Error ? error.message : String(error);
  warn(`A request failed: ${message}`);
  return new ApiError(`The completion failed: ${message}`, { status: 500 });
}

function loaded({ model }: Pick<HandlerOptions, "model">): ServedModel {
  const served = model();
  if (served !== undefined) return served;
  throw new ApiError("The model is loading.", { status: 503, headers: { "retry-after": "5" } });
}

/** The name in a `Host` header, in lower case and without its port. */
function hostOf(header: string | null): string | undefined {
  return /^(\[[0-9a-f:.]+\]|[^:]*)(?::\d*)?$/i.exec(header ?? "")?.[1]?.toLowerCase();
}

function requireMethod(request: Request, method: string): void {
  if (request.method === method) return;
  throw new ApiError(`The method is ${request.method}; expected ${method}.`, {
    status: 405,
    headers: { allow: method },
  });
}

function decodeName(path: string): string {
  try {
    return decodeURIComponent(path);
  } catch {
    return path;
  }
}

/** The JSON of a body. @throws {ApiError} If it is too large, or no JSON. */
async function readBody(request: Request, most: number): Promise<unknown> {
  const type = request.headers.get("content-type") ?? "";
  // A page of another site may send what it likes, but for this type a browser asks the server first.
  if (!/^application\/json\s*(;|$)/i.test(type)) {
    throw new ApiError("The Content-Type is not application/json.", { status: 415 });
  }
  const tooLarge = () =>
    new ApiError(`The body has more than ${most} bytes.`, {
      status: 413,
      headers: { connection: "close" },
    });
  if (Number(request.headers.get("content-length") ?? 0) > most) throw tooLarge();
  const parts: Uint8Array<ArrayBuffer>[] = [];
  let bytes = 0;
  for await (const part of request.body ?? []) {
    bytes += part.length;
    if (bytes > most) throw tooLarge();
    parts.push(part);
  }
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(await new Blob(parts).bytes());
    return JSON.parse(text);
  } catch {
    throw new ApiError("The body is no JSON in UTF-8.", { status: 400 });
  }
}

/** Everything that a completion's answer needs. */
interface AnswerOptions {
  readonly model: ServedModel;
  readonly queue: { taken: number };
  readonly most: number;
  warn(line: string): void;
}

async function answerCompletion(
  request: Request,
  completion: CompletionRequest,
  { model, queue, most, warn }: AnswerOptions,
): Promise<Response> {
  const count = completion.prompts.length * completion.n;
  if (queue.taken + count > most) {
    throw new ApiError(
      `${queue.taken} completions are waited for, and ${most} is the most; try again later.`,
      { status: 429, code: "queue_full", headers: { "retry-after": "1" } },
    );
  }
  queue.taken += count;
  const head = {
    id: `cmpl-${crypto.randomUUID()}`,
    object: "text_completion",
    created: Math.floor(Date.now() / 1000),
    model: model.name,
  };
  const gone = new AbortController();
  const signal = AbortSignal.any([request.signal, gone.signal]);
  /** Completes every prompt `n` times, at the same time; the first failure ends the others. */
  const run = async (
    emit: (index: number, piece: CompletionPiece) => void,
    onEnd: (choice: Choice) => void,
  ) => {
    const { engine, tokenizer } = model;
    const ends = Array.from({ length: count }, async (_, index) => {
      try {
        const { finish_reason, tokens } = await complete({
          engine,
          tokenizer,
          request: completion,
          prompt: completion.prompts[Math.floor(index / completion.n)]!,
          seed: (completion.seed + index) % 2 ** 32,
          signal,
          emit: (piece) => emit(index, piece),
        });
        onEnd({ index, text: "", logprobs: null, finish_reason });
        return tokens;
      } catch (error) {
        gone.abort(error);
        throw error;
      } finally {
        queue.taken--;
      }
    });
    const settled = await Promise.allSettled(ends);
    const failed = settled.find(({ status }) => status === "rejected");
    if (failed) throw signal.reason ?? (failed as PromiseRejectedResult).reason;
    const prompt_tokens = completion.prompts.reduce((sum, { ids }) => sum + ids.length, 0);
    const completion_tokens = settled.reduce(
      (sum, end) => sum + (end as PromiseFulfilledResult<number>).value,
      0,
    );
    return { prompt_tokens, completion_tokens, total_tokens: prompt_tokens + completion_tokens };
  };
  if (!completion.stream) {
    const choices = Array.from({ length: count }, (_, index): Choice => ({
      index,
      text: "",
      logprobs: null,
      finish_reason: null,
    }));
    const usage: Usage = await run(
      (index, piece) => extend(choices[index]!, piece),
      ({ index, finish_reason }) => void (choices[index]!.finish_reason = finish_reason),
    );
    return Response.json({ ...head, choices, usage }, { headers: { "cache-control": "no-store" } });
  }
  const encoder = new TextEncoder();
  const events = new ReadableStream<Uint8Array>({
    async start(controller) {
      const send = (data: unknown) => {
        const text = typeof data === "string" ? data : JSON.stringify(data);
        if (!gone.signal.aborted) controller.enqueue(encoder.encode(`data: ${text}\n\n`));
      };
      const sendChoice = (choice: Choice) => send({ ...head, choices: [choice] });
      try {
        const usage = await run(
          (index, piece) => sendChoice({ index, ...piece, finish_reason: null }),
          sendChoice,
        );
        if (completion.include_usage) send({ ...head, choices: [], usage });
        send("[DONE]");
      } catch (error) {
        // The head of the response is gone, so the error is an event. A client that left hears nothing.
        if (request.signal.aborted || error === GONE) return controller.error(error);
        const { body } = failure(error, warn);
        controller.enqueue(encoder.encode(`data: ${JSON.stringify(body)}\n\n`));
      }
      controller.close();
    },
    cancel() {
      gone.abort(GONE);
    },
  });
  return new Response(events, {
    headers: { "content-type": "text/event-stream", "cache-control": "no-store" },
  });
}

/** Why a completion of a client that left is given up. */
const GONE: unknown = new DOMException("The client left", "AbortError");

/** Adds a piece to a choice. */
function extend(choice: Choice, { text, logprobs: more }: CompletionPiece): void {
  choice.text += text;
  const { logprobs } = choice;
  if (logprobs === null || more === null) {
    choice.logprobs = more ?? logprobs;
    return;
  }
  logprobs.tokens.push(...more.tokens);
  logprobs.token_logprobs.push(...more.token_logprobs);
  logprobs.top_logprobs.push(...more.top_logprobs);
  logprobs.text_offset.push(...more.text_offset);
}
