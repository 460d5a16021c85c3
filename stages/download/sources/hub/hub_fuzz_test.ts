/**
 * Arbitrary listings and headers against the client: every case gives all bytes or one line, never a trace, a hang, or a
 * file outside its folder.
 */

import { assert, assertEquals } from "@std/assert";
import { basename, dirname, join, relative } from "@std/path";
import { createHash } from "node:crypto";
import { gunzipSync } from "node:zlib";
import fc from "fast-check";
import { runStage } from "../../../testing.ts";
import { download, runDownload } from "../../download.ts";
import { c4Shard } from "./hub_standin.ts";
import { TestClock } from "./c4_testing.ts";
import { SourceError } from "../error.ts";
import { askedPause, contentRange, nextLink, nextPage } from "./headers.ts";
import { parsePage, wantedShard } from "./listing.ts";

const SEED = 20250716;
const C4 = { folder: "en", files: "c4-train.*.json.gz" };
const NOW = Date.UTC(2030, 0, 1);

/** The value, or `undefined` where `f` fails in one line; fails on any other error. */
function oneLine<T>(f: () => T): { value: T } | undefined {
  try {
    return { value: f() };
  } catch (error) {
    requireOneLine(error);
    return undefined;
  }
}

function requireOneLine(error: unknown): void {
  assert(error instanceof SourceError, `${error instanceof Error ? error.stack : error}`);
  assert(!/\p{Cc}/u.test(error.message) && error.message.length < 1000, error.message);
}

/** Texts of pieces that mean something to a parser, in any order. */
const pieces = (...words: string[]) =>
  fc.array(fc.oneof(fc.constantFrom(...words), fc.nat(400).map(String)), { maxLength: 12 })
    .map((parts) => parts.join(""));

/** Values that a header may have: no line ends, no characters beyond Latin-1. */
const headerText = fc.oneof(
  pieces(
    ...["<", ">", ";", ",", "=", '"', "\\", " ", "\t", "rel", "next", "prev", "rel=next", "*", "-"],
    ...['"api"', "r=0", "t=", "reset=", "remaining", "/api/datasets/", "https://huggingface.co"],
    ...[
      "http://127.0.0.1:9",
      "?cursor=",
      "/tree/",
      "..",
      "%2e%2e",
      "%zz",
      "bytes ",
      "/",
      "W/",
      "#",
    ],
    ...["Tue, 01 Jan 2030 00:00:09 GMT", "GMT", "1e9", "Infinity", "99999999999999999999", ":"],
  ),
  fc.string({ unit: "binary-ascii", maxLength: 40 }).map((text) =>
    text.replaceAll(/[^\x20-\x7e]/g, "")
  ),
);
const names = ["link", "ratelimit", "ratelimit-reset", "retry-after", "date", "content-range"];
const pureHeaders = fc.dictionary(fc.constantFrom(...names, "etag"), headerText);

Deno.test("fuzz: no header makes the client wait for ever or leave its host", () => {
  const endpoint = "https://mirror.example/hf";
  const url = `${endpoint}/api/datasets/a/b/tree/main/en?x=1`;
  fc.assert(
    fc.property(pureHeaders, fc.constantFrom(429, 500, 503), (values, status) => {
      const headers = new Headers(values);
      const pause = askedPause({ status, headers }, NOW);
      assert(pause === undefined || Number.isFinite(pause) && pause >= 0, `${pause}`);
      const { start = 0, size = 0 } = contentRange(headers.get("content-range"));
      assert(Number.isSafeInteger(start) && Number.isSafeInteger(size));
      const next = oneLine(() => nextPage(headers.get("link"), { endpoint, url }))?.value;
      if (next !== undefined) {
        assert(next.startsWith(`${endpoint}/api/datasets/`) && new URL(next).href === next, next);
      }
    }),
    { seed: SEED, numRuns: 1000 },
  );
});

Deno.test("fuzz: a next link in any spelling is found", () => {
  const token = fc.constantFrom("rel", "title", "type", "x");
  const other = fc.tuple(token, fc.constantFrom("prev", '"a, <b>; c"', '"first last"', "7"))
    .map(([name, value]) => `${name}=${value}`);
  const link = fc.tuple(fc.constantFrom("/a", "?b=<".replace("<", ""), "x"), fc.array(other))
    .map(([target, parameters]) => [`<${target}>`, ...parameters].join("; "));
  const next = fc.tuple(
    fc.webPath(),
    fc.constantFrom("rel=next", 'rel="next"', 'REL = "prev NEXT"', 'rel="next"; rel=prev'),
    fc.constantFrom("", ";", " ; ").map((text) => text || "; "),
  );
  fc.assert(
    fc.property(fc.array(link), next, fc.array(link), (before, [path, rel, gap], after) => {
      const header = [...before, `<${path}>${gap}${rel}`, ...after].join(" , ");
      assertEquals(nextLink(header), path);
    }),
    { seed: SEED, numRuns: 400 },
  );
});

