/**
 * Requests to the Hugging Face hub that survive network faults.
 *
 * Time-outs, stalls, cut connections, 408, 429 and 5xx are tried again, after an exponential pause with jitter or what
 * `Retry-After` asks for; a body goes on where it broke off. Everything else ends in one line.
 *
 * @module
 */

import { message } from "./document.ts";

/** Where the hub is and how patient to be. */
export interface HubOptions {
  /** Defaults to `HF_ENDPOINT`, then to the public hub. */
  readonly endpoint?: string;
  /** Defaults to `HF_TOKEN`; none is needed for public data. */
  readonly token?: string;
  /** Defaults to whether `HF_HUB_OFFLINE` is set. */
  readonly offline?: boolean;
  /** Attempts without progress before giving up; 8. */
  readonly attempts?: number;
  /** First pause, doubled each time up to a minute; 500 ms. */
  readonly backoff_ms?: number;
  /** Longest silence of a connection; 30 s. */
  readonly stall_ms?: number;
  /** Shards at once; 4. */
  readonly concurrency?: number;
}

const ENDPOINT = "https://huggingface.co";
const LONGEST_PAUSE = 60_000;
/** Longest wait that a `Retry-After` may ask for. */
const LONGEST_ASKED = 10 * 60_000;

/** A failure that is worth another attempt. */
class TransientError extends Error {
  override readonly name = "TransientError";
  constructor(message: string, readonly pause_ms?: number) {
    super(message);
  }
}

/** The hub, with retries. */
export class Hub {
  /** Origin and path without a slash at the end. */
  readonly endpoint: string;
  readonly token: string | undefined;
  readonly #attempts: number;
  readonly #backoff: number;
  readonly #stall: number;
  readonly #signal: AbortSignal;
  readonly #warn: (message: string) => void;

  /**
   * Reads the environment for options that are left out.
   *
   * @throws {Error} if the hub is off, or the endpoint or the token can't be right.
   */
  constructor(
    options: HubOptions,
    callbacks: { signal: AbortSignal; warn: (message: string) => void },
  ) {
    if (options.offline ?? isSet(Deno.env.get("HF_HUB_OFFLINE"))) {
      throw new Error(
        "HF_HUB_OFFLINE is set, so nothing is fetched from the hub; unset it, or use data.source embedded or files",
      );
    }
    this.endpoint = parseEndpoint(options.endpoint ?? (Deno.env.get("HF_ENDPOINT") || ENDPOINT));
    this.token = options.token ?? (Deno.env.get("HF_TOKEN")?.trim() || undefined);
    if (this.token !== undefined && !this.token.startsWith("hf_")) {
      throw new Error("HF_TOKEN is not a token of the hub; one begins with hf_");
    }
    this.#attempts = options.attempts ?? 8;
    this.#backoff = options.backoff_ms ?? 500;
    this.#stall = options.stall_ms ?? 30_000;
    this.#signal = callbacks.signal;
    this.#warn = callbacks.warn;
  }

  /**
   * A `fetch` for small answers, to give to `@huggingface/hub`: the body is read to its end within the attempt.
   * Only the endpoint's own origin is asked, so that a link in an answer can't carry the token away.
   */
  readonly fetch = (input: string | URL | Request, init?: RequestInit): Promise<Response> => {
    const url = new URL(input instanceof Request ? input.url : input);
    if (url.origin !== new URL(this.endpoint).origin) {
      return Promise.reject(
        new Error(`The hub's listing goes on at ${url.origin}, another host than ${this.endpoint}`),
      );
    }
    return this.#retry(url.pathname, async (guard) => {
      const response = await fetch(input, { ...init, signal: guard.signal });
      await checkStatus(response, url.pathname);
      const body = await response.arrayBuffer();
      return new Response(body, { status: response.status, headers: response.headers });
    });
  };

  /**
   * Bytes of a file, from `from` to its end, across as many connections as it takes.
   *
   * @param path Path below the endpoint.
   * @param options `size`: bytes of the whole file.
   */
  async *bytes(
    path: string,
    options: { size: number; from?: number },
  ): AsyncGenerator<Uint8Array> {
    const { size } = options;
    let position = options.from ?? 0;
    let failures = 0;
    while (position < size) {
      using guard = new StallGuard(this.#stall, this.#signal);
      const before = position;
      try {
        for await (const chunk of this.#connection(path, position, guard)) {
          if (position + chunk.length > size) {
            throw new Error(`${path} is longer than the ${size} bytes that the hub's listing says`);
          }
          position += chunk.length;
          guard.pause();
          yield chunk;
          guard.touch();
        }
        if (position < size) {
          throw new TransientError(`the connection ended after ${position} of ${size} bytes`);
        }
      } catch (error) {
        this.#signal.throwIfAborted();
        failures = position > before ? 1 : failures + 1;
        await this.#pause(path, guard.explain(error), failures);
      }
    }
  }

  /** Bytes of one connection, from `position` on. */
  async *#connection(
    path: string,
    position: number,
    guard: StallGuard,
  ): AsyncGenerator<Uint8Array> {
    const response = await fetch(this.endpoint + path, {
      headers: {
        ...(this.token === undefined ? {} : { authorization: `Bearer ${this.token}` }),
        ...(position > 0 ? { range: `bytes=${position}-` } : {}),
        // The shards are packed; a second packing would hide their length.
        "accept-encoding": "identity",
      },
      signal: guard.signal,
    });
    await checkStatus(response, path);
    let skip = position;
    if (response.status === 206) {
      const start = Number(response.headers.get("content-range")?.match(/^bytes (\d+)-/)?.[1]);
      if (start !== position) {
        await response.body?.cancel();
        throw new TransientError(`byte ${position} was asked for and ${start} answered`);
      }
      skip = 0;
    }
    if (!response.body) throw new TransientError("the answer has no body");
    for await (const chunk of response.body) {
      guard.touch();
      // A server that does not know ranges begins again; the bytes already there are skipped.
      const passed = Math.min(skip, chunk.length);
      skip -= passed;
      if (passed < chunk.length) yield chunk.subarray(passed);
    }
  }

  async #retry<T>(what: string, attempt: (guard: StallGuard) => Promise<T>): Promise<T> {
    for (let failures = 1;; failures++) {
      using guard = new StallGuard(this.#stall, this.#signal);
      try {
        return await attempt(guard);
      } catch (error) {
        this.#signal.throwIfAborted();
        await this.#pause(what, guard.explain(error), failures);
      }
    }
  }

  /** Waits before another attempt, or throws if there is no use in one. */
  async #pause(what: string, error: unknown, failures: number): Promise<void> {
    if (!isTransient(error)) throw error;
    const reason = message(error);
    if (failures >= this.#attempts) {
      throw new Error(`The hub did not answer for ${what} in ${failures} attempts: ${reason}`);
    }
    const asked = error instanceof TransientError ? error.pause_ms : undefined;
    if (asked !== undefined && asked > LONGEST_ASKED) {
      throw new Error(
        `The hub asks to wait ${Math.round(asked / 1000)} s for ${what}; try again later`,
      );
    }
    const pause = asked ??
      Math.min(LONGEST_PAUSE, this.#backoff * 2 ** (failures - 1)) * (0.5 + Math.random() / 2);
    this.#warn(`${what}: ${reason}; trying again in ${(pause / 1000).toFixed(1)} s`);
    await sleep(pause, this.#signal);
  }
}

