/**
 * Requests to the Hugging Face hub that survive network faults.
 *
 * Time-outs, stalls, cut connections, 408, 429 and 5xx are tried again, after an exponential pause with jitter or what the
 * answer asks for; a body goes on where it broke off. Everything else ends in one line.
 *
 * @module
 */

import { message } from "../document.ts";
import { quote, SourceError, TransientError } from "../error.ts";
import { checkStatus, isWebPage, looksLikeWebPage, notTheHub, originOf } from "./answer.ts";
import { contentRange } from "./headers.ts";

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
  /** Defaults to the system's. */
  readonly clock?: Clock;
}

const ENDPOINT = "https://huggingface.co";
const LONGEST_PAUSE = 60_000;
/** Longest wait that an answer may ask for. */
const LONGEST_ASKED = 10 * 60_000;

/** Longest text of one answer of the API; a page of a listing has a few hundred kilobytes. */
const LONGEST_TEXT = 64 * 1024 * 1024;

/** Time, and how to let it pass. */
export interface Clock {
  /** Milliseconds since 1970. */
  now(): number;
  /** Waits for `ms`; rejects with the signal's reason when it aborts. */
  sleep(ms: number, signal: AbortSignal): Promise<void>;
}

/** A small answer, read to its end. */
export interface Answer {
  readonly text: string;
  readonly headers: Headers;
  /** Who answered, after redirects. */
  readonly url: string;
}

/** The hub, with retries. */
export class Hub {
  /** Origin and path without a slash at the end. */
  readonly endpoint: string;
  readonly token: string | undefined;
  readonly #attempts: number;
  readonly #backoff: number;
  readonly #stall: number;
  readonly #clock: Clock;
  readonly #signal: AbortSignal;
  readonly #warn: (message: string) => void;

  /**
   * Reads the environment for options that are left out.
   *
   * @throws {SourceError} if the hub is off, or the endpoint or the token can't be right.
   */
  constructor(
    options: HubOptions,
    callbacks: { signal: AbortSignal; warn: (message: string) => void },
  ) {
    if (options.offline ?? isSet(Deno.env.get("HF_HUB_OFFLINE"))) {
      throw new SourceError(
        "HF_HUB_OFFLINE is set, so nothing is fetched from the hub; unset it, or use data.source embedded or files",
      );
    }
    this.endpoint = parseEndpoint(options.endpoint ?? (Deno.env.get("HF_ENDPOINT") || ENDPOINT));
    this.token = options.token ?? (Deno.env.get("HF_TOKEN")?.trim() || undefined);
    if (this.token !== undefined && !/^hf_[\x21-\x7e]*$/.test(this.token)) {
      throw new SourceError(
        "HF_TOKEN is not a token of the hub; one begins with hf_ and has letters and digits",
      );
    }
    this.#attempts = options.attempts ?? 8;
    this.#backoff = options.backoff_ms ?? 500;
    this.#stall = options.stall_ms ?? 30_000;
    this.#clock = options.clock ?? SYSTEM_CLOCK;
    this.#signal = callbacks.signal;
    this.#warn = callbacks.warn;
  }

  /**
   * A small answer, which is read to its end and parsed within the attempt.
   *
   * @param url An address below the endpoint: the token is sent to no other.
   * @param parse May throw a {@linkcode TransientError}, which leads to another attempt.
   * @throws {SourceError} if there is no answer, or it is not the hub's.
   */
  answer<T>(
    url: string,
    headers: Readonly<Record<string, string>>,
    parse: (answer: Answer) => T,
  ): Promise<T> {
    if (!url.startsWith(`${this.endpoint}/`)) {
      return Promise.reject(
        new SourceError(`${originOf(url)} is not asked: it is not ${originOf(this.endpoint)}`),
      );
    }
    const what = new URL(url).pathname;
    return this.#retry(what, async (guard) => {
      const response = await fetch(url, {
        headers: { ...headers, ...this.#authorization() },
        signal: guard.signal,
      });
      await checkStatus(response, what, this.#clock.now());
      const text = await this.#read(response, what, guard);
      const page = isWebPage(response.headers) ||
        looksLikeWebPage(new TextEncoder().encode(text.slice(0, 1024)));
      if (page) throw notTheHub({ url: response.url, what, is: "a web page", body: text });
      return parse({ text, headers: response.headers, url: response.url });
    });
  }

