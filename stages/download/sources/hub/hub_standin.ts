/**
 * A stand-in for the Hugging Face hub on the loopback interface, for tests: lists and serves files of one dataset, and
 * misbehaves on demand.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { gzipSync } from "node:zlib";

/** One thing that goes wrong with one request, the next that fits. */
export interface Fault {
  /** Which request: the listing (`tree`) or a file (`resolve`). */
  readonly on: "tree" | "resolve";
  /**
   * `status`: an answer with `status` and `headers`; `page`: an answer with status 200, `headers` and `body`; `truncate`: the connection breaks after `bytes`; `stall`: silence
   * after `bytes`; `redirect`: to the stand-in's second host; `ignore_range`: the whole file, whatever the range.
   */
  readonly kind: "status" | "page" | "truncate" | "stall" | "redirect" | "ignore_range";
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
  readonly bytes?: number;
  /** The answer waits for it. */
  readonly after?: Promise<void>;
}

/** A request that was answered. */
export interface SeenRequest {
  readonly host: "hub" | "other";
  readonly path: string;
  readonly range: string | null;
  readonly authorization: string | null;
}

/** The content of the stand-in. */
export interface HubContent {
  /** Files by path in the dataset. */
  readonly files: Readonly<Record<string, Uint8Array<ArrayBuffer>>>;
  /** Hashes to list instead of the right ones. */
  readonly oids?: Readonly<Record<string, string>>;
  /** Entries a page of the listing. */
  readonly page?: number;
  /** Path that the stand-in lies below, `/some/path`; its own `Link` headers leave it out. */
  readonly prefix?: string;
  /** The `Link` header of a page with another after it, from that one's path and query below the prefix. */
  readonly link?: (next: string) => string;
  /** Entries of the listing beside the files, on its last page. */
  readonly entries?: readonly unknown[];
  /** Faults, used up one a request. */
  readonly faults?: readonly Fault[];
}

/** Packs texts as a shard of C4. */
export function c4Shard(texts: readonly string[]): Uint8Array<ArrayBuffer> {
  const lines = texts.map((text, index) =>
    JSON.stringify({ text, timestamp: "2019-04-25T12:57:54Z", url: `http://example.com/${index}` })
  );
  return new Uint8Array(gzipSync(lines.join("\n") + "\n"));
}

/** The stand-in; stops serving when disposed of. */
export class HubStandin implements AsyncDisposable {
  /** Value for `HF_ENDPOINT`. */
  readonly endpoint: string;
  /** Requests so far. */
  readonly requests: SeenRequest[] = [];
  readonly #content: HubContent;
  readonly #faults: Fault[];
  readonly #servers: Deno.HttpServer<Deno.NetAddr>[];
  readonly #stopped = Promise.withResolvers<void>();