/** Entries that look more or less like those of a listing. */
const folder = fc.constantFrom(
  "en/",
  "",
  "/",
  "../",
  "en/../",
  "en//",
  "fr/",
  "en\\",
  "en/a/",
  "EN/",
);
const middle = fc.oneof(
  fc.constantFrom(
    "00000-of-00004",
    "..",
    "/",
    "\\",
    "\0",
    "\n",
    "\u202e",
    "\ud800",
    "x".repeat(300),
  ),
  fc.string({ unit: "binary", maxLength: 20 }),
);
const path = fc.oneof(
  fc.tuple(folder, middle).map(([folder, middle]) => `${folder}c4-train.${middle}.json.gz`),
  fc.string({ unit: "binary", maxLength: 30 }),
);
const hash = fc.constantFrom(
  "0".repeat(40),
  "ab".repeat(32),
  "",
  "../../x",
  "Z".repeat(64),
  null,
  7,
);
const size = fc.oneof(fc.nat(), fc.constantFrom(-1, 1.5, 1e300, null, "7", []));
const entry = fc.record({
  type: fc.oneof(fc.constantFrom("file", "file", "directory"), fc.string({ maxLength: 5 })),
  path,
  size,
  oid: hash,
  lfs: fc.oneof(fc.record({ oid: hash, size }), fc.constantFrom(null, 7, [])),
}, { requiredKeys: ["type", "path"] });
const tree = fc.oneof(
  fc.array(fc.oneof({ weight: 3, arbitrary: entry }, fc.jsonValue()), { maxLength: 5 }),
  fc.jsonValue(),
);

Deno.test("fuzz: a shard from any listing has one plain name in the folder, and a hash", () => {
  const headers = new Headers();
  fc.assert(
    fc.property(tree, fc.boolean(), (tree, whole) => {
      const json = JSON.stringify(tree);
      const text = whole ? json : json.slice(0, json.length >> 1);
      const answer = { url: "http://127.0.0.1:9/x", what: "/x", headers };
      for (const entry of oneLine(() => parsePage(text, answer))?.value ?? []) {
        const shard = oneLine(() => wantedShard(entry, C4))?.value;
        if (shard === undefined) continue;
        assertEquals(dirname(shard.path), "en");
        assertEquals(relative("/state", join("/state", basename(shard.path))).includes("/"), false);
        assert(/^c4-train\..*\.json\.gz$/.test(basename(shard.path)));
        assert(Number.isSafeInteger(shard.size) && shard.size >= 0);
        assertEquals(shard.oid.length, shard.algorithm === "sha1" ? 40 : 64);
      }
    }),
    { seed: SEED, numRuns: 1500 },
  );
});

Deno.test("fuzz: a wanted file is never lost among others", () => {
  const wanted = fc.string({ unit: fc.constantFrom(..."abc 019()#%é日.-_"), maxLength: 12 });
  fc.assert(
    fc.property(wanted, fc.nat(), fc.jsonValue(), (middle, size, more) => {
      const path = `en/c4-train.${middle}.json.gz`;
      const entry = { type: "file", path, size, oid: "0".repeat(40), more };
      const listed = parsePage(JSON.stringify([entry]), {
        url: "",
        what: "",
        headers: new Headers(),
      });
      const shard = { path, size, oid: "0".repeat(40), algorithm: "sha1" };
      assertEquals(listed.map((entry) => wantedShard(entry, C4)), [shard as never]);
    }),
    { seed: SEED, numRuns: 200 },
  );
});

/** One answer that is written to the socket as it is. */
interface RawAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  /** A body of one's own, or so many bytes of the right one. */
  readonly body: string | number;
}

/** A server that gives odd answers first, and then the right ones. */
class RawHub implements AsyncDisposable {
  readonly #listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  readonly #files: ReadonlyMap<string, Uint8Array>;
  readonly #serving: Promise<void>;
  readonly #open = new Set<Promise<void>>();
  odd: RawAnswer[] = [];

