/**
 * Exchanges with a server: attempts with growing pauses, and an end to those that make no progress.
 *
 * @module
 */

import { LocalError, RemoteError, TransientError } from "./error.ts";

/** How long a server is waited for. */
export interface Patience {
  /** Attempts of one exchange, the first one included. */
  readonly attempts: number;
  /** Attempts that may end for lack of progress. */
  readonly stalls: number;
  /** Milliseconds in which at least {@linkcode PROGRESS_BYTES} must come, or the end. */
  readonly stallMs: number;
  /** Milliseconds before the second attempt; each later pause is twice as long, up to half a minute. */
  readonly backoffMs: number;
}

/** The patience of commands. */
export const PATIENCE: Patience = { attempts: 4, stalls: 2, stallMs: 30_000, backoffMs: 500 };

/** Bytes that count as progress. */
const PROGRESS_BYTES = 1024;
/** A sent body shows no progress until it is answered: it gets a millisecond more for each 32 bytes. */
const SENT_BYTES_PER_MS = 32;
/** No pause is longer, whatever a server asks for. */
const LONGEST_PAUSE_MS = 30_000;

/** Ends an attempt that makes no progress. */
export class Watch implements Disposable {
  readonly #controller = new AbortController();
  readonly #outer: AbortSignal;
  readonly #forward: () => void;
  #timer: ReturnType<typeof setTimeout>;
  #bytes = 0;
  /** Whether it ended the attempt. */
  stalled = false;

  /** `sending` is the size of a body that is sent as a whole. */
  constructor(stallMs: number, outer: AbortSignal, sending = 0) {
    this.#outer = outer;
    this.#forward = () => this.#controller.abort(outer.reason);
    if (outer.aborted) this.#forward();
    outer.addEventListener("abort", this.#forward);
    const first = stallMs + sending / SENT_BYTES_PER_MS;
    const check = () => {
      if (this.#bytes >= PROGRESS_BYTES) {
        this.#bytes = 0;
        this.#timer = setTimeout(check, stallMs);
      } else {
        this.stalled = true;
        this.#controller.abort(new TransientError("made no progress"));
      }
    };
    this.#timer = setTimeout(check, first);
  }

  /** Aborted when the attempt has to end. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Bytes have come, or gone. */
  progress(bytes: number): void {
    this.#bytes += bytes;
  }

  /** Stops watching. */
  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    this.#outer.removeEventListener("abort", this.#forward);
  }
}

/** An exchange and its circumstances. */
export interface ExchangeOptions {
  /** The remote's name. */
  readonly name: string;
  /** The work, for messages: `GET nodes/ab/…`. */
  readonly doing: string;
  readonly patience: Patience;
  readonly signal: AbortSignal;
  /** Bytes of a body that is sent as a whole. */
  readonly sending?: number;
}

/**
 * Attempts an exchange until it succeeds.
 *
 * @throws RemoteError when a server can't be reached, refuses, or failed at each attempt.
 */
export async function exchange<T>(
  attempt: (watch: Watch) => Promise<T>,
  options: ExchangeOptions,
): Promise<T> {
  const { name, doing, patience, signal, sending } = options;
  let stalls = 0;
  for (let n = 1;; n++) {
    using watch = new Watch(patience.stallMs, signal, sending);
    let after: number | undefined;
    try {
      return await attempt(watch);
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof RemoteError) throw error;
      if (error instanceof LocalError) throw error.cause;
      if (error instanceof Deno.errors.NotCapable) {
        throw new RemoteError(
          `${name}: the program may not reach the network; run it with --allow-net.`,
          { fault: "denied" },
        );
      }
      const problem = watch.stalled
        ? `made no progress for ${patience.stallMs / 1000} s`
        : error instanceof TransientError
        ? error.message
        : describeNetworkError(error);
      if (watch.stalled) stalls++;
      if (n >= patience.attempts || stalls >= patience.stalls) {
        throw new RemoteError(
          `${name}: ${doing} ${problem}${n > 1 ? `; gave up after ${n} attempts` : ""}.`,
          { fault: "unavailable" },
        );
      }
      if (error instanceof TransientError) after = error.after;
    }
    const doubled = patience.backoffMs * 2 ** (n - 1) * (0.75 + Math.random() / 2);
    await pause(Math.min(LONGEST_PAUSE_MS, after ?? doubled), signal);
  }
}

async function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, milliseconds);
  const stop = () => resolve();
  signal.addEventListener("abort", stop);
  try {
    await promise;
    signal.throwIfAborted();
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", stop);
  }
}

/** The failure of a connection in a few words. The runtime's own message holds the whole address. */
function describeNetworkError(error: unknown): string {
  const text: string[] = [];
  for (let e = error; e instanceof Error; e = e.cause as Error) text.push(e.message);
  const all = text.join(" ");
  if (/refused/i.test(all)) return "failed: the connection was refused";
  if (/dns|lookup|resolve/i.test(all)) return "failed: the host's name is not known";
  if (/certificate|tls|handshake/i.test(all)) return "failed: the TLS connection could not be made";
  if (/blocked/i.test(all)) return "failed: the runtime blocks this port";
  if (/timed out/i.test(all)) return "failed: the connection timed out";
  return "failed: the connection broke off";
}

/** Refuses to take a server's momentary failure for its answer. */
export async function refuseTransient(response: Response): Promise<void> {
  const { status } = response;
  if (status !== 408 && status !== 429 && status < 500) return;
  // "Not implemented" and its like stay as they are.
  if (status === 501 || status === 505) return;
  await drop(response);
  throw new TransientError(`answered with status ${status}`, retryAfter(response.headers));
}

/** Milliseconds of a `Retry-After` header: seconds, or a date. */
export function retryAfter(headers: Headers, now = Date.now()): number | undefined {
  const value = headers.get("retry-after")?.trim();
  if (value === undefined || value === "") return undefined;
  const milliseconds = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - now;
  return Number.isFinite(milliseconds) ? Math.max(0, milliseconds) : undefined;
}

/** Lets go of an answer whose body nobody reads. */
export async function drop(response: Response): Promise<void> {
  await response.body?.cancel().catch(() => {});
}

/** The first characters of an answer, to find out why it is no success. */
export async function readHead(response: Response, characters = 4096): Promise<string> {
  let text = "";
  const decoder = new TextDecoder();
  for await (const chunk of response.body ?? []) {
    text += decoder.decode(chunk, { stream: true });
    if (text.length >= characters) break;
  }
  return text.slice(0, characters);
}