/** Ends a connection that is silent for too long. */
class StallGuard implements Disposable {
  readonly signal: AbortSignal;
  readonly #controller = new AbortController();
  readonly #silence: number;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #stalled = false;

  constructor(silence_ms: number, outer: AbortSignal) {
    this.#silence = silence_ms;
    this.signal = AbortSignal.any([this.#controller.signal, outer]);
    this.touch();
  }

  /** Something came. */
  touch(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#stalled = true;
      this.#controller.abort();
    }, this.#silence);
  }

  /** The reader is busy; the silence is its own. */
  pause(): void {
    clearTimeout(this.#timer);
  }

  /** The error as the caller should see it. */
  explain(error: unknown): unknown {
    return this.#stalled
      ? new TransientError(`nothing came for ${(this.#silence / 1000).toFixed(1)} s`)
      : error;
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    // Also lets go of a body that was not read to its end.
    this.#controller.abort();
  }
}

async function checkStatus(response: Response, what: string): Promise<void> {
  if (response.ok) return;
  const { status } = response;
  await response.body?.cancel();
  if (status === 408 || status === 429 || status >= 500) {
    throw new TransientError(`status ${status}`, retryAfter(response.headers.get("retry-after")));
  }
  if (status === 401 || status === 403) {
    throw new Error(
      `The hub refuses ${what} (status ${status}); a private or gated dataset needs HF_TOKEN`,
    );
  }
  if (status === 404) {
    throw new Error(
      `The hub has no ${what} (status 404); check data.c4.dataset, config and revision`,
    );
  }
  throw new Error(`The hub answers ${what} with status ${status}`);
}

/** Milliseconds that a `Retry-After` header asks for: seconds or a date. */
export function retryAfter(value: string | null): number | undefined {
  if (value === null) return undefined;
  const seconds = Number(value);
  if (Number.isFinite(seconds)) return Math.max(0, seconds * 1000);
  const date = Date.parse(value);
  return Number.isNaN(date) ? undefined : Math.max(0, date - Date.now());
}

/** Network failures are `TypeError`s of `fetch` or errors of the body's stream. */
function isTransient(error: unknown): boolean {
  if (error instanceof TransientError) return true;
  if (!(error instanceof Error)) return false;
  return error instanceof TypeError || error.name === "Http" ||
    error instanceof Deno.errors.ConnectionReset ||
    error instanceof Deno.errors.ConnectionRefused || error instanceof Deno.errors.UnexpectedEof ||
    error instanceof Deno.errors.BrokenPipe || error instanceof Deno.errors.TimedOut;
}

function parseEndpoint(value: string): string {
  let url: URL;
  try {
    url = new URL(value);
  } catch {
    throw new Error(`HF_ENDPOINT "${value}" is not a URL; expected one such as ${ENDPOINT}`);
  }
  if (url.protocol !== "https:" && url.protocol !== "http:") {
    throw new Error(`HF_ENDPOINT "${value}" is not an http or https URL`);
  }
  return url.href.replace(/\/+$/, "");
}

function isSet(value: string | undefined): boolean {
  return value !== undefined && /^(?:1|true|yes|on)$/i.test(value.trim());
}

function sleep(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", stop);
      resolve();
    }, ms);
    signal.addEventListener("abort", stop, { once: true });
  });
}