  constructor(files: ReadonlyMap<string, Uint8Array>) {
    this.#files = files;
    this.#serving = (async () => {
      for await (const connection of this.#listener) {
        const work = this.#answer(connection).catch(() => {}).finally(() =>
          this.#open.delete(work)
        );
        this.#open.add(work);
      }
    })();
  }

  get endpoint(): string {
    return `http://127.0.0.1:${(this.#listener.addr as Deno.NetAddr).port}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    await this.#serving;
    await Promise.all(this.#open);
  }

  async #answer(connection: Deno.TcpConn): Promise<void> {
    using _closed = connection;
    const chunk = new Uint8Array(8192);
    let request = "";
    while (!request.includes("\r\n\r\n")) {
      const read = await connection.read(chunk);
      if (read === null) return;
      request += new TextDecoder().decode(chunk.subarray(0, read));
    }
    const path = request.split(" ")[1]!;
    const from = Number(/^range: bytes=(\d+)-/im.exec(request)?.[1] ?? 0);
    const { status, headers, body } = this.#right(path, from);
    const odd = this.odd.shift();
    const bytes = odd === undefined
      ? body
      : typeof odd.body === "string"
      ? new TextEncoder().encode(odd.body)
      : body.subarray(0, odd.body);
    const lines = Object.entries({ ...headers, ...odd?.headers })
      .map(([name, value]) => `${name}: ${value}\r\n`).join("");
    const head = `HTTP/1.1 ${odd?.status ?? status} X\r\n${lines}connection: close\r\n\r\n`;
    await connection.write(new TextEncoder().encode(head));
    for (let sent = 0; sent < bytes.length;) sent += await connection.write(bytes.subarray(sent));
    await connection.closeWrite();
  }

  #right(path: string, from: number) {
    if (path.startsWith("/api/")) {
      const entries = [...this.#files].map(([path, bytes]) => ({
        type: "file",
        path,
        size: bytes.length,
        lfs: { oid: createHash("sha256").update(bytes).digest("hex"), size: bytes.length },
      }));
      const body = new TextEncoder().encode(JSON.stringify(entries));
      const headers = { "content-type": "application/json", "content-length": `${body.length}` };
      return { status: 200, headers, body };
    }
    const whole = this.#files.get(path.slice(path.indexOf("/en/") + 1)) ?? new Uint8Array();
    const body = whole.subarray(from);
    const range = { "content-range": `bytes ${from}-${whole.length - 1}/${whole.length}` };
    const headers = { "content-length": `${body.length}`, ...from > 0 ? range : {} };
    return { status: from > 0 ? 206 : 200, headers, body };
  }
}

const rawHeaders = fc.dictionary(
  fc.constantFrom(
    ...names,
    "content-length",
    "content-type",
    "etag",
    "content-encoding",
    "location",
  ),
  headerText,
  { maxKeys: 3 },
);
const odd = fc.record({
  status: fc.constantFrom(200, 200, 200, 206, 206, 204, 302, 304, 404, 416, 429, 500, 511, 999),
  headers: rawHeaders,
  body: fc.oneof(
    fc.nat(1200),
    fc.constantFrom("", "<html><title>x", "{", "[]", "null", "[[[[", "\u001b[2J"),
    tree.map((tree) => JSON.stringify(tree)),
  ),
});

Deno.test("fuzz: odd answers of a server cost no byte and write nothing elsewhere", async () => {
  const FILES = new Map([0, 1].map((index) => [
    `en/c4-train.0000${index}-of-00002.json.gz`,
    c4Shard([createHash("sha512").update(`${index}`).digest("base64").repeat(9), "two"]),
  ]));
  const expected = [...FILES.values()];
  const lines = (file: Uint8Array) => gunzipSync(file).toString().trimEnd().split("\n");
  const texts = (file: Uint8Array) => lines(file).map((line) => JSON.parse(line).text);
  const root = await Deno.makeTempDir();
  await using hub = new RawHub(FILES);
  const run = (dir: string, limits: Record<string, number> = {}) =>
    runStage(
      download,
      { params: { source: "c4", c4: { fraction: 1 }, ...limits }, dir },
      (context) =>
        runDownload(context, {
          endpoint: hub.endpoint,
          offline: false,
          attempts: 3,
          stall_ms: 400,
          clock: new TestClock(),
        }),
    );
  let [failed, cases] = [0, 0];
  try {
    await fc.assert(
      fc.asyncProperty(fc.array(odd, { minLength: 1, maxLength: 4 }), async (answers) => {
        const dir = join(root, `${cases++}`);
        hub.odd = [...answers];
        try {
          const first = await run(dir);
          // Odd answers may list less, but what is published is what was listed.
          const { shards } = first.json.source as { shards: { size: number }[] };
          assertEquals(first.output.files("documents").length, shards.length);
        } catch (error) {
          requireOneLine(error);
          failed++;
          assertEquals(Array.from(Deno.readDirSync(join(dir, "output", "documents"))), []);
        }
        // As a stream: all documents from the first on, or one line.
        hub.odd = [...answers];
        try {
          const stream = await run(dir, { max_documents: 4 });
          const { shards } = stream.json.source as { shards: { path: string }[] };
          assertEquals(
            texts(Deno.readFileSync(stream.output.file("documents", "00000.jsonl.gz"))),
            shards.flatMap(({ path }) => texts(FILES.get(path)!)),
          );
        } catch (error) {
          requireOneLine(error);
        }
        hub.odd = [];
        const again = await run(dir);
        const names = again.output.files("documents");
        assertEquals(names.length, 2);
        for (const [index, name] of names.entries()) {
          assertEquals(Deno.readFileSync(again.output.file("documents", name)), expected[index]);
        }
        assertEquals(Array.from(Deno.readDirSync(dir), ({ name }) => name).sort(), [
          "output",
          "state",
        ]);
      }),
      { seed: SEED, numRuns: 250 },
    );
    assertEquals(Array.from(Deno.readDirSync(root)).length, cases);
    // Both ends are met.
    assert(failed > 20 && cases - failed > 20, `${failed} of ${cases} failed`);
  } finally {
    await Deno.remove(root, { recursive: true });
  }
});