  constructor(content: HubContent) {
    this.#content = content;
    this.#faults = [...content.faults ?? []];
    const serve = (host: "hub" | "other") =>
      Deno.serve(
        { hostname: "127.0.0.1", port: 0, onListen: () => {} },
        (request) => this.#answer(host, request),
      );
    this.#servers = [serve("hub"), serve("other")];
    this.endpoint = origin(this.#servers[0]!) + (content.prefix ?? "");
  }

  /** Faults that no request has met. */
  get unused(): readonly Fault[] {
    return this.#faults;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopped.resolve();
    await Promise.all(this.#servers.map((server) => server.shutdown()));
  }

  async #answer(host: "hub" | "other", request: Request): Promise<Response> {
    const url = new URL(request.url);
    const { headers } = request;
    const prefix = this.#content.prefix ?? "";
    if (host === "hub" && !url.pathname.startsWith(`${prefix}/`)) {
      return new Response("nothing is here", { status: 404 });
    }
    if (host === "hub") url.pathname = url.pathname.slice(prefix.length);
    const range = headers.get("range");
    const authorization = headers.get("authorization");
    this.requests.push({ host, path: url.pathname, range, authorization });
    const on = url.pathname.startsWith("/api/") ? "tree" : "resolve";
    const index = this.#faults.findIndex((fault) => fault.on === on);
    const fault = host === "hub" && index >= 0 ? this.#faults.splice(index, 1)[0] : undefined;
    await fault?.after;
    if (fault?.kind === "status") {
      return new Response("no", { status: fault.status ?? 500, headers: fault.headers ?? {} });
    }
    if (fault?.kind === "page") {
      return new Response(fault.body ?? "", { headers: fault.headers ?? {} });
    }
    if (fault?.kind === "redirect") {
      return Response.redirect(origin(this.#servers[1]!) + url.pathname, 302);
    }
    if (on === "tree") return this.#list(url);
    return await this.#serve(url, range, fault);
  }

  #list(url: URL): Response {
    const tree = /^\/api\/datasets\/[^/]+\/[^/]+\/tree\/[^/]+(?:\/(.*))?$/;
    const folder = url.pathname.match(tree)?.[1] ?? "";
    const entries = Object.entries(this.#content.files).map(([path, bytes]) => ({
      type: "file",
      path,
      size: bytes.length,
      oid: "0".repeat(40),
      lfs: {
        oid: this.#content.oids?.[path] ?? createHash("sha256").update(bytes).digest("hex"),
        size: bytes.length,
        pointerSize: 134,
      },
    })).filter(({ path }) => path.startsWith(folder));
    if (entries.length === 0) return Response.json({ error: "Entry not found" }, { status: 404 });
    const page = this.#content.page ?? entries.length;
    const start = Number(url.searchParams.get("cursor") ?? 0);
    const next = new URL(url);
    next.searchParams.set("cursor", String(start + page));
    const target = next.pathname + next.search;
    const more = start + page < entries.length;
    const link = this.#content.link?.(target) ?? `<${url.origin}${target}>; rel="next"`;
    const listed = [
      ...entries.slice(start, start + page),
      ...more ? [] : this.#content.entries ?? [],
    ];
    return Response.json(listed, { headers: more ? { link } : {} });
  }

  async #serve(url: URL, range: string | null, fault: Fault | undefined): Promise<Response> {
    const path = url.pathname.match(/^\/datasets\/[^/]+\/[^/]+\/resolve\/[^/]+\/(.*)$/)?.[1] ?? "";
    const whole = this.#content.files[decodeURIComponent(path)];
    if (!whole) return new Response("Entry not found", { status: 404 });
    const asked = fault?.kind === "ignore_range" ? null : range?.match(/^bytes=(\d+)-$/);
    const from = asked ? Number(asked[1]) : 0;
    const bytes = whole.subarray(from);
    const headers = {
      "content-length": String(bytes.length),
      ...(asked ? { "content-range": `bytes ${from}-${whole.length - 1}/${whole.length}` } : {}),
    };
    const status = asked ? 206 : 200;
    if (fault?.kind !== "truncate" && fault?.kind !== "stall") {
      return new Response(bytes, { status, headers });
    }
    const part = bytes.subarray(0, fault.bytes ?? 0);
    const stopped = this.#stopped.promise;
    let sent = false;
    const body = new ReadableStream<Uint8Array>({
      async pull(controller) {
        if (!sent && part.length > 0) {
          sent = true;
          controller.enqueue(part);
          return;
        }
        if (fault.kind === "stall") {
          await stopped;
          controller.close();
        } else {
          // Lets the bytes sent leave before the connection breaks.
          await new Promise((resolve) => setTimeout(resolve, 20));
          controller.error(new Error("broken on demand"));
        }
      },
    });
    return await Promise.resolve(new Response(body, { status, headers }));
  }
}

function origin(server: Deno.HttpServer<Deno.NetAddr>): string {
  return `http://127.0.0.1:${server.addr.port}`;
}
