/** Stories in local files: text with a separator, and Parquet. */

import { assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { gunzipSync, gzipSync } from "node:zlib";
import { runStage, type StageRun } from "../testing.ts";
import { download } from "./download.ts";
import { filesFingerprint } from "./sources/fingerprint.ts";
import { parquetOf } from "./sources/parquet_testing.ts";

const END = "<|endoftext|>";
const STORIES = ["Once upon a time.\n\nThe end.", "A dog ran.", "A cat sat."];

async function inFolder(test: (dir: string) => Promise<void>): Promise<void> {
  const dir = await Deno.makeTempDir();
  try {
    await test(dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

/** Texts that the stage publishes of these files, and those that it holds out. */
async function downloaded(dir: string, files: Record<string, string>) {
  const run = await runStage(download, {
    params: { source: "files", files },
    dir: join(dir, "run"),
  });
  return { learned: published(run, false), held: published(run, true), run };
}

function published(run: StageRun, heldOut: boolean): string[] {
  return run.output.files("documents").filter((name) => name.startsWith("validation/") === heldOut)
    .flatMap((name) => {
      const packed = Deno.readFileSync(run.output.file("documents", name));
      const lines = new TextDecoder().decode(gunzipSync(packed)).trimEnd().split("\n");
      return lines.map((line) => JSON.parse(line).text as string);
    });
}

Deno.test("stories: a separator makes documents of text, packed or not, in any encoding", () =>
  inFolder(async (dir) => {
    const text = STORIES.join(`\n${END}\n`) + `\n${END}\n`;
    await Deno.writeTextFile(join(dir, "a.txt"), text);
    await Deno.writeFile(join(dir, "b.txt.gz"), new Uint8Array(gzipSync(text)));
    const utf16 = new Uint8Array(utf16Bytes(`\ufeff${text}`));
    await Deno.writeFile(join(dir, "c.txt"), utf16);
    const { learned, run } = await downloaded(dir, {
      glob: join(dir, "*.txt*"),
      separator: END,
    });
    assertEquals(learned, [...STORIES, ...STORIES, ...STORIES]);
    assertEquals(run.progress.at(-1)?.done, run.progress.at(-1)?.total);
    // Without one the text is cut by its length, and the mark would be learned as text.
    const cut = await downloaded(dir, { glob: join(dir, "a.txt") });
    assertEquals(cut.learned.length, 1);
  }));

Deno.test("stories: Parquet beside text, learned and held out, with its content in the key", () =>
  inFolder(async (dir) => {
    await Deno.writeFile(join(dir, "train-0.parquet"), await parquetOf(STORIES));
    await Deno.writeTextFile(join(dir, "train-1.txt"), `More.${END}Still more.`);
    await Deno.writeFile(join(dir, "valid.parquet"), await parquetOf(["Held out."]));
    const files = {
      glob: join(dir, "train-*"),
      validation: join(dir, "valid.parquet"),
      separator: END,
    };
    const { learned, held, run } = await downloaded(dir, files);
    assertEquals(learned, [...STORIES, "More.", "Still more."]);
    assertEquals(held, ["Held out."]);
    assertEquals(run.progress.at(-1)?.done, run.progress.at(-1)?.total);
    const before = await filesFingerprint(files);
    await Deno.writeFile(join(dir, "valid.parquet"), await parquetOf(["Held uot."]));
    assertNotEquals(await filesFingerprint(files, { verify: true }), before);
  }));

Deno.test("stories: says in one line what is wrong with a file or a separator", () =>
  inFolder(async (dir) => {
    const parquet = join(dir, "a.parquet");
    await Deno.writeFile(parquet, await parquetOf(STORIES));
    const fails = async (files: Record<string, string>, words: string) => {
      const error = await assertRejects(() => downloaded(dir, files), Error, words);
      assertEquals(error.message.includes("\n"), false);
    };
    await fails({ glob: parquet, separator: END }, `data.files.separator "${END}" has no effect`);
    await fails({ glob: parquet, text_field: "story" }, `${parquet} has no column "story"`);
    await Deno.writeFile(parquet, (await parquetOf(STORIES)).slice(0, -20));
    await fails({ glob: parquet }, `${parquet} can't be read as Parquet: `);
    await Deno.writeTextFile(join(dir, "a.csv"), "text");
    await fails({ glob: join(dir, "a.csv") }, "each with or without .gz, or .parquet");
  }));

/** UTF-16, little-endian. */
function utf16Bytes(text: string): ArrayBuffer {
  return Uint16Array.from({ length: text.length }, (_, i) => text.charCodeAt(i)).buffer;
}