  async #read(response: Response, what: string, guard: StallGuard): Promise<string> {
    const decoder = new TextDecoder();
    const parts: string[] = [];
    let length = 0;
    for await (const chunk of response.body ?? []) {
      guard.touch();
      length += chunk.length;
      if (length > LONGEST_TEXT) {
        throw new SourceError(
          `${originOf(response.url)} answers ${what} with more than ${
            LONGEST_TEXT / 2 ** 20
          } MiB, which is no page of a listing`,
        );
      }
      parts.push(decoder.decode(chunk, { stream: true }));
    }
    return parts.join("") + decoder.decode();
  }

  #authorization(): Record<string, string> {
    return this.token === undefined ? {} : { authorization: `Bearer ${this.token}` };
  }

  /**
   * Bytes of a file, from `from` to its end, across as many connections as it takes.
   *
   * @param path Path below the endpoint, escaped.
   * @param options `size`: bytes of the whole file; `signal`: ends it, as the hub's own does.
   * @throws {SourceError} if the hub doesn't give all of them.
   */
  async *bytes(
    path: string,
    options: { size: number; from?: number; signal?: AbortSignal },
  ): AsyncGenerator<Uint8Array> {
    const { size } = options;
    const signal = options.signal ? AbortSignal.any([this.#signal, options.signal]) : this.#signal;
    let position = options.from ?? 0;
    let failures = 0;
    while (position < size) {
      using guard = new StallGuard(this.#stall, signal);
      const before = position;
      try {
        for await (const chunk of this.#connection(path, { position, size, guard })) {
          if (position + chunk.length > size) {
            throw new SourceError(
              `${path} is longer than the ${size} bytes that the hub's listing says`,
            );
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
        signal.throwIfAborted();
        failures = position > before ? 1 : failures + 1;
        const reason = guard.explain(error);
        // No connection stays open while nobody reads it.
        guard[Symbol.dispose]();
        await this.#pause(path, reason, { failures, signal });
      }
    }
  }

  /** Bytes of one connection, from `position` on. */
  async *#connection(
    path: string,
    { position, size, guard }: { position: number; size: number; guard: StallGuard },
  ): AsyncGenerator<Uint8Array> {
    const response = await fetch(this.endpoint + path, {
      headers: {
        ...this.#authorization(),
        ...(position > 0 ? { range: `bytes=${position}-` } : {}),
        // The shards are packed; a second packing would hide their length.
        "accept-encoding": "identity",
      },
      signal: guard.signal,
    });
    await checkStatus(response, path, this.#clock.now());
    const page = () =>
      notTheHub({ url: response.url, what: path, is: "a web page in place of the file" });
    const mayBePage = /\.x?html?$/i.test(path);
    if (!mayBePage && isWebPage(response.headers)) throw page();
    let skip = position;
    let whole = response.headers.get("content-length") ?? undefined;
    if (response.status === 206) {
      const range = contentRange(response.headers.get("content-range"));
      if (range.start !== position) {
        throw new TransientError(
          `byte ${position} was asked for and ${range.start ?? "none that is named"} answered`,
        );
      }
      whole = range.size === undefined ? undefined : String(range.size);
      skip = 0;
    }
    // Not a byte of another file is passed on.
    const other = whole !== undefined && /^\d+$/.test(whole) && Number(whole) !== size &&
      response.headers.get("content-encoding") === null;
    if (!response.body) throw new TransientError("the answer has no body");
    let first = response.status !== 206 || position === 0;
    for await (const chunk of response.body) {
      guard.touch();
      if (first && !mayBePage && looksLikeWebPage(chunk)) throw page();
      if (other) break;
      first &&= chunk.length === 0;
      // A server that does not know ranges begins again; the bytes already there are skipped.
      const passed = Math.min(skip, chunk.length);
      skip -= passed;
      if (passed < chunk.length) yield chunk.subarray(passed);
    }
    if (other) {
      throw new TransientError(
        `${originOf(response.url)} has ${whole} bytes; the hub's listing says ${size}`,
      );
    }
  }

  async #retry<T>(what: string, attempt: (guard: StallGuard) => Promise<T>): Promise<T> {
    for (let failures = 1;; failures++) {
      using guard = new StallGuard(this.#stall, this.#signal);
      try {
        return await attempt(guard);
      } catch (error) {
        this.#signal.throwIfAborted();
        const reason = guard.explain(error);
        guard[Symbol.dispose]();
        await this.#pause(what, reason, { failures, signal: this.#signal });
      }
    }
  }

  /** Waits before another attempt, or throws if there is no use in one. */
  async #pause(
    what: string,
    error: unknown,
    { failures, signal }: { failures: number; signal: AbortSignal },
  ): Promise<void> {
    if (!isTransient(error)) throw error;
    const reason = message(error);
    if (failures >= this.#attempts) {
      throw new SourceError(
        `${originOf(this.endpoint)} did not answer for ${what} in ${failures} attempts: ${reason}`,
      );
    }
    const asked = error instanceof TransientError ? error.pause_ms : undefined;
    if (asked !== undefined && asked > LONGEST_ASKED) {
      throw new SourceError(
        `${originOf(this.endpoint)} asks to wait ${
          Math.ceil(asked / 1000)
        } s for ${what} (${reason}); try again later`,
      );
    }
    // A pause of nothing is none that was asked for: the time named is over, or was rounded down.
    const pause = asked ||
      Math.min(LONGEST_PAUSE, this.#backoff * 2 ** (failures - 1)) * (0.5 + Math.random() / 2);
    const seconds = (pause / 1000).toFixed(1);
    this.#warn(
      asked
        ? `${what}: ${reason}; waiting ${seconds} s, as the answer asks`
        : `${what}: ${reason}; trying again in ${seconds} s`,
    );
    await this.#clock.sleep(pause, signal);
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
  if (!URL.canParse(value)) {
    throw new SourceError(
      `HF_ENDPOINT ${quote(value)} is not a URL; expected one such as ${ENDPOINT}`,
    );
  }
  const url = new URL(value);
  if (url.protocol !== "https:" && url.protocol !== "http:") {
    throw new SourceError(`HF_ENDPOINT ${quote(value)} is not an http or https URL`);
  }
  if (url.search !== "" || url.hash !== "") {
    throw new SourceError(
      `HF_ENDPOINT ${quote(value)} has a ${
        url.search === "" ? "#" : "?"
      }; expected an origin and a path, such as ${ENDPOINT}`,
    );
  }
  return (url.href.replace(/[?#].*$/, "")).replace(/\/+$/, "");
}

function isSet(value: string | undefined): boolean {
  return value !== undefined && /^(?:1|true|yes|on)$/i.test(value.trim());
}

const SYSTEM_CLOCK: Clock = { now: () => Date.now(), sleep };

function sleep(ms: number, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
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
