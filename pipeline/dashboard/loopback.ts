/**
 * A server of pages on loopback: it answers this machine alone, under names of this machine alone.
 *
 * @module
 */

import { explain, UserError } from "../errors.ts";
import { fail, RequestError } from "./response.ts";

/** The answers of a server, and the place where errors are told. */
export interface LoopbackOptions {
  /** Answers `GET` and `HEAD`. @throws {RequestError} For what the client did wrong. */
  readonly answer: (request: Request) => Response | Promise<Response>;
  /** Told of errors that are the server's own. */
  readonly warn?: (line: string) => void;
}

/** A server that listens. */
export interface LoopbackServer {
  /** Where the page is. */
  readonly url: string;
  /** Fulfilled when the server has stopped. */
  readonly finished: Promise<void>;
}

/**
 * Starts to serve on 127.0.0.1.
 *
 * @throws UserError when the port is taken or refused.
 */
export function serveLoopback(
  options: LoopbackOptions & { readonly port: number; readonly signal: AbortSignal },
): LoopbackServer {
  const { port, signal } = options;
  let server: Deno.HttpServer<Deno.NetAddr> | undefined;
  let handle: ReturnType<typeof loopbackHandler> | undefined;
  try {
    server = Deno.serve({ hostname: "127.0.0.1", port, signal, onListen: () => {} }, (request) => {
      // Made with the first request: only then is the port of `--port 0` known to everybody.
      handle ??= loopbackHandler({ ...options, port: server!.addr.port });
      return handle(request);
    });
  } catch (error) {
    if (error instanceof Deno.errors.AddrInUse) {
      throw new UserError(
        `Port ${port} of 127.0.0.1 is in use; expected a free one: --port 0 takes any.`,
      );
    }
    throw new UserError(explain(error, `listening on port ${port} of 127.0.0.1`));
  }
  return { url: `http://127.0.0.1:${server.addr.port}/`, finished: server.finished };
}

/** Makes what answers requests; `port` is the one that clients name in `Host`. */
export function loopbackHandler(
  options: LoopbackOptions & { readonly port: number },
): (request: Request) => Promise<Response> {
  const hosts = new Set(["127.0.0.1", "localhost"].map((name) => `${name}:${options.port}`));
  // Browsers leave out the port that is the scheme's own.
  if (options.port === 80) { for (const name of ["127.0.0.1", "localhost"]) hosts.add(name); }
  return async (request) => {
    try {
      // A page of another name that resolves to loopback must read nothing here.
      if (!hosts.has(request.headers.get("host") ?? "")) {
        return fail(403, `Host is not ${[...hosts][0]}.`);
      }
      if (request.method !== "GET" && request.method !== "HEAD") {
        return fail(405, `${request.method} is not allowed; expected GET.`, { allow: "GET, HEAD" });
      }
      return await options.answer(request);
    } catch (error) {
      if (error instanceof RequestError) return fail(error.status, error.message);
      options.warn?.(`${new URL(request.url).pathname}: ${explain(error)}`);
      return fail(500, "The server could not read that; its terminal says why.");
    }
  };
}
