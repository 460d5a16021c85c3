/**
 * A stand-in for the models of the Hugging Face hub on the loopback interface, for tests.
 *
 * @module
 */

import { createHash } from "node:crypto";

/** Options of {@linkcode ModelHub}. */
export interface ModelHubOptions {
  /** `ORG/NAME`. */
  readonly name: string;
  /** Files by name. */
  readonly files: Readonly<Record<string, Uint8Array<ArrayBuffer>>>;
  /** Digits of the commit that `main` is at. */
  readonly commit: string;
  /** The token without which nothing is given. */
  readonly token?: string;
  /** Files that are no large ones: their hash is that of a git blob. */
  readonly small?: readonly string[];
}

/** The stand-in; stops serving when disposed of. */
export class ModelHub implements AsyncDisposable {
  /** Value for `HF_ENDPOINT`. */
  readonly endpoint: string;
  /** Paths that were asked for, with the range if there was one. */
  readonly requests: string[] = [];
  /** Bytes after which the next answers with a file break off, in turn. */
  readonly breaks: number[] = [];
  /** Hashes to list instead of the right ones. */
  readonly hashes = new Map<string, string>();
  readonly #options: ModelHubOptions;
  readonly #server: Deno.HttpServer<Deno.NetAddr>;

  constructor(options: ModelHubOptions) {
    this.#options = options;
    const listen = { hostname: "127.0.0.1", port: 0, onListen: () => {} };
    this.#server = Deno.serve(listen, (request) => this.#answer(request));
    this.endpoint = `http://127.0.0.1:${this.#server.addr.port}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.shutdown();
  }

  #answer(request: Request): Response {
    const { name, files, commit, token } = this.#options;
    const { pathname, searchParams } = new URL(request.url);
    const range = request.headers.get("range");
    this.requests.push(pathname + (range === null ? "" : ` ${range}`));
    const allowed = token === undefined ||
      request.headers.get("authorization") === `Bearer ${token}`;
    if (!allowed) return new Response("no", { status: 401 });
    for (const revision of ["main", commit]) {
      if (pathname !== `/api/models/${name}/revision/${revision}`) continue;
      if (searchParams.get("blobs") !== "true") return new Response("no", { status: 400 });
      const siblings = Object.keys(files).map((file) => this.#describe(file));
      return Response.json({ id: name, sha: commit, siblings });
    }
    const start = `/${name}/resolve/${commit}/`;
    const whole = pathname.startsWith(start)
      ? files[decodeURIComponent(pathname.slice(start.length))]
      : undefined;
    if (!whole) return new Response("no", { status: 404 });
    return this.#serve(whole, Number(/^bytes=(\d+)-$/.exec(range ?? "")?.[1] ?? 0));
  }

  #describe(file: string): unknown {
    const bytes = this.#options.files[file]!;
    const size = bytes.length;
    if (this.#options.small?.includes(file)) {
      const blob = createHash("sha1").update(`blob ${size}\0`).update(bytes).digest("hex");
      return { rfilename: file, size, blobId: this.hashes.get(file) ?? blob };
    }
    const sha256 = this.hashes.get(file) ?? createHash("sha256").update(bytes).digest("hex");
    const lfs = { sha256, size, pointerSize: 134 };
    return { rfilename: file, size, blobId: "0".repeat(40), lfs };
  }

  #serve(whole: Uint8Array<ArrayBuffer>, from: number): Response {
    const rest = whole.subarray(from);
    const headers = {
      "content-length": String(rest.length),
      ...(from > 0 && { "content-range": `bytes ${from}-${whole.length - 1}/${whole.length}` }),
    };
    const status = from > 0 ? 206 : 200;
    const after = this.breaks.shift();
    if (after === undefined) return new Response(rest, { status, headers });
    let sent = false;
    const body = new ReadableStream<Uint8Array>({
      async pull(controller) {
        if (!sent) {
          sent = true;
          controller.enqueue(rest.subarray(0, after));
          return;
        }
        // Lets the bytes sent leave before the connection breaks.
        await new Promise((resolve) => setTimeout(resolve, 20));
        controller.error(new Error("broken on demand"));
      },
    });
    return new Response(body, { status, headers });
  }
}
