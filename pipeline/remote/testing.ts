/**
 * Servers for the tests of remote stores, all on the loopback interface: S3, a web server of files, and a proxy before
 * either that injects faults.
 *
 * @module
 */

import { createServer, request, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { dirname, fromFileUrl, join } from "@std/path";
import { nodeKey } from "../graph/key.ts";
import { type NodeRecord, outputsDigest, type PublishedOutput } from "../store/records/records.ts";
import { Store } from "../store/store.ts";
import type { Display } from "../terminal/progress.ts";
import type { Sink } from "./backend.ts";
import type { Patience } from "./exchange.ts";

const S3_FOLDER = fromFileUrl(new URL("./testdata/s3", import.meta.url));

/** The bucket of {@linkcode S3Server}. */
export const BUCKET = "models";
/** Its credentials. */
export const S3_KEY = "S3RVER";

/** Short pauses, and patience with a busy machine. */
export const PATIENT: Patience = { attempts: 3, stalls: 2, stallMs: 30_000, backoffMs: 5 };
/** Gives up soon, for requests that are never answered; a busy machine seems silent too. */
export const HASTY: Patience = { ...PATIENT, stallMs: 400 };
/** Ends an attempt soon and makes another, for one silent answer: a busy machine costs it attempts, not the end. */
export const STUBBORN: Patience = { ...HASTY, attempts: 50, stalls: 50 };

/** Starting downloads packages the first time. */
const START_MS = 120_000;
const STOP_MS = 30_000;

/**
 * Waits for some milliseconds at most.
 *
 * @throws Error that says what took longer.
 */
export async function within<T>(
  work: Promise<T>,
  { milliseconds, doing }: { milliseconds: number; doing: string },
): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(
    () => reject(new Error(`${doing} took longer than ${milliseconds / 1000} s.`)),
    milliseconds,
  );
  try {
    return await Promise.race([work, promise]);
  } finally {
    clearTimeout(timer);
  }
}

