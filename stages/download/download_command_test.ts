/** The command against a stand-in for the hub: exit codes, lines on the terminal, a kill in the middle of a shard. */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { Sandbox } from "../reproduce_testing.ts";
import { FILES } from "./sources/hub/c4_testing.ts";
import { type Fault, type HubContent, HubStandin } from "./sources/hub/hub_standin.ts";

/** `reproduce --only download` of all shards of a stand-in. */
function start(sandbox: Sandbox, endpoint: string, ...set: string[]) {
  Object.assign(sandbox.env, { HF_ENDPOINT: endpoint, HF_TOKEN: "", HF_HUB_OFFLINE: "" });
  const overrides = ["data.source=c4", "data.c4.fraction=1", ...set];
  return sandbox.start(
    "reproduce",
    ...["--only", "download", ...overrides.flatMap((override) => ["--set", override])],
  );
}

const sandbox = () => Sandbox.create("configs/tiny.yaml");

/** Bytes of the published shards, by name. */
async function published(sandbox: Sandbox): Promise<Record<string, Uint8Array>> {
  const [record] = await sandbox.records();
  const documents = record?.outputs["documents"];
  if (documents?.kind !== "directory") return {};
  return Object.fromEntries(
    documents.files.map(({ path, sha256 }) => [path, Deno.readFileSync(sandbox.object(sha256))]),
  );
}

const EXPECTED = Object.fromEntries(
  Object.entries(FILES).map(([path, bytes]) => [
    path.replace("en/", "").replace(/\.json\.gz$/, ".jsonl.gz"),
    bytes,
  ]),
);

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 20));
}

for (const [signal, code] of [["SIGKILL", 137], ["SIGINT", 130]] as const) {
  Deno.test(`download: after ${signal} in the middle of a shard a later run has every byte`, async () => {
    await using place = await sandbox();
    const stall: Fault = { on: "resolve", kind: "stall", bytes: 900 };
    {
      await using hub = new HubStandin({ files: FILES, faults: [stall, stall] });
      const running = start(place, hub.endpoint);
      // All four shards were asked for; two of them stay half.
      await until(() => hub.requests.length === 5);
      await new Promise((resolve) => setTimeout(resolve, 300));
      running.kill(signal);
      const ended = await running.ended;
      assertEquals(ended.code, code, ended.stderr);
      assertEquals(await published(place), {});
    }
    await using hub = new HubStandin({ files: FILES, page: 1, prefix: "/mirror" });
    const ended = await start(place, hub.endpoint).ended;
    assertEquals(ended.code, 0, ended.stderr);
    assertEquals(await published(place), EXPECTED);
    const ranges = hub.requests.filter(({ range }) => range === "bytes=900-").length;
    assertEquals(ranges, 2, JSON.stringify(hub.requests));
  });
}

Deno.test("download: a failure is exit code 1, one line without a trace, and nothing published", async (t) => {
  const page: Fault = {
    on: "resolve",
    kind: "page",
    body: "<html><title>Sign in</title>",
    headers: { "content-type": "text/html" },
  };
  const cases: [string, Partial<HubContent>, RegExp][] = [
    [
      "a portal instead of the listing",
      { faults: [{ ...page, on: "tree" }] },
      /web page "Sign in"/,
    ],
    ["a portal instead of a shard", { faults: [page] }, /answers .* with a web page in place of/],
    ["a link to nowhere", { page: 1, link: () => "<https://a/b>; rel=next" }, /no page of a data/],
    ["a limit of a day", {
      faults: [{
        on: "tree",
        kind: "status",
        status: 429,
        headers: { ratelimit: '"api";r=0;t=86400' },
      }],
    }, /asks to wait 86400 s/],
    ["a name that leaves its folder", {
      entries: [{ type: "file", path: "en/../c4-train.1.json.gz", size: 1 }],
    }, /no plain name in the folder en/],
  ];
  await using place = await sandbox();
  for (const [name, content, words] of cases) {
    await t.step(name, async () => {
      await using hub = new HubStandin({ files: FILES, ...content });
      const { code, stderr } = await start(place, hub.endpoint).ended;
      assertEquals(code, 1, stderr);
      // The terminal's lines break between words.
      const line = stderr.replaceAll(/\s+/g, " ");
      assert(words.test(line), stderr);
      assert(!/^\S*\s*at /m.test(stderr) && !/\.ts:\d+/.test(stderr), stderr);
      assertEquals(await published(place), {});
    });
  }
  await t.step("and then every byte", async () => {
    await using hub = new HubStandin({ files: FILES });
    const { code, stderr } = await start(place, hub.endpoint).ended;
    assertEquals(code, 0, stderr);
    assertEquals(await published(place), EXPECTED);
  });
});

Deno.test("download: a wait is shown on the terminal; a revision is a reference", async () => {
  await using place = await sandbox();
  await using hub = new HubStandin({
    files: FILES,
    faults: [{
      on: "tree",
      kind: "status",
      status: 429,
      headers: { ratelimit: '"api";r=0;t=1' },
    }],
  });
  const { code, stderr } = await start(place, hub.endpoint, "data.c4.revision=refs/pr/1").ended;
  assertEquals(code, 0, stderr);
  assertStringIncludes(stderr.replaceAll(/\s+/g, " "), "waiting 1.0 s, as the answer asks");
  assert(hub.requests.every(({ path }) => path.includes("/refs%2Fpr%2F1/")));
});

Deno.test("download: a revision that git has no name for is exit code 2, and nothing is written", async () => {
  await using place = await sandbox();
  const { code, stderr } = await start(place, "http://127.0.0.1:9", "data.c4.revision='a\tb'")
    .ended;
  assertEquals(code, 2, stderr);
  assertStringIncludes(stderr.replaceAll(/\s+/g, " "), "is not a revision; expected a commit");
  assertEquals(Array.from(Deno.readDirSync(place.dir), ({ name }) => join(place.dir, name)), []);
});
