/** Mirrors, rate limits, odd listings and captive portals: each either gives every byte or ends in one line. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import type { JsonValue } from "../../../../pipeline/stage.ts";
import { FILES, FIRST, TestClock, texts, trial } from "./c4_testing.ts";
import { dataSchema } from "../../download.ts";
import { SourceError } from "../error.ts";
import type { HubOptions } from "./hub.ts";
import { c4Shard, type Fault, type HubContent } from "./hub_standin.ts";

const ALL: Record<string, JsonValue> = { c4: { fraction: 1 } };

/** Downloads all four shards and compares every byte. */
async function givesAll(
  content: Partial<HubContent>,
  options: HubOptions & { dir?: string } = {},
): Promise<void> {
  await trial(content, ALL, options, async ({ run }) => {
    const names = run.output.files("documents");
    assertEquals(names.length, 4);
    for (const [index, bytes] of Object.values(FILES).entries()) {
      assertEquals(await Deno.readFile(run.output.file("documents", names[index])), bytes);
    }
  });
}

/** Every file in the state folder of a trial: its own partial or finished shards. */
function stateFiles(dir: string): string[] {
  return Array.from(Deno.readDirSync(join(dir, "state")), ({ name }) => name).sort();
}

/**
 * Fails in one line with `words`, publishes nothing, leaves nothing that is taken for whole: the next download from a hub
 * without faults has the right bytes.
 */
