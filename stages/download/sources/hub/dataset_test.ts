import { assert, assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { createHash } from "node:crypto";
import { gunzipSync, gzipSync } from "node:zlib";
import type { JsonValue } from "../../../../pipeline/stage.ts";
import type { StageRun } from "../../../testing.ts";
import { SourceError } from "../error.ts";
import { parquetOf } from "../parquet_testing.ts";
import { texts, trial } from "./c4_testing.ts";
import type { HubOptions } from "./hub.ts";
import { c4Shard, type Fault, type HubContent } from "./hub_standin.ts";

const REVISION = "f54c09fd23315a6f9c86f9dc80f725de7d8f9c64";
const END = "\n<|endoftext|>\n";

/** Stories as a text file with a line between them. */
const stories = (seed: number, count = 40) =>
  new TextEncoder().encode(texts(seed, count).join(END) + END);
const json = (lines: readonly string[], key = "text") =>
  new TextEncoder().encode(lines.map((text) => JSON.stringify({ [key]: text })).join("\n"));

/** A dataset that is laid out as TinyStories is, with a few more kinds. */
const FILES: HubContent["files"] = {
  "README.md": new TextEncoder().encode("# Stories"),
  "Stories-train.txt": stories(0),
  "Stories-valid.txt": stories(9, 5),
  "data/train-00000-of-00002-2d5a.parquet": await parquetOf(texts(1)),
  "data/train-00001-of-00002-5852.parquet": await parquetOf(texts(2)),
  "data/validation-00000-of-00001-869c.parquet": await parquetOf(texts(8, 6)),
  "more/v1/a.jsonl.gz": c4Shard(texts(3)),
  "more/v1/b.txt.gz": new Uint8Array(gzipSync(stories(4))),
  "more/v1/c.json": json(texts(5), "story"),
};

/** Downloads with a section `data.hub`. */
function hubTrial(
  hub: Record<string, JsonValue>,
  options: {
    content?: Partial<HubContent>;
    limits?: Record<string, number>;
    hub?: HubOptions & { dir?: string };
    check?: Parameters<typeof trial>[3];
  } = {},
): Promise<StageRun> {
  const section = { dataset: "someone/stories", revision: REVISION, ...hub };
  return trial(
    { files: FILES, ...options.content },
    { source: "hub", hub: section, ...options.limits },
    options.hub,
    options.check,
  );
}

/** Texts of the documents that a run published, held out or not. */
function published(run: StageRun, heldOut = false): string[] {
  return run.output.files("documents").filter((name) => name.startsWith("validation/") === heldOut)
    .flatMap((name) => {
      const packed = Deno.readFileSync(run.output.file("documents", name));
      const lines = new TextDecoder().decode(gunzipSync(packed)).trimEnd().split("\n");
      return lines.map((line) => JSON.parse(line).text as string);
    });
}

const TEXT = { files: "Stories-train.txt", validation: "Stories-valid.txt", separator: END.trim() };
const PARQUET = { folder: "data", files: "train-*.parquet", validation: "validation-*.parquet" };

Deno.test("hub: text with a separator, from the top of the dataset", async () => {
  await hubTrial(TEXT, {
    content: { page: 2 },
    check: ({ run, hub }) => {
      assertEquals(published(run), texts(0));
      assertEquals(published(run, true), texts(9, 5));
      const source = run.json.source as Record<string, JsonValue>;
      const bytes = (all: string[]) => all.reduce((n, text) => n + text.length, 0);
      const sha256 = createHash("sha256").update(FILES["Stories-train.txt"]!).digest("hex");
      const size = FILES["Stories-train.txt"]!.length;
      assertEquals(source.shards, [{ path: "Stories-train.txt", size, sha256, verified: true }]);
      assertEquals([source.source, source.dataset, source.revision, source.folder], [
        "hub",
        "someone/stories",
        REVISION,
        undefined,
      ]);
      assertEquals([source.documents, source.bytes], [40, bytes(texts(0))]);
      const held = source.validation as Record<string, JsonValue>;
      assertEquals([held.documents, held.files], [5, ["Stories-valid.txt"]]);
      assert(hub.requests.every(({ path }) => path.includes(REVISION)));
      assert(!hub.requests.some(({ path }) => path.endsWith("README.md")));
    },
  });
});

Deno.test("hub: Parquet from a folder, in the order of shards and rows", async () => {
  await hubTrial(PARQUET, {
    check: ({ run, hub }) => {
      assertEquals(published(run), [...texts(1), ...texts(2)]);
      assertEquals(published(run, true), texts(8, 6));
      assertEquals((run.json.source as { folder: string }).folder, "data");
      assertEquals(hub.requests.filter(({ path }) => path.endsWith(".parquet")).length, 3);
    },
  });
  await hubTrial({ ...PARQUET, shards: [1] }, {
    check: ({ run }) => assertEquals(published(run), texts(2)),
  });
});

Deno.test("hub: JSON lines, packed text and a field of another name, in nested folders", async () => {
  await hubTrial({ folder: "more/v1", files: "*.gz", separator: END.trim() }, {
    check: ({ run }) => assertEquals(published(run), [...texts(3), ...texts(4)]),
  });
  await hubTrial({ folder: "more/v1", files: "c.json", text_field: "story" }, {
    check: ({ run }) => assertEquals(published(run), texts(5)),
  });
});

Deno.test("hub: limits stream text, and fetch Parquet as far as it is needed", async (t) => {
  const verified = (run: StageRun) =>
    (run.json.source as { shards: { verified: boolean }[] }).shards.map(({ verified }) => verified);
  const broken: Fault = { on: "resolve", kind: "truncate", bytes: 700 };
  await t.step("text", async () => {
    await hubTrial({ folder: "more/v1", files: "*.gz", separator: END.trim() }, {
      limits: { max_documents: 50 },
      content: { faults: [broken] },
      check: ({ run }) => {
        assertEquals(published(run), [...texts(3), ...texts(4)].slice(0, 50));
        assertEquals(verified(run), [true, false]);
      },
    });
  });
  await t.step("held-out text has no limit", async () => {
    await hubTrial(TEXT, {
      limits: { max_bytes: 500 },
      check: ({ run }) => {
        const taken = published(run);
        assertEquals(taken, texts(0).slice(0, taken.length));
        assert(taken.length > 0 && taken.length < 6);
        assertEquals(published(run, true), texts(9, 5));
      },
    });
  });
  await t.step("Parquet", async () => {
    await hubTrial(PARQUET, {
      limits: { max_documents: 7 },
      content: { faults: [broken] },
      check: ({ run, hub }) => {
        assertEquals(published(run), texts(1).slice(0, 7));
        const asked = hub.requests.map(({ path }) => path).filter((path) => /parquet$/.test(path));
        assertEquals(asked.some((path) => path.includes("train-00001")), false);
      },
    });
  });
});

Deno.test("hub: a later attempt goes on where the last one ended, and hashes are checked", async () => {
  const dir = await Deno.makeTempDir();
  try {
    const faults: Fault[] = [
      { on: "resolve", kind: "truncate", bytes: 900 },
      { on: "resolve", kind: "status", status: 404 },
    ];
    const first = { ...PARQUET, shards: [0] };
    await assertRejects(() =>
      hubTrial(first, { content: { faults }, hub: { dir, concurrency: 1 } })
    );
    await hubTrial(first, {
      hub: { dir, concurrency: 1 },
      check: ({ run, hub }) => {
        assertEquals(published(run), texts(1));
        assert(hub.requests.some(({ range }) => range === "bytes=900-"), "the part is used");
      },
    });
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
  for (const [path, hub] of [["Stories-train.txt", TEXT], ["Stories-valid.txt", TEXT]] as const) {
    const content = { oids: { [path]: "ab".repeat(32) } };
    await assertRejects(
      () => hubTrial(hub, { content }),
      SourceError,
      "the hub's listing says abab",
    );
  }
});

Deno.test("hub: gives up in one line", async (t) => {
  const fails = (
    hub: Record<string, JsonValue>,
    words: string,
    options: Parameters<typeof hubTrial>[1] = {},
  ) =>
    t.step(words, async () => {
      const error = await assertRejects(() => hubTrial(hub, options), SourceError, words);
      assertEquals(error.message.includes("\n"), false);
    });
  await fails(
    { files: "*" },
    'data.hub.files "*" matches README.md; expected .jsonl, .json or .txt',
  );
  await fails({ files: "nothing.txt" }, `has no file nothing.txt; check data.hub`);
  await fails(
    { ...TEXT, files: "Stories-*.txt" },
    "Stories-valid.txt is in both data.hub.files and",
  );
  await fails({ ...PARQUET, separator: "---" }, 'data.hub.separator "---" has no effect');
  await fails({ ...PARQUET, shards: [2] }, "data.hub.shards: 2 is not there; the dataset has 2");
  await fails({ ...PARQUET, text_field: "story" }, 'has no column "story"; its columns are text');
  const cut = FILES["data/train-00000-of-00002-2d5a.parquet"]!.slice(0, -9);
  await fails(
    { folder: "data", files: "train-00000*" },
    "data/train-00000-of-00002-2d5a.parquet can't be read as Parquet: No magic bytes",
    { content: { files: { ...FILES, "data/train-00000-of-00002-2d5a.parquet": cut } } },
  );
  await fails(TEXT, "larger than data.max_bytes 3", { limits: { max_bytes: 3 } });
  const blank = { "blank.txt": new TextEncoder().encode(` ${END} `) };
  await fails({ files: "blank.txt", separator: END.trim() }, "blank.txt has no document", {
    content: { files: blank },
  });
  await fails(
    { folder: "data", files: "*" },
    "no plain name in the folder data",
    { content: { entries: [{ type: "file", path: "data/../x.parquet", size: 1 }] } },
  );
});

Deno.test("hub: nothing but what the endpoint lists is written to the state folder", async () => {
  const dir = await Deno.makeTempDir();
  try {
    await hubTrial(PARQUET, { hub: { dir } });
    const left = Array.from(Deno.readDirSync(join(dir, "state")), ({ name }) => name);
    assert(left.every((name) => /^[0-9a-f]{16}-[\w-]+\.parquet$/.test(name)), left.join());
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});
