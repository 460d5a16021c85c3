/**
 * A stand-in for the Hugging Face hub that takes models, on the loopback interface, for tests.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { z } from "zod";

const preuploadSchema = z.object({
  files: z.array(z.object({ path: z.string(), size: z.int(), sample: z.string() })),
});
const batchSchema = z.object({
  objects: z.array(z.object({ oid: z.string(), size: z.int() })),
});
const createSchema = z.object({ name: z.string(), organization: z.string(), type: z.string() })
  .loose();
const joinSchema = z.object({
  parts: z.array(z.object({ partNumber: z.int(), etag: z.string().min(1) })),
});
const commitLine = z.object({ key: z.string(), value: z.looseObject({}) });

/** The stand-in; stops serving when disposed of. */
export class UploadHub implements AsyncDisposable {
  /** Value for `HF_ENDPOINT`. */
  readonly endpoint: string;
  /** Paths that were asked for. */
  readonly requests: string[] = [];
  /** Bodies of the requests that make repositories. */
  readonly created: Record<string, unknown>[] = [];
  /** Committed files by path. */
  readonly files = new Map<string, Uint8Array>();
  /** Titles of commits. */
  readonly titles: unknown[] = [];
  /** Status to refuse every request with. */
  refuse: number | undefined;
  /** Bytes of a part of a large file; files are taken whole unless given. */
  chunk: number | undefined;
  readonly #token: string;
  readonly #objects = new Map<string, Uint8Array>();
  /** Parts by object and number. */
  readonly #parts = new Map<string, Uint8Array>();
  readonly #server: Deno.HttpServer<Deno.NetAddr>;

  /** @param token The token without which nothing is taken. */
  constructor(token: string) {
    this.#token = token;
    const listen = { hostname: "127.0.0.1", port: 0, onListen: () => {} };
    this.#server = Deno.serve(listen, (request) => this.#answer(request));
    this.endpoint = `http://127.0.0.1:${this.#server.addr.port}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.shutdown();
  }

  async #answer(request: Request): Promise<Response> {
    const { pathname } = new URL(request.url);
    this.requests.push(pathname);
    if (this.refuse !== undefined) {
      await request.body?.cancel();
      return Response.json({ error: `refused ${this.#token}` }, { status: this.refuse });
    }
    if (pathname.startsWith("/upload/")) return await this.#take(pathname.slice(8), request);
    if (pathname.startsWith("/join/")) return await this.#join(pathname.slice(6), request);
    if (request.headers.get("authorization") !== `Bearer ${this.#token}`) {
      await request.body?.cancel();
      return Response.json({ error: "no" }, { status: 401 });
    }
    if (pathname === "/api/repos/create") {
      const { name, organization, ...rest } = createSchema.parse(await request.json());
      const id = `${organization}/${name}`;
      if (this.created.some((other) => other["id"] === id)) {
        return Response.json({ error: "It is there already" }, { status: 409 });
      }
      this.created.push({ id, ...rest });
      return Response.json({ url: `${this.endpoint}/${id}`, id });
    }
    if (pathname.endsWith("/preupload/main")) {
      const { files } = preuploadSchema.parse(await request.json());
      const mode = (path: string) => path.endsWith(".safetensors") ? "lfs" : "regular";
      return Response.json({
        files: files.map(({ path }) => ({ path, uploadMode: mode(path), shouldIgnore: false })),
      });
    }
    if (pathname.endsWith(".git/info/lfs/objects/batch")) {
      const { objects } = batchSchema.parse(await request.json());
      return Response.json({
        transfer: "basic",
        objects: objects.map(({ oid, size }) => ({
          oid,
          size,
          ...(!this.#objects.has(oid) && { actions: { upload: this.#way(oid, size) } }),
        })),
      });
    }
    if (pathname.endsWith("/commit/main")) return this.#commit(await request.text());
    return Response.json({ error: "no such path" }, { status: 404 });
  }

  /** Where an object goes: whole to one address, or in parts to one each. */
  #way(oid: string, size: number) {
    if (this.chunk === undefined) return { href: `${this.endpoint}/upload/${oid}` };
    const parts = Array.from({ length: Math.ceil(size / this.chunk) }, (_, i) => i + 1);
    const header = parts.map((i) => [
      String(i).padStart(5, "0"),
      `${this.endpoint}/upload/${oid}/${i}`,
    ]);
    return {
      href: `${this.endpoint}/join/${oid}`,
      header: { chunk_size: String(this.chunk), ...Object.fromEntries(header) },
    };
  }

  async #join(oid: string, request: Request): Promise<Response> {
    const { parts } = joinSchema.parse(await request.json());
    const bytes = parts.map(({ partNumber }) => this.#parts.get(`${oid}/${partNumber}`)!);
    const whole = new Uint8Array(await new Blob(bytes as BlobPart[]).arrayBuffer());
    if (createHash("sha256").update(whole).digest("hex") !== oid) {
      return new Response("no", { status: 400 });
    }
    this.#objects.set(oid, whole);
    return new Response();
  }

  async #take(oid: string, request: Request): Promise<Response> {
    const length = request.headers.get("content-length");
    const bytes = new Uint8Array(await request.arrayBuffer());
    if (length !== String(bytes.length) || request.headers.has("authorization")) {
      return new Response("no", { status: 400 });
    }
    if (oid.includes("/")) {
      this.#parts.set(oid, bytes);
      return new Response(null, { headers: { etag: `"${oid.length}"` } });
    }
    if (createHash("sha256").update(bytes).digest("hex") !== oid) {
      return new Response("no", { status: 400 });
    }
    this.#objects.set(oid, bytes);
    return new Response();
  }

  #commit(text: string): Response {
    for (const line of text.split("\n")) {
      const { key, value } = commitLine.parse(JSON.parse(line));
      const path = String(value["path"]);
      if (key === "header") this.titles.push(value["summary"]);
      else if (key === "lfsFile") this.files.set(path, this.#objects.get(String(value["oid"]))!);
      else this.files.set(path, Uint8Array.from(atob(String(value["content"])), byteOf));
    }
    return Response.json({ commitOid: "c0ffee".padEnd(40, "0"), commitUrl: this.endpoint });
  }
}

function byteOf(character: string): number {
  return character.charCodeAt(0);
}
