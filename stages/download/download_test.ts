import { assert, assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { createHash } from "node:crypto";
import { gunzipSync, gzipSync } from "node:zlib";
import fc from "fast-check";
import type { JsonValue } from "../../pipeline/stage.ts";
import { dataSchema, download } from "./download.ts";
import { C4_REVISION } from "./sources/hub/section.ts";
import { cutText } from "./sources/cut.ts";
import { gunzipBytes } from "./sources/document.ts";
import { detag, plainText, unwrap } from "./sources/embedded.ts";
import { filesFingerprint } from "./sources/fingerprint.ts";
import { runStage, type StageRun } from "../testing.ts";

interface Line {
  text: string;
  url?: string;
  timestamp?: string;
}

function readLines(run: StageRun): Line[] {
  return run.output.files("documents").flatMap((name) =>
    new TextDecoder().decode(gunzipSync(Deno.readFileSync(run.output.file("documents", name))))
      .trimEnd().split("\n").map((line) => JSON.parse(line))
  );
}

async function inFolder(test: (dir: string) => Promise<void>): Promise<void> {
  const dir = await Deno.makeTempDir();
  try {
    await test(dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

Deno.test("embedded: all of it, plain and in documents of a few kilobytes", () =>
  inFolder(async (dir) => {
    const run = await runStage(download, { params: {}, dir });
    const lines = readLines(run);
    const source = run.json.source as { documents: number };
    assertEquals(source.documents, lines.length);
    const text = lines.map(({ text }) => text).join("\n");
    const words = text.split(/\s+/).length;
    // 4.1 million words of prose and verse; the corpora count punctuation too.
    assert(words > 4_000_000 && words < 5_000_000, `${words} words`);
    assertEquals(text.match(/(?![\t\n])\p{Cc}/gu), null);
    assertEquals(text.match(/\b[a-z]+\/(?:nn|vb|at|jj)\b/g), null);
    assert(lines.every(({ text }) => text.length <= 8010 && text.trim() !== ""));
    assert(!lines.some(({ url }) => url?.includes("bible")));
    for (const name of ["gutenberg:melville", "brown:ca01", "sotu:1862"]) {
      assert(lines.some(({ url }) => url?.startsWith(name)), name);
    }
    assert(text.includes('"Call me Ishmael') || text.includes("Call me Ishmael."));
    assert(text.includes("The Fulton County Grand Jury said Friday an investigation of"));
    // The same text gives the same bytes: the first part of a limited run is that of the whole.
    const limited = await runStage(download, { params: { max_bytes: 100_000 }, dir });
    const some = readLines(limited);
    assertEquals(some, lines.slice(0, some.length));
    assert((limited.json.source as { bytes: number }).bytes <= 100_000);
    assertEquals(new Set(some.map(({ url }) => url?.split(":")[0])).size, 3);
  }));

Deno.test("files: JSON lines and text, packed or not, in order, with a limit", () =>
  inFolder(async (dir) => {
    const line = (body: string) => JSON.stringify({ body, url: "u", timestamp: "t", other: 1 });
    await Deno.writeTextFile(join(dir, "a.jsonl"), `${line("one")}\n\n${line("a\ud800b")}`);
    await Deno.writeFile(join(dir, "b.json.gz"), gzipSync(`${line("three")}\n`));
    await Deno.writeFile(join(dir, "c.txt.gz"), gzipSync("A.\r\n\r\nB wide\r\nworld."));
    const glob = join(dir, "*.{jsonl,gz}");
    const files = { glob, text_field: "body", fingerprint: await filesFingerprint({ glob }) };
    const params = { source: "files", files };
    const run = await runStage(download, { params, dir: join(dir, "run") });
    assertEquals(readLines(run), [
      { text: "one", url: "u", timestamp: "t" },
      { text: "a\ufffdb", url: "u", timestamp: "t" },
      { text: "three", url: "u", timestamp: "t" },
      { text: "A.\n\nB wide\nworld.", url: "file:c.txt.gz" },
    ]);
    const limited = await runStage(download, {
      params: { ...params, max_documents: 2 },
      dir: join(dir, "run"),
    });
    assertEquals(readLines(limited).length, 2);
    await Deno.writeTextFile(join(dir, "a.jsonl"), line("longer than before, by some words"));
    await assertRejects(
      () => runStage(download, { params, dir: join(dir, "run") }),
      Error,
      "changed after the experiment was planned",
    );
  }));

Deno.test("files: what is held out is kept apart, and packages may add to the rest", () =>
  inFolder(async (dir) => {
    const line = (text: string) => `${JSON.stringify({ text })}\n`;
    await Deno.writeTextFile(join(dir, "train-0.jsonl"), line("one") + line("two"));
    await Deno.writeTextFile(join(dir, "held-0.jsonl"), line("three"));
    const section = { glob: join(dir, "train-*.jsonl"), validation: join(dir, "held-*.jsonl") };
    const fingerprint = await filesFingerprint(section);
    const files = { ...section, fingerprint, embedded: true };
    const params = { source: "files", files, max_bytes: 50_000 };
    const run = await runStage(download, { params, dir: join(dir, "run") });
    assertEquals(run.output.files("documents"), ["00000.jsonl.gz", "validation/00000.jsonl.gz"]);
    const texts = readLines(run).map(({ text }) => text);
    assertEquals([texts[0], texts[1], texts.at(-1)], ["one", "two", "three"]);
    assert(texts.length > 5 && texts.length < 100, `${texts.length} documents`);
    const source = run.json.source as { validation: unknown; packages: unknown[] };
    assertEquals(source.validation, {
      documents: 1,
      bytes: 5,
      files: [join(dir, "held-0.jsonl")],
    });
    assertEquals(source.packages.length, 3);
    await Deno.writeTextFile(join(dir, "held-0.jsonl"), line("another third"));
    await assertRejects(
      () => runStage(download, { params, dir: join(dir, "run") }),
      Error,
      "changed after the experiment was planned",
    );
    const both = { source: "files", files: { ...section, glob: join(dir, "*.jsonl") } };
    await assertRejects(
      () => runStage(download, { params: both, dir: join(dir, "run") }),
      Error,
      "held-0.jsonl is in both data.files.glob and data.files.validation",
    );
  }));

Deno.test("files: what can't be read is named", () =>
  inFolder(async (dir) => {
    const fails = (params: JsonValue, words: string) =>
      assertRejects(() => runStage(download, { params, dir: join(dir, "run") }), Error, words);
    const files = (glob: string) => ({ source: "files", files: { glob: join(dir, glob) } });
    await fails(files("*.jsonl"), "No file matches data.files.glob");
    await Deno.writeTextFile(join(dir, "x.csv"), "a,b");
    await fails(files("*.csv"), "x.csv; expected .jsonl, .json or .txt");
    await Deno.writeTextFile(join(dir, "x.jsonl"), '{"text":"ok"}\n[1]\n');
    await fails(files("x.jsonl"), 'x.jsonl: line 2 has no string "text"; its keys are 0');
    await Deno.writeFile(join(dir, "y.jsonl.gz"), gzipSync('{"text":"ok"}\n').subarray(0, 20));
    await fails(files("y.jsonl.gz"), "y.jsonl.gz can't be read to its end: unexpected end of file");
    await Deno.writeTextFile(join(dir, "z.txt"), " \n");
    await fails(files("z.txt"), `data.files.glob (${join(dir, "z.txt")}) has no document`);
    await fails({ max_bytes: 10 }, "larger than data.max_bytes 10");
  }));

Deno.test("dataSchema: defaults, and what is wrong by its key", () => {
  assertEquals(dataSchema.parse({}), { source: "embedded" });
  assertEquals(dataSchema.parse({ source: "c4", c4: {} }).c4?.revision, C4_REVISION);
  const issue = (value: unknown) => {
    const { error } = dataSchema.safeParse(value);
    return `${error?.issues[0]?.path.join(".")}: ${error?.issues[0]?.message}`;
  };
  const cases: [unknown, string][] = [
    [{ source: "web" }, 'source: "web" is not a source; expected embedded, c4, hub or files'],
    [
      { source: "files" },
      "files: source: files needs files.glob, as files: { glob: text/*.jsonl }",
    ],
    [{ c4: {} }, "c4: has no effect with source: embedded; remove it or set source: c4"],
    [{ source: "c4", c4: { fraction: 2 } }, "c4.fraction: fraction is at most 1"],
    [
      { source: "c4", c4: { fraction: 0.1, shards: [0] } },
      "c4.shards: fraction and shards say the same thing twice; give one of them",
    ],
    [{ source: "c4", c4: { shards: [1, 1] } }, "c4.shards: 1, 1 names a shard twice"],
    [
      { source: "c4", c4: { dataset: "../etc" } },
      'c4.dataset: "../etc" is not a dataset\'s name; expected owner/name, as allenai/c4',
    ],
    [
      { source: "c4", c4: { config: ".." } },
      'c4.config: ".." is not a folder\'s name; expected one such as en',
    ],
    [
      { source: "hub" },
      "hub: source: hub needs hub.dataset, hub.revision and hub.files, as hub: { dataset: roneneldan/TinyStories, revision: a commit, files: TinyStories-train.txt }",
    ],
    [
      { source: "hub", hub: { dataset: "a/b", files: "*.txt" } },
      "hub.revision: Invalid input: expected string, received undefined",
    ],
    [
      { source: "hub", hub: { dataset: "a/b", files: "*.txt", revision: "c", folder: "a/../b" } },
      'hub.folder: "a/../b" is not a folder of a dataset; expected one such as data or en/v1',
    ],
    [
      { source: "hub", hub: { dataset: "a/b", files: "*.txt", revision: "c", shards: [1, 1] } },
      "hub.shards: 1, 1 names a shard twice",
    ],
    [
      { source: "files", files: { glob: "*.txt", separator: "" } },
      "files.separator: separator must not be empty",
    ],
    [{ max_bytes: 1.5 }, "max_bytes: max_bytes must be a whole number"],
    [{ sorce: "c4" }, ': Unrecognized key: "sorce"'],
  ];
  for (const [value, expected] of cases) assertEquals(issue(value), expected);
});

Deno.test("cutText: loses no word and keeps documents short", () => {
  const word = fc.constantFrom("word", "End.", "CHAPTER", "日本", "👩", "A");
  const paragraph = fc.array(word, { maxLength: 4000 }).map((words) => words.join(" "));
  fc.assert(
    fc.property(fc.array(paragraph, { maxLength: 6 }), (paragraphs) => {
      const documents = cutText(paragraphs.join("\n\n"));
      const words = (text: string) => text.split(/\s+/).filter((word) => word !== "");
      assertEquals(documents.flatMap(words), paragraphs.flatMap(words));
      assert(documents.every((document) => document.length <= 8010 && document !== ""));
    }),
    { numRuns: 30 },
  );
  assertEquals(cutText("x".repeat(9000)).map(({ length }) => length), [8000, 1000]);
});

Deno.test("detag: punctuation as printed", () => {
  assertEquals(
    detag(
      "``/`` Yes/rb ''/'' ,/, she/pps said/vbd ./.\n\n\n\tOne/cd half/nn 1/2/cd (/( so/rb )/) ;/. ;/.",
    ),
    '"Yes", she said.\n\nOne half 1/2 (so);',
  );
});

Deno.test("plainText and unwrap: line ends, encodings, verse", () => {
  assertEquals(plainText(Uint8Array.of(0x63, 0xe9, 13, 10, 0)), "cé\n");
  assertEquals(plainText(new TextEncoder().encode("é\u0001")), "é");
  assertEquals(
    unwrap("a line\nand  more\n\nsaid\n   a verse\n   in two"),
    "a line and more\n\nsaid\n   a verse\n   in two",
  );
});

Deno.test("gunzipBytes: reads a shard of many members", async () => {
  const parts = [gzipSync("one "), gzipSync("two")].map((part) => new Uint8Array(part));
  async function* chunks() {
    for (const part of parts) yield await Promise.resolve(part);
  }
  let text = "";
  for await (const chunk of gunzipBytes(chunks(), "x")) text += new TextDecoder().decode(chunk);
  assertEquals(text, "one two");
});

Deno.test("embedded: two downloads are the same bytes", () =>
  inFolder(async (dir) => {
    const digest = async () => {
      const run = await runStage(download, { params: { max_bytes: 300_000 }, dir });
      return createHash("sha256")
        .update(Deno.readFileSync(run.output.file("documents", "00000.jsonl.gz"))).digest("hex");
    };
    assertEquals(await digest(), await digest());
  }));