async function failsThenResumes(
  content: Partial<HubContent>,
  words: string,
  options: HubOptions = {},
): Promise<string> {
  const dir = await Deno.makeTempDir();
  try {
    const error = await assertRejects(
      () => trial(content, ALL, { clock: new TestClock(), ...options, dir }),
      SourceError,
      words,
    );
    assertEquals([error.message.includes("\n"), error.exitCode], [false, 1]);
    assertEquals(Array.from(Deno.readDirSync(join(dir, "output", "documents"))), []);
    await givesAll({}, { dir });
    assert(stateFiles(dir).every((name) => !name.endsWith(".partial")), `${stateFiles(dir)}`);
    return error.message;
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

Deno.test("hub: a listing goes on at the endpoint, whatever its links say", async (t) => {
  const hub = "https://huggingface.co";
  const cases: Record<string, Partial<HubContent>> = {
    "links of the public hub": { link: (next) => `<${hub}${next}>; rel="next"` },
    "relative links": { link: (next) => `<${next}>; rel="next"` },
    "links that are only a query": { link: (next) => `<${next.replace(/^.*\?/, "?")}>;rel=next` },
    "below a path": { prefix: "/some/path" },
    "below a path, links of the public hub": {
      prefix: "/some/path",
      link: (next) => `<${hub}${next}>; rel="next"`,
    },
    "below a path, links with it": {
      prefix: "/some/path",
      link: (next) => `</some/path${next}>; rel="next"`,
    },
  };
  for (const [name, content] of Object.entries(cases)) {
    await t.step(name, async () => {
      for (const page of [1, 2, 3]) await givesAll({ ...content, page });
    });
  }
});

Deno.test("hub: a page that is announced and can't be read is an error", async () => {
  const links: [string, string][] = [
    ["<https://huggingface.co/login>; rel=next", "no page of a dataset's listing"],
    ['x?cursor=2; rel="next"', "a Link header that can't be read"],
    ["<?recursive=false&expand=false>; rel=next", "goes round in circles"],
  ];
  for (const [link, words] of links) await failsThenResumes({ page: 2, link: () => link }, words);
  const error: Fault = { on: "tree", kind: "status", status: 500 };
  await failsThenResumes({ page: 2, faults: [error, error, error] }, "in 3 attempts: status 500");
});

Deno.test("hub: a token never goes where a link points", async () => {
  let asked = 0;
  await using other = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, () => {
    asked++;
    return Response.json([]);
  });
  const link = (next: string) => `<http://127.0.0.1:${other.addr.port}${next}>; rel="next"`;
  await givesAll({ page: 1, link }, { token: "hf_test" });
  assertEquals(asked, 0);
});

Deno.test("hub: waits as long as an answer with status 429 asks, and says so", async (t) => {
  const cases: [string, Record<string, string>, number][] = [
    ["RateLimit", { ratelimit: '"api";r=0;t=100', "ratelimit-policy": '"api";q=500;w=300' }, 100],
    ["RateLimit-Reset", { "ratelimit-reset": "90" }, 90],
    ["Retry-After in seconds", { "retry-after": "80", ratelimit: '"api";r=0;t=100' }, 80],
    ["Retry-After as a date", {
      "retry-after": "Tue, 01 Jan 2030 00:01:10 GMT",
      date: "Tue, 01 Jan 2030 00:00:00 GMT",
    }, 70],
  ];
  for (const [name, headers, seconds] of cases) {
    for (const on of ["tree", "resolve"] as const) {
      await t.step(`${name}, ${on}`, async () => {
        const clock = new TestClock();
        const faults: Fault[] = Array(2).fill({ on, kind: "status", status: 429, headers });
        await trial({ faults }, undefined, { clock }, async ({ run }) => {
          assertEquals(clock.waits, [seconds * 1000, seconds * 1000]);
          const [name] = run.output.files("documents");
          assertEquals(await Deno.readFile(run.output.file("documents", name)), FIRST);
          const said = `too many requests; waiting ${seconds}.0 s, as the answer asks`;
          assertEquals(run.log.filter((line) => line.includes(said)).length, 2);
        });
      });
    }
  }
  await t.step("a quota that is back already", async () => {
    const clock = new TestClock();
    const headers = { ratelimit: '"api";r=0;t=0' };
    await trial({ faults: [{ on: "resolve", kind: "status", status: 429, headers }] }, undefined, {
      clock,
    });
    assert(clock.waits.length === 1 && clock.waits[0]! > 0, `${clock.waits}`);
  });
  await t.step("longer than anyone waits", async () => {
    const headers = { ratelimit: '"api";r=0;t=86400' };
    const faults: Fault[] = [{ on: "resolve", kind: "status", status: 429, headers }];
    await failsThenResumes({ faults }, "asks to wait 86400 s");
  });
});

Deno.test("hub: a shard that fails ends the others at once, also those that wait", async () => {
  const dir = await Deno.makeTempDir();
  const { promise: waiting, resolve: waits } = Promise.withResolvers<void>();
  const clock = {
    now: () => Date.now(),
    sleep: (_ms: number, signal: AbortSignal) => {
      waits();
      // Ends by the signal alone.
      return new Promise<void>((_, reject) =>
        signal.addEventListener("abort", () => reject(signal.reason), { once: true })
      );
    },
  };
  try {
    const headers = { "retry-after": "500" };
    const error = await assertRejects(
      () =>
        trial(
          {
            faults: [
              { on: "resolve", kind: "status", status: 429, headers },
              { on: "resolve", kind: "status", status: 404, after: waiting },
            ],
          },
          ALL,
          { dir, clock, concurrency: 2 },
        ),
    );
    assert(error instanceof SourceError && error.message.includes("status 404"), `${error}`);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("hub: files that are not wanted are not judged", async () => {
  const entry = (path: string, more = {}) => ({ type: "file", path, size: 1, ...more });
  await givesAll({
    page: 2,
    entries: [
      entry("en/notes (draft) #1.md"),
      entry("en/.gitattributes"),
      entry(".gitattributes"),
      entry("en/\u0007bell\n.txt", { size: "many", lfs: 7 }),
      entry("../../etc/passwd"),
      entry("fr/c4-train.00000-of-00004.json.gz"),
      { type: "directory", path: "en/c4-train.folder.json.gz", oid: "" },
      { type: "unknown", path: "", size: null },
    ],
  });
});

Deno.test("hub: a wanted file with an odd name is fetched, one that leaves its folder is refused", async (t) => {
  const files = {
    "en/a b (draft) #1%23?é&+.json.gz": c4Shard(texts(7)),
    "en/日本.json.gz": c4Shard(texts(8)),
  };
  const questions = Object.fromEntries(
    Object.entries(files).map(([path, bytes]) => [path.replace("?", ""), bytes]),
  );
  await trial({ files: questions }, { c4: { fraction: 1, files: "*.json.gz" } }, {}, ({ run }) => {
    assertEquals(run.output.files("documents"), ["a b (draft) #1%23é&+.jsonl.gz", "日本.jsonl.gz"]);
    for (const [index, bytes] of Object.values(questions).entries()) {
      const name = run.output.files("documents")[index];
      assertEquals(Deno.readFileSync(run.output.file("documents", name)), bytes);
    }
  });
  const wanted = (name: string) => `c4-train.${name}.json.gz`;
  for (
    const path of [
      `../${wanted("1")}`,
      `en/../../${wanted("1")}`,
      `/etc/${wanted("1")}`,
      `en//${wanted("1")}`,
      `en/..\\${wanted("1")}`,
      `en/${wanted("a\nb")}`,
      `en/${wanted("\u202e")}`,
      `en/${wanted("x".repeat(250))}`,
    ]
  ) {
    await t.step(JSON.stringify(path.slice(0, 60)), async () => {
      const entries = [{ type: "file", path, size: 1, oid: "0".repeat(40) }];
      await failsThenResumes({ entries }, "no plain name in the folder en");
    });
  }
});

Deno.test("hub: a wanted file without size or hash, or listed twice, is told by its name", async () => {
  const path = "en/c4-train.00009-of-00004.json.gz";
  const file = (more: object) => ({ entries: [{ type: "file", path, size: 1, ...more }] });
  await failsThenResumes(file({}), `lists "${path}" without a hash`);
  await failsThenResumes(file({ oid: "../x" }), `lists "${path}" without a hash`);
  await failsThenResumes(file({ size: -1 }), `lists "${path}" without a size`);
  await failsThenResumes(
    file({ size: 1, lfs: { oid: "ab".repeat(32), size: 1e300 } }),
    "without a lfs.size",
  );
  const [first] = Object.keys(FILES);
  const again = { type: "file", path: first, size: 1, oid: "0".repeat(40) };
  await failsThenResumes({ entries: [again] }, "twice, with different hashes");
  await assertRejects(
    () =>
      trial(
        { files: { "en/a.json.gz": FIRST, "en/a.jsonl.gz": FIRST } },
        { c4: { fraction: 1, files: "*" } },
      ),
    SourceError,
    "both of which become a.jsonl.gz",
  );
});

const PORTAL = "<!DOCTYPE html><html><head><title>Sign in to\n Wi-Fi</title></head></html>";

Deno.test("hub: a captive portal's page is neither a listing nor a shard", async (t) => {
  const html = { "content-type": "text/html; charset=utf-8" };
  const cases: [string, Fault, string][] = [
    ["listing", { on: "tree", kind: "page", body: PORTAL, headers: html }, "a web page"],
    ["listing, no type", { on: "tree", kind: "page", body: ` \n${PORTAL}` }, "a web page"],
    ["listing, text", { on: "tree", kind: "page", body: "OK" }, '"OK", which is no JSON'],
    ["listing, an object", {
      on: "tree",
      kind: "page",
      body: '{"error":"sign in"}',
      headers: { "content-type": "application/json" },
    }, "which is no listing"],
    ["listing, a number", { on: "tree", kind: "page", body: "7" }, '"7", which is no listing'],
    ["listing, an odd list", { on: "tree", kind: "page", body: '[{"path":7}]' }, "entry 0"],
    ["shard", { on: "resolve", kind: "page", body: PORTAL, headers: html }, "a web page in place"],
    ["shard, no type", { on: "resolve", kind: "page", body: PORTAL }, "a web page in place"],
    ["511", { on: "tree", kind: "status", status: 511 }, "the network wants a sign-in"],
  ];
  for (const [name, fault, words] of cases) {
    await t.step(name, async () => {
      const line = await failsThenResumes({ faults: Array(3).fill(fault) }, words);
      const expected = /^http:\/\/127\.0\.0\.1:\d+ answers \/\S+ with .* and is not the hub; check/;
      assert(expected.test(line), line);
      if (fault.body?.includes("Sign in") && fault.on === "tree") {
        assert(line.includes('"Sign in to Wi-Fi"'), line);
      }
    });
  }
  await t.step("half of a shard, then the portal", async () => {
    const faults: Fault[] = [
      { on: "resolve", kind: "truncate", bytes: 700 },
      { on: "resolve", kind: "page", body: PORTAL, headers: html },
    ];
    await failsThenResumes({ faults }, "and is not the hub", { concurrency: 1 });
  });
  await t.step("a page as long as the shard, without a type", async () => {
    const body = PORTAL + " ".repeat(FIRST.length - PORTAL.length);
    const faults: Fault[] = [{ on: "resolve", kind: "page", body }];
    await failsThenResumes({ faults }, "a web page in place", { concurrency: 1 });
  });
  await t.step("JSON that breaks off is asked for again", () =>
    givesAll({
      faults: [{
        on: "tree",
        kind: "page",
        body: '[{"type":"file","pa',
        headers: { "content-type": "application/json" },
      }],
    }));
});

Deno.test("hub: a revision may be any reference, and is escaped in every address", async () => {
  for (const revision of ["refs/pr/1", "release/v1.0+a%2Fb#c&d", "é"]) {
    await trial({ page: 1 }, { c4: { fraction: 1, revision } }, {}, ({ run, hub }) => {
      assertEquals(run.output.files("documents").length, 4);
      const escaped = encodeURIComponent(revision);
      for (const { path } of hub.requests) {
        assertEquals(path.match(/\/(?:tree|resolve)\/([^/]*)\/en/)?.[1], escaped);
      }
    });
  }
  const refused = [
    ...["", "/", "a/", "/a", "a//b", "..", "a/../b", ".", ".a", "a/.b", "a.", "a.lock", "a.lock/b"],
    ...[
      "a b",
      "a\nb",
      "a\0",
      "a\u007f",
      "a\u202eb",
      "\ud800",
      "a?b",
      "a*",
      "a:b",
      "a~1",
      "a^",
      "[a",
    ],
    ...["a\\b", "@", "a@{1}", "-a", "a".repeat(251)],
  ];
  for (const revision of refused) {
    const { error } = dataSchema.safeParse({ source: "c4", c4: { revision } });
    assert(error?.issues[0]?.message.includes("is not a revision; expected a commit"), revision);
  }
});

Deno.test("hub: an endpoint and a token that can't be right are told at once", async () => {
  const fails = (options: HubOptions, words: string) =>
    assertRejects(() => trial({}, undefined, options), SourceError, words);
  await fails({ endpoint: "https://example.com/?a=b" }, "has a ?; expected an origin and a path");
  await fails({ endpoint: "https://example.com/#a" }, "has a #; expected an origin and a path");
  await fails({ endpoint: "ftp://example.com" }, "is not an http or https URL");
  await fails({ token: "hf_a\nb" }, "one begins with hf_");
});
