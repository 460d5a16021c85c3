import { assert, assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { SourceError } from "./error.ts";
import { readParquet } from "./parquet.ts";
import { parquetBytes, parquetOf } from "./parquet_testing.ts";

async function inFolder(test: (dir: string) => Promise<void>): Promise<void> {
  const dir = await Deno.makeTempDir();
  try {
    await test(dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

/** Documents of a file with these bytes, whose name is taken for no pattern. */
async function read(dir: string, bytes: Uint8Array, options: { text_field?: string } = {}) {
  const path = join(dir, "a[1]*.parquet");
  await Deno.writeFile(path, bytes);
  return await Array.fromAsync(readParquet(path, { ...options, name: "shard.parquet" }));
}

Deno.test("parquet: rows come in their order, over many groups and chunks", () =>
  inFolder(async (dir) => {
    const texts = Array.from(
      { length: 9000 },
      (_, i) => `Story ${i}: “日本” 👩\n${"x".repeat(i % 50)}`,
    );
    const path = join(dir, "many.parquet");
    await Deno.writeFile(path, await parquetOf(texts, { group: 2048 }));
    const told: number[] = [];
    const documents = readParquet(path, { name: path, onRead: (bytes) => told.push(bytes) });
    assertEquals((await Array.fromAsync(documents)).map(({ text }) => text), texts);
    assert(told.length > 3);
    assertEquals(told, told.toSorted((a, b) => a - b));
    assertEquals(told.at(-1), (await Deno.stat(path)).size);
  }));

Deno.test("parquet: a name is no pattern, a column has any name, url and timestamp go along", () =>
  inFolder(async (dir) => {
    await Deno.writeFile(join(dir, "a1other.parquet"), await parquetOf(["another file"]));
    const rows = [{ 'the "story"': "Once", url: "u", timestamp: 5 }];
    const columns = { 'the "story"': "VARCHAR", url: "VARCHAR", timestamp: "BIGINT" };
    const bytes = await parquetBytes(rows, { columns });
    const documents = await read(dir, bytes, { text_field: 'the "story"' });
    assertEquals(documents, [{ text: "Once", url: "u" }]);
    assertEquals(await read(dir, await parquetOf([])), []);
    const blank = await parquetOf(["", " \n", " One.", ""]);
    assertEquals(await read(dir, blank), [{ text: " One." }]);
  }));

Deno.test("parquet: a reader may stop at any row", () =>
  inFolder(async (dir) => {
    const path = join(dir, "long.parquet");
    await Deno.writeFile(path, await parquetOf(Array.from({ length: 5000 }, (_, i) => `${i}`)));
    const seen: string[] = [];
    for await (const { text } of readParquet(path, { name: path })) {
      seen.push(text);
      if (seen.length === 3) break;
    }
    assertEquals(seen, ["0", "1", "2"]);
  }));

Deno.test("parquet: what can't be read ends in one line that names the file", () =>
  inFolder(async (dir) => {
    const texts = Array.from({ length: 3000 }, (_, i) => `${i} ${crypto.randomUUID()}`);
    const whole = await parquetOf(texts);
    const fails = async (bytes: Uint8Array, words: string, options = {}) => {
      const error = await assertRejects(() => read(dir, bytes, options), Error, words);
      assert(error.message.startsWith("shard.parquet"), error.message);
      assertEquals(error.message.includes("\n"), false);
      return error;
    };
    const damaged = (at: number, length: number) => {
      const bytes = whole.slice();
      for (let i = at; i < at + length; i++) bytes[i]! ^= 0x5a;
      return bytes;
    };
    const cases: [Uint8Array, string][] = [
      [new Uint8Array(0), "can't be read as Parquet: "],
      [whole.slice(0, -100), "can't be read as Parquet: No magic bytes"],
      [damaged(whole.length - 8, 4), "can't be read as Parquet: "],
      [damaged(4, 40), "can't be read as Parquet: "],
      [new TextEncoder().encode("<html>no such thing</html>"), "can't be read as Parquet: "],
    ];
    for (const [bytes, words] of cases) {
      const error = await fails(bytes, words);
      assert(error instanceof SourceError && !error.message.includes(dir), error.message);
    }
    await fails(whole, 'has no column "story"; its columns are text', { text_field: "story" });
    const numbers = await parquetBytes([{ text: 5 }], { columns: { text: "BIGINT" } });
    await fails(numbers, 'the column "text" is BIGINT; expected VARCHAR');
    const gap = await parquetBytes([{ text: "a" }, { text: null }]);
    await fails(gap, 'row 2 has no string "text"');
  }));

Deno.test("parquet: damage anywhere gives documents or one line", () =>
  inFolder(async (dir) => {
    const whole = await parquetOf(
      Array.from({ length: 300 }, (_, i) => `${i} ${"word ".repeat(9)}`),
    );
    let refused = 0;
    for (let i = 0; i < 60; i++) {
      const bytes = whole.slice();
      bytes[Math.floor(i * whole.length / 60)]! ^= 1 << (i % 8);
      try {
        await read(dir, bytes);
      } catch (error) {
        assert(error instanceof SourceError, String(error));
        assertEquals(error.message.includes("\n"), false);
        refused++;
      }
    }
    assert(refused > 5, `${refused} of 60 were refused`);
  }));