/** An S3 server in a process of its own. */
export class S3Server implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly port: number;
  /** Folder of its objects. */
  readonly folder: string;

  private constructor(child: Deno.ChildProcess, port: number, folder: string) {
    this.#child = child;
    this.port = port;
    this.folder = folder;
  }

  /** Starts a server with an empty bucket; its packages come from the registry the first time. */
  static async start(): Promise<S3Server> {
    const folder = await Deno.makeTempDir({ prefix: "s3_" });
    const child = new Deno.Command(Deno.execPath(), {
      args: [
        "run",
        "--quiet",
        "--frozen",
        `--config=${join(S3_FOLDER, "deno.json")}`,
        "--allow-read",
        "--allow-write",
        "--allow-env",
        "--allow-sys",
        "--allow-net=127.0.0.1",
        "--no-prompt",
        join(S3_FOLDER, "server.js"),
        folder,
        BUCKET,
      ],
      stdin: "piped",
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
    const doing = "The start of the S3 server";
    try {
      const { value } = await within(reader.read(), { milliseconds: START_MS, doing });
      await reader.cancel();
      const port = Number(value);
      if (!(port > 0)) throw new Error("The S3 server did not start.");
      return new S3Server(child, port, folder);
    } catch (error) {
      child.kill("SIGKILL");
      throw error;
    }
  }

  /** Removes the bucket with all that is in it. */
  async removeBucket(): Promise<void> {
    await Deno.remove(join(this.folder, BUCKET), { recursive: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const doing = "The stop of the S3 server";
    try {
      const stopped = this.#child.stdin.close().then(() => this.#child.status);
      await within(stopped, { milliseconds: STOP_MS, doing });
    } catch (error) {
      this.#child.kill("SIGKILL");
      throw error;
    } finally {
      await Deno.remove(this.folder, { recursive: true });
    }
  }
}

/** A fault that a proxy injects, `times` times (1 unless given), into requests of a method and a path. */
export type Fault =
  & {
    readonly method?: string;
    readonly path?: RegExp;
    /** Only requests for the bytes from some place on. */
    readonly range?: boolean;
    times?: number;
  }
  & (
    /** Answers in the server's place. */
    | {
      readonly kind: "status";
      readonly status: number;
      readonly body?: string;
      readonly headers?: Record<string, string>;
    }
    /** Breaks the connection after so many bytes of the answer's body; a body that is not longer comes whole. */
    | { readonly kind: "truncate"; readonly after: number }
    /**
     * Sends so many bytes of the answer's body, and then nothing; a body that is not longer comes whole. With 0, no
     * answer at all.
     */
    | { readonly kind: "stall"; readonly after: number }
    /** Changes the first byte of the answer's body. */
    | { readonly kind: "corrupt" }
    /** Ends an answer early, with a length that says it is whole. */
    | { readonly kind: "shorten"; readonly by: number }
  );

/** A proxy before a server. */
export class FaultyProxy implements AsyncDisposable {
  readonly #server: Server;
  /** Faults to inject, the first that fits first. */
  readonly faults: Fault[] = [];
  /** `GET /models/…`, in order. */
  readonly requests: string[] = [];
  readonly port: number;

  private constructor(server: Server, port: number) {
    this.#server = server;
    this.port = port;
  }

  static async start(target: number): Promise<FaultyProxy> {
    const server = createServer();
    const listens = new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    await within(listens, { milliseconds: STOP_MS, doing: "The start of the proxy" });
    const proxy = new FaultyProxy(server, (server.address() as AddressInfo).port);
    server.on("request", (incoming, outgoing) => {
      const { method = "GET", url = "/" } = incoming;
      proxy.requests.push(`${method} ${url}`);
      const fault = proxy.#take(method, url, incoming.headers.range !== undefined);
      if (fault?.kind === "status") {
        incoming.resume();
        incoming.on("end", () => outgoing.writeHead(fault.status, fault.headers).end(fault.body));
        return;
      }
      const headers = incoming.headers;
      const options = { host: "127.0.0.1", port: target, method, path: url, headers };
      const forwarded = request(options, (answer) => {
        const chunks: Uint8Array[] = [];
        answer.on("data", (chunk: Uint8Array) => chunks.push(chunk));
        answer.on("end", () => {
          let body = new Uint8Array(chunks.reduce((sum, { length }) => sum + length, 0));
          let at = 0;
          for (const chunk of chunks) {
            body.set(chunk, at);
            at += chunk.length;
          }
          const sent = { ...answer.headers };
          if (fault?.kind === "corrupt" && body.length > 0) body[0]! ^= 1;
          if (fault?.kind === "shorten") {
            body = body.slice(0, body.length - fault.by);
            sent["content-length"] = `${body.length}`;
          }
          if (fault?.kind === "stall" && fault.after === 0) return;
          outgoing.writeHead(answer.statusCode ?? 500, sent);
          const breaks = fault?.kind === "truncate" || fault?.kind === "stall";
          // An answer with all of its bytes is whole for the client, which would use the connection again.
          if (breaks && fault.after < body.length) {
            outgoing.write(body.slice(0, fault.after), () => {
              // Lets the bytes leave before the connection breaks.
              if (fault.kind === "truncate") setTimeout(() => outgoing.destroy(), 30);
            });
            return;
          }
          outgoing.end(method === "HEAD" ? undefined : body);
        });
      });
      forwarded.on("error", () => outgoing.destroy());
      // Otherwise the server waits for the rest of a request that was given up.
      outgoing.on("close", () => forwarded.destroy());
      incoming.pipe(forwarded);
    });
    return proxy;
  }

  #take(method: string, url: string, range: boolean): Fault | undefined {
    const fault = this.faults.find((fault) =>
      (fault.method ?? method) === method && (fault.path?.test(url) ?? true) &&
      (fault.range ?? range) === range
    );
    if (fault === undefined) return undefined;
    fault.times = (fault.times ?? 1) - 1;
    if (fault.times === 0) this.faults.splice(this.faults.indexOf(fault), 1);
    return fault;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    const closed = new Promise((resolve) => this.#server.close(resolve));
    await within(closed, { milliseconds: STOP_MS, doing: "The stop of the proxy" });
  }
}

/** A web server of the files of a folder, with GET, ranges, HEAD and PUT. */
export class FileServer implements AsyncDisposable {
  readonly folder: string;
  readonly #server: Deno.HttpServer<Deno.NetAddr>;
  /** The bearer token that PUT needs. */
  readonly token = "a-token-that-nobody-may-see";
  /** Whether reading needs it too. */
  guarded = false;

  private constructor(folder: string) {
    this.folder = folder;
    const listen = { hostname: "127.0.0.1", port: 0, onListen() {} };
    this.#server = Deno.serve(listen, (request) => this.#answer(request));
  }

  static async start(): Promise<FileServer> {
    return new FileServer(await Deno.makeTempDir({ prefix: "web_" }));
  }

  get port(): number {
    return this.#server.addr.port;
  }

  async #answer(request: Request): Promise<Response> {
    const path = join(this.folder, new URL(request.url).pathname);
    const known = request.headers.get("authorization") === `Bearer ${this.token}`;
    if (!known && (this.guarded || request.method === "PUT")) {
      return new Response("no", { status: 401 });
    }
    if (request.method === "PUT") {
      await Deno.mkdir(dirname(path), { recursive: true });
      await Deno.writeFile(path, request.body ?? new Uint8Array());
      return new Response(null, { status: 201 });
    }
    const bytes = await Deno.readFile(path).catch(() => undefined);
    if (bytes === undefined) return new Response("nothing", { status: 404 });
    const from = Number(/^bytes=(\d+)-$/.exec(request.headers.get("range") ?? "")?.[1] ?? 0);
    if (from > 0 && from >= bytes.length) {
      const headers = { "content-range": `bytes */${bytes.length}` };
      return new Response("nothing more", { status: 416, headers });
    }
    const rest = bytes.subarray(from);
    return new Response(request.method === "HEAD" ? null : rest, {
      status: from > 0 ? 206 : 200,
      headers: {
        "content-length": `${rest.length}`,
        ...from > 0 && { "content-range": `bytes ${from}-${bytes.length - 1}/${bytes.length}` },
      },
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const doing = "The stop of the web server";
    await within(this.#server.shutdown(), { milliseconds: STOP_MS, doing });
    await Deno.remove(this.folder, { recursive: true });
  }
}

/** A store in a temporary folder. */
export class TestStore implements AsyncDisposable {
  readonly store: Store;

  private constructor(store: Store) {
    this.store = store;
  }

  static async create(): Promise<TestStore> {
    const dir = await Deno.makeTempDir({ prefix: "store_" });
    return new TestStore(await Store.open(dir, { command: "test", create: true }));
  }

  /** Publishes a node with a directory of files and metrics. */
  async publish(
    name: string,
    files: Readonly<Record<string, Uint8Array<ArrayBuffer>>>,
  ): Promise<NodeRecord> {
    const { store } = this;
    const components = {
      format: 1,
      stage: "n",
      params: { name },
      inputs: {},
      code: { digest: "c", files: {}, packages: {} },
    } as const;
    const key = nodeKey(components);
    const origin = { node: name, key, output: "files" };
    const objects = [];
    const entries = [];
    for (const [path, bytes] of Object.entries(files)) {
      const from = join(store.temporary, crypto.randomUUID());
      await Deno.writeFile(from, bytes);
      const object = await store.objects.put(from, { ...origin, path });
      objects.push(object);
      entries.push({ path, sha256: object.sha256, size: object.size });
    }
    const csv = await store.objects.putText("step,name,value\n3,loss,0.5\n", origin);
    const metrics = { sha256: csv.sha256, size: csv.size, rows: 1 };
    const outputs: Record<string, PublishedOutput> = {
      files: { kind: "directory", files: entries },
      about: { kind: "json", value: { name } },
    };
    const record: NodeRecord = {
      format: 1,
      key,
      node: name,
      stage: "n",
      resource: "cpu",
      labels: {},
      components,
      outputs,
      metrics,
      digest: outputsDigest(outputs, metrics),
      provenance: {
        run: "r1",
        started_at: "2026-01-02T03:04:05.678Z",
        finished_at: "2026-01-02T03:04:06.678Z",
        seconds: 1,
      },
    };
    const rows = [{ step: 3, name: "loss", value: 0.5, measured: false }];
    await store.publish({ record, metrics: rows, objects: [...objects, csv] });
    return record;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.store.close();
    await Deno.remove(this.store.dir, { recursive: true });
  }
}

/** Bytes in memory. */
export class Collected implements Sink {
  /** Bytes so far. */
  bytes: number[] = [];
  /** How often it forgot them. */
  resets = 0;
  get length(): number {
    return this.bytes.length;
  }
  write(chunk: Uint8Array): Promise<void> {
    this.bytes.push(...chunk);
    return Promise.resolve();
  }
  resume(): void {}
  reset(): Promise<void> {
    this.bytes = [];
    this.resets++;
    return Promise.resolve();
  }
}

/** Bytes that are no run of one value, so that parts in a wrong order show. */
export function noise(size: number, seed = 1): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(size);
  let state = seed;
  for (let i = 0; i < size; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes[i] = state >>> 24;
  }
  return bytes;
}

/** Shows nothing. */
export const SILENT: Display = {
  bar: () => ({ update() {}, stop() {} }),
  line() {},
  sample() {},
  stop() {},
};
