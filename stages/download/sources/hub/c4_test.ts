import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { createHash } from "node:crypto";
import { gunzipSync } from "node:zlib";
import type { Fault, HubContent } from "./hub_standin.ts";
import { FILES, FIRST, recovers, texts, trial } from "./c4_testing.ts";
import type { HubOptions } from "./hub.ts";

Deno.test("c4: a paged listing gives all shards, fetched whole", async () => {
  await trial({ page: 1 }, { c4: { fraction: 1 } }, { concurrency: 2 }, ({ run }) => {
    assertEquals(run.output.files("documents").length, 4);
    assertEquals((run.json.source as { shards: unknown[] }).shards.length, 4);
    assertEquals(run.progress.at(-1)?.done, run.progress.at(-1)?.total);
  });
});

Deno.test("c4: a fraction takes the first shards, at least one", async () => {
  const names = async (fraction: number) =>
    ((await trial({}, { c4: { fraction } })).json.source as { shards: { path: string }[] })
      .shards.map(({ path }) => path);
  assertEquals(await names(0.001), Object.keys(FILES).slice(0, 1));
  assertEquals(await names(0.5), Object.keys(FILES).slice(0, 2));
});

Deno.test("c4: goes on after errors, breaks and silence", async (t) => {
  const cases: Record<string, Fault[]> = {
    "listing 500": [{ on: "tree", kind: "status", status: 500 }],
    "listing 429": [{ on: "tree", kind: "status", status: 429, headers: { "retry-after": "0" } }],
    "file 503": [{ on: "resolve", kind: "status", status: 503 }],
    "broken off": [{ on: "resolve", kind: "truncate", bytes: 700 }],
    "broken off at once": [{ on: "resolve", kind: "truncate", bytes: 0 }],
    "range ignored": [
      { on: "resolve", kind: "truncate", bytes: 700 },
      { on: "resolve", kind: "ignore_range" },
    ],
    "redirected": [{ on: "resolve", kind: "redirect" }],
  };
  for (const [name, faults] of Object.entries(cases)) {
    await t.step(name, () => recovers(faults).then(() => {}));
  }
  await t.step("silent", async () => {
    const run = await recovers([{ on: "resolve", kind: "stall", bytes: 700 }], { stall_ms: 150 });
    assert(run.log.some((line) => line.includes("nothing came for")));
  });
});

Deno.test("c4: gives up in one line", async (t) => {
  const fails = (content: Partial<HubContent>, words: string, options: HubOptions = {}) =>
    t.step(words, async () => {
      const error = await assertRejects(() => trial(content, undefined, options), Error, words);
      assertEquals(error.message.includes("\n"), false);
    });
  const status = (status: number, count = 1): Partial<HubContent> => ({
    faults: Array<Fault>(count).fill({ on: "resolve", kind: "status", status }),
  });
  await fails(status(500, 3), "in 3 attempts: status 500");
  await fails(status(403), "needs HF_TOKEN");
  await fails(status(404), "status 404");
  await fails(
    { oids: { "en/c4-train.00000-of-00004.json.gz": "ab".repeat(32) } },
    `the hub's listing says ${"ab".repeat(32)}`,
  );
  await fails(
    { files: { ...FILES, "en/../../c4-train.00009-of-00004.json.gz": FIRST } },
    "no plain name in the folder en",
  );
  await fails(
    {
      faults: [{ on: "resolve", kind: "status", status: 429, headers: { "retry-after": "86400" } }],
    },
    "asks to wait 86400 s",
  );
  await fails({}, "HF_HUB_OFFLINE is set", { offline: true });
  await fails({}, "one begins with hf_", { token: "secret" });
  await fails({}, "is not a URL", { endpoint: "nowhere" });
});

Deno.test("c4: names the shard that is not there", async () => {
  await assertRejects(() => trial({}, { c4: { shards: [7] } }), Error, "4 shards, 0 to 3");
  await assertRejects(() => trial({}, { c4: { config: "fr" } }), Error, "status 404");
});

Deno.test("c4: a token goes to the hub and to no other host", async () => {
  await trial(
    { faults: [{ on: "resolve", kind: "redirect" }] },
    undefined,
    { token: "hf_test" },
    ({ hub }) => {
      const on = (host: string) => hub.requests.filter((request) => request.host === host);
      assert(on("hub").every(({ authorization }) => authorization === "Bearer hf_test"));
      assertEquals(on("other").map(({ authorization }) => authorization), [null]);
    },
  );
});

Deno.test("c4: a later attempt goes on where the last one ended", async () => {
  const dir = await Deno.makeTempDir();
  try {
    await assertRejects(() =>
      trial(
        {
          faults: [
            { on: "resolve", kind: "truncate", bytes: 900 },
            { on: "resolve", kind: "status", status: 404 },
          ],
        },
        undefined,
        { dir },
      )
    );
    const [left] = Array.from(Deno.readDirSync(join(dir, "state")), ({ name }) => name);
    assertStringIncludes(left!, ".partial");
    assertEquals(Array.from(Deno.readDirSync(join(dir, "output", "documents"))), []);
    await trial({}, undefined, { dir }, ({ hub, run }) => {
      assertEquals(hub.requests.at(-1)?.range, "bytes=900-");
      assertEquals(
        Deno.readFileSync(run.output.file("documents", "c4-train.00000-of-00004.jsonl.gz")),
        FIRST,
      );
    });
    // A finished shard is not fetched again.
    await trial({}, undefined, { dir }, ({ hub }) => assertEquals(hub.requests.length, 1));
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("c4: a damaged part from an earlier attempt is thrown away", async () => {
  const dir = await Deno.makeTempDir();
  try {
    const oid = createHash("sha256").update(FIRST).digest("hex").slice(0, 16);
    await Deno.mkdir(join(dir, "state"));
    await Deno.writeFile(
      join(dir, "state", `${oid}-c4-train.00000-of-00004.json.gz.partial`),
      new Uint8Array(500),
    );
    const run = await trial({}, undefined, { dir });
    assertEquals(
      Deno.readFileSync(run.output.file("documents", "c4-train.00000-of-00004.jsonl.gz")),
      FIRST,
    );
    assert(run.log.some((line) => line.includes("the hash is wrong")));
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("c4: limits stream the first documents, across shards and broken connections", async () => {
  await trial(
    { faults: [{ on: "resolve", kind: "truncate", bytes: 700 }] },
    { max_documents: 50 },
    {},
    ({ run }) => {
      const lines = new TextDecoder().decode(
        gunzipSync(Deno.readFileSync(run.output.file("documents", "00000.jsonl.gz"))),
      ).trimEnd().split("\n").map((line) => JSON.parse(line));
      assertEquals(
        lines.map(({ text }) => text),
        [...texts(0), ...texts(1)].slice(0, 50),
      );
      assertEquals(lines[0].url, "http://example.com/0");
      const { shards } = run.json.source as { shards: { verified: boolean }[] };
      assertEquals(shards.map(({ verified }) => verified), [true, false]);
    },
  );
});

Deno.test("c4: a shard that is read to its end as a stream is checked too", async () => {
  await assertRejects(
    () =>
      trial(
        { oids: { "en/c4-train.00000-of-00004.json.gz": "ab".repeat(32) } },
        { max_documents: 50 },
      ),
    Error,
    "the hub's listing says",
  );
});
