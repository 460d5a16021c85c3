/**
 * A remote store behind a web server: read with GET and HEAD, written with PUT.
 *
 * @module
 */

import type { RemoteAddress } from "./address.ts";
import type { Backend, Sink, Source, TransferOptions } from "./backend.ts";
import { RemoteError } from "./error.ts";
import { drop, exchange, type Patience, refuseTransient, type Watch } from "./exchange.ts";
import { local, rangeOf, readPart, receive } from "./http_transfer.ts";

/** A larger file is sent as a stream, in chunks, whose number the server isn't told beforehand. */
const WHOLE_BYTES = 8 << 20;

/** Options of {@linkcode WebBackend}. */
export interface WebOptions {
  readonly patience: Patience;
  /** Sent as bearer token. */
  readonly token?: string | undefined;
}

interface WebRequest {
  readonly method: "GET" | "HEAD" | "PUT";
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Makes the body anew for each attempt. */
  body?(watch: Watch): Promise<BodyInit>;
  /** Bytes of a body that is sent as a whole. */
  readonly sending?: number;
}

/** Files below an address. */
export class WebBackend implements Backend {
  readonly name: string;
  readonly #url: string;
  readonly #options: WebOptions;

  constructor(address: Extract<RemoteAddress, { kind: "http" }>, options: WebOptions) {
    this.name = address.name;
    this.#url = address.url;
    this.#options = options;
  }

  async size(path: string, options: TransferOptions): Promise<number | undefined> {
    return await this.#request(() => ({ method: "HEAD", path }), options, async (response) => {
      await drop(response);
      if (!response.ok) return undefined;
      return Number(response.headers.get("content-length") ?? NaN);
    });
  }

  async read(path: string, sink: Sink, options: TransferOptions): Promise<boolean> {
    // A server that compresses would give other bytes than it stores, and no ranges of them.
    const make = (): WebRequest => (
      { method: "GET", path, headers: { "accept-encoding": "identity", ...rangeOf(sink) } }
    );
    return await this.#request(make, options, async (response, watch) => {
      if (response.status === 404 || response.status === 410) {
        await drop(response);
        return false;
      }
      await receive(response, sink, watch);
      return true;
    });
  }

  async write(path: string, source: Source, options: TransferOptions): Promise<void> {
    let sent = 0;
    const count = (bytes: number) => {
      sent += bytes;
      options.onBytes?.(bytes);
    };
    const size = "bytes" in source ? source.bytes.length : source.size;
    const make = (): WebRequest => {
      if ("bytes" in source || size <= WHOLE_BYTES) {
        const body = async () =>
          "bytes" in source
            ? source.bytes
            : await local(() => readPart(source.path, { from: 0, size }));
        return { method: "PUT", path, body, sending: size };
      }
      return {
        method: "PUT",
        path,
        body: async (watch) => {
          // An attempt that failed has counted bytes that go once more.
          count(-sent);
          const file = await local(() => Deno.open(source.path));
          return file.readable.pipeThrough(
            new TransformStream<Uint8Array, Uint8Array>({
              transform(chunk, controller) {
                watch.progress(chunk.length);
                count(chunk.length);
                controller.enqueue(chunk);
              },
            }),
          );
        },
      };
    };
    await this.#request(make, options, drop);
    count(size - sent);
  }

  async #request<T>(
    make: () => WebRequest,
    { signal }: TransferOptions,
    use: (response: Response, watch: Watch) => Promise<T>,
  ): Promise<T> {
    const { method, path, sending } = make();
    const { patience, token } = this.#options;
    return await exchange(async (watch) => {
      const request = make();
      const response = await fetch(`${this.#url}/${path}`, {
        method,
        headers: {
          ...request.headers,
          ...token === undefined ? {} : { authorization: `Bearer ${token}` },
        },
        body: await request.body?.(watch) ?? null,
        signal: watch.signal,
      });
      await refuseTransient(response);
      const missing = method !== "PUT" && (response.status === 404 || response.status === 410);
      // The sink knows whether it lacks something.
      const ended = response.status === 416 && request.headers?.["range"] !== undefined;
      if (!response.ok && !missing && !ended) {
        await drop(response);
        throw this.#refusal(method, path, response.status);
      }
      return await use(response, watch);
    }, { name: this.name, doing: `${method} ${path}`, patience, signal, sending: sending ?? 0 });
  }

  #refusal(method: string, path: string, status: number): RemoteError {
    const problem = status === 401 || status === 403
      ? `permission was denied for ${method} ${path}; ${
        this.#options.token === undefined
          ? "ETHOS_REMOTE_TOKEN holds a bearer token, and is not set"
          : `the token of ETHOS_REMOTE_TOKEN does not allow ${method}`
      } (status ${status})`
      : method === "PUT" && (status === 405 || status === 501)
      ? `the server takes no files: ${method} ${path} was refused (status ${status})`
      : `${method} ${path} was refused (status ${status})`;
    return new RemoteError(`${this.name}: ${problem}.`, { fault: "denied" });
  }
}
