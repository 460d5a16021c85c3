/** Local files as people have them: encodings, arrays, odd names, links to nothing, changes that sizes and times hide. */

import { assert, assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { gzipSync } from "node:zlib";
import fc from "fast-check";
import { dataSchema } from "./download.ts";
import { encodingName, utf8Bytes } from "./sources/encoding.ts";
import { escapeGlob, findFiles, findFilesBelow, readFiles } from "./sources/files.ts";
import { contentDigest, knownFiles } from "./sources/content_digest.ts";
import { filesFingerprint } from "./sources/fingerprint.ts";

async function inFolder(test: (dir: string) => Promise<void>): Promise<void> {
  const dir = await Deno.makeTempDir();
  try {
    await test(dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

type Bytes = Uint8Array<ArrayBuffer>;

const MARKS: Record<string, number[]> = {
  "utf-8": [0xef, 0xbb, 0xbf],
  "utf-16le": [0xff, 0xfe],
  "utf-16be": [0xfe, 0xff],
  "utf-32le": [0xff, 0xfe, 0, 0],
  "utf-32be": [0, 0, 0xfe, 0xff],
};

/** A text in one of the encodings of {@linkcode MARKS}, without a mark. */
function encode(text: string, encoding: string): Bytes {
  if (encoding === "utf-8") return new TextEncoder().encode(text);
  const wide = encoding.startsWith("utf-32");
  const units = wide
    ? Array.from(text, (character) => character.codePointAt(0)!)
    : Array.from({ length: text.length }, (_, i) => text.charCodeAt(i));
  const bytes = new Uint8Array(units.length * (wide ? 4 : 2));
  const view = new DataView(bytes.buffer);
  const little = encoding.endsWith("le");
  units.forEach((unit, i) =>
    wide ? view.setUint32(4 * i, unit, little) : view.setUint16(2 * i, unit, little)
  );
  return bytes;
}

const marked = (text: string, encoding: string) =>
  Uint8Array.from([...MARKS[encoding]!, ...encode(text, encoding)]);

/** The text that `utf8Bytes` makes of bytes that come in pieces. */
async function decoded(bytes: Bytes, options: { encoding?: string; piece?: number } = {}) {
  const { encoding, piece = 7 } = options;
  async function* pieces() {
    for (let at = 0; at < bytes.length; at += piece) {
      yield await Promise.resolve(bytes.subarray(at, at + piece));
    }
  }
  const parts = await Array.fromAsync(utf8Bytes(pieces(), { name: "a.txt", encoding }));
  return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })
    .decode(new Uint8Array(parts.flatMap((part) => [...part])));
}

async function texts(path: string, options: Parameters<typeof readFiles>[1] = {}) {
  return (await Array.fromAsync(readFiles([path], options))).map(({ text }) => text);
}

const TEXT = "Größe, naïve café: 日本語 and 👩‍🚀.\nA second line.";

Deno.test("a byte-order mark decides the encoding, whichever is named and however the bytes are cut", async () => {
  const unit = fc.string({ unit: "grapheme", minLength: 1, maxLength: 40 })
    .filter((text) => text.isWellFormed() && !text.includes("\0"));
  await fc.assert(
    fc.asyncProperty(
      unit,
      fc.constantFrom(...Object.keys(MARKS)),
      fc.integer({ min: 1, max: 9 }),
      async (text, encoding, piece) => {
        const named = encoding === "utf-8" ? "latin1" : "utf-8";
        const bytes = marked(text, encoding);
        assertEquals(await decoded(bytes, { piece, encoding: named }), text);
        const bare = encode(text, encoding);
        const hasMark = Object.values(MARKS).some((mark) =>
          mark.every((byte, i) => bare[i] === byte)
        );
        if (!hasMark) assertEquals(await decoded(bare, { piece, encoding }), text);
      },
    ),
    { numRuns: 300, seed: 8 },
  );
  for (const text of ["", "a", "é"]) {
    assertEquals(await decoded(encode(text, "utf-8"), { piece: 1 }), text);
    assertEquals(await decoded(marked(text, "utf-16be"), { piece: 1 }), text);
  }
});

Deno.test("an encoding that is named is read: one byte a character, or several", async () => {
  assertEquals(await decoded(Uint8Array.of(0x63, 0xe9, 0x80), { encoding: "latin1" }), "cé€");
  const gbk = Uint8Array.of(0xc4, 0xe3, 0xba, 0xc3, 10, 0xc4, 0xe3, 10, 0x61, 0xc4, 0xe3);
  for (const piece of [1, 2, 3, 100]) {
    assertEquals(await decoded(gbk, { encoding: "gbk", piece }), "你好\n你\na你");
  }
  assertEquals(["UTF8", "latin1", "utf-32le", "klingon"].map(encodingName), [
    "utf-8",
    "windows-1252",
    "utf-32le",
    undefined,
  ]);
  const files = (encoding: string) =>
    dataSchema.safeParse({ source: "files", files: { glob: "x", encoding } });
  assert(files("latin1").success);
  assertEquals(
    files("klingon").error?.issues[0]?.message,
    '"klingon" is not an encoding; expected one that TextDecoder knows, such as utf-8, latin1 or utf-16le',
  );
});

Deno.test("bytes that are no text are refused at their offset, however the bytes are cut", async () => {
  const fails = async (bytes: Bytes, words: string, encoding?: string) => {
    for (const piece of [1, 2, 3, 5, 1000]) {
      const options = { piece, ...(encoding === undefined ? {} : { encoding }) };
      await assertRejects(() => decoded(bytes, options), Error, words);
    }
  };
  const ascii = encode("plain text", "utf-8");
  const at = (...bytes: number[]) => Uint8Array.from([...ascii, ...bytes]);
  await fails(at(0xe9, 0x20), "a.txt: the byte at offset 10 (0xE9) is not utf-8; expected text");
  await fails(at(0xf0, 0x9f, 0x91, 0x41), "offset 10 (0xF0) is not utf-8");
  await fails(at(0x41, 0xe6, 0x97), "offset 11 (0xE6) is not utf-8");
  await fails(at(0x80), "offset 10 (0x80) is not utf-8");
  await fails(at(0), "offset 10 (0x00) is NUL, which text does not have");
  await fails(at(0), "offset 10 (0x00) is NUL", "latin1");
  await fails(encode("no mark", "utf-16le"), "offset 1 (0x00) is NUL");
  const half = Uint8Array.from([...marked("ab", "utf-16le"), 0x3d, 0xd8, 0x41, 0]);
  await fails(half, "offset 6 (0x3D) is not utf-16le; its first bytes are the mark");
  await fails(Uint8Array.from([...marked("ab", "utf-16be"), 0x00]), "offset 6 (0x00) is not");
  await fails(Uint8Array.from([...marked("a", "utf-32le"), 0, 0, 0x11, 0]), "offset 8");
  await fails(Uint8Array.of(0x61, 10, 0x62, 0xff, 0xff), "offset 3 (0xFF) is not gbk", "gbk");
  await fails(gzipSync("x") as Bytes, "it looks packed by gzip");

  // Whatever the bytes are: their text, or a refusal. No byte becomes another.
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 40 }), async (random) => {
      const bytes = new Uint8Array(random);
      let text: string;
      try {
        text = await decoded(bytes, { piece: 3 });
      } catch (error) {
        assert(/^a\.txt: the byte at offset \d+ /.test((error as Error).message), String(error));
        return;
      }
      const again = Object.keys(MARKS).some((encoding) =>
        [encode(text, encoding), marked(text, encoding)].some((other) =>
          other.join() === bytes.join()
        )
      );
      assert(again, text);
    }),
    { numRuns: 1000, seed: 8 },
  );
});

Deno.test("every kind of file is read in every encoding, packed or not", () =>
  inFolder(async (dir) => {
    const record = JSON.stringify({ text: TEXT });
    const kinds: [string, string][] = [
      ["a.txt", TEXT],
      ["a.jsonl", `${record}\n${record}\n`],
      ["a.json", JSON.stringify([{ text: TEXT }], null, 2)],
    ];
    for (const [name, content] of kinds) {
      const path = join(dir, name);
      for (const encoding of Object.keys(MARKS)) {
        await Deno.writeFile(path, marked(content, encoding));
        await Deno.writeFile(`${path}.gz`, gzipSync(marked(content, encoding)));
        const expected = name === "a.jsonl" ? [TEXT, TEXT] : [TEXT];
        assertEquals(await texts(path), expected, `${name} in ${encoding}`);
        assertEquals(await texts(`${path}.gz`), expected, `${name}.gz in ${encoding}`);
      }
      const latin1 = Uint8Array.from(
        content.replaceAll(/[^\0-\xff]/g, "?"),
        (c) => c.charCodeAt(0),
      );
      await Deno.writeFile(path, latin1);
      await assertRejects(() => texts(path), Error, `${path}: the byte at offset `);
      const [text] = await texts(path, { encoding: "latin1" });
      assert(text!.startsWith("Größe, naïve café"), text);
    }
  }));

Deno.test("a JSON array is read document by document; what is neither array nor lines is named", () =>
  inFolder(async (dir) => {
    const path = join(dir, "a.json");
    const read = async (content: string) => {
      await Deno.writeTextFile(path, content);
      return await texts(path);
    };
    const documents = [{ text: "one" }, { text: "two [ ] {" }];
    assertEquals(await read(JSON.stringify(documents, null, 2)), ["one", "two [ ] {"]);
    assertEquals(await read(`\n \t${JSON.stringify(documents)}\n`), ["one", "two [ ] {"]);
    assertEquals(await read("[]"), []);
    const big = Array.from({ length: 3000 }, (_, i) => ({ text: `${i} `.repeat(100) }));
    assertEquals((await read(JSON.stringify(big, null, 1))).length, 3000);
    const fails = (content: string, words: string) =>
      assertRejects(() => read(content), Error, words);
    await fails('["one"]', 'a.json: document 1 of the array has no string "text"');
    await fails('[{"text":"a"},{"body":"b"}]', "document 2 of the array has no string");
    await fails('[{"text":"a"}\n', "begins as a JSON array of documents and is not JSON");
    await fails('[{"text":"a"}]\n[{"text":"b"}]\n', "begins as a JSON array");
    await fails(
      JSON.stringify({ text: "one" }, null, 2),
      "expected one document a line, or an array of them",
    );
  }));

Deno.test("a path that exists is that file; patterns come second", () =>
  inFolder(async (dir) => {
    const write = (name: string) => Deno.writeTextFile(join(dir, name), "x");
    for (const name of ["[draft] notes.txt", "d notes.txt", "{a,b}.txt", "a.txt", "q*.txt"]) {
      await write(name);
    }
    await Deno.mkdir(join(dir, "[draft]/in"), { recursive: true });
    await write("[draft]/in/deep.txt");
    const find = async (pattern: string) =>
      (await findFiles(join(dir, pattern))).map((path) => path.slice(dir.length + 1));
    assertEquals(await find("[draft] notes.txt"), ["[draft] notes.txt"]);
    assertEquals(await find("[d] notes.txt"), ["d notes.txt"]);
    assertEquals(await find("{a,b}.txt"), ["{a,b}.txt"]);
    assertEquals(await find("q*.txt"), ["q*.txt"]);
    assertEquals(await find(`${escapeGlob("[draft]")}/**/*.txt`), ["[draft]/in/deep.txt"]);
    const below = await findFilesBelow(join(dir, "[draft]"));
    assertEquals(below, [join(dir, "[draft]/in/deep.txt")]);
    await assertRejects(() => find("[draft]"), Error, "is a folder; expected its files");
    await assertRejects(() => find(`${"x".repeat(300)}*.txt`), Error, "No file matches");
  }));

Deno.test("a link to nothing is left out with a warning that names it", () =>
  inFolder(async (dir) => {
    await Deno.writeTextFile(join(dir, "good.txt"), "x");
    await Deno.symlink("nowhere.txt", join(dir, "lost.txt"));
    await Deno.symlink("round.txt", join(dir, "round.txt"));
    await Deno.symlink("good.txt", join(dir, "other.txt"));
    const said: string[] = [];
    const warn = (line: string) => void said.push(line);
    const files = await findFiles(join(dir, "*.txt"), { warn });
    assertEquals(files, [join(dir, "good.txt"), join(dir, "other.txt")]);
    const why = "is left out: it is a link that leads to no file";
    assertEquals(said.sort(), [
      `${join(dir, "lost.txt")} ${why}`,
      `${join(dir, "round.txt")} ${why}`,
    ]);
    assertEquals(await findFilesBelow(dir), files);
    const alone = await assertRejects(() => findFiles(join(dir, "lost.txt")), Error);
    assert(alone.message.endsWith("lost.txt is a link that leads to no file"), alone.message);
  }));

Deno.test("content decides whether a file has changed, not its size and time", () =>
  inFolder(async (dir) => {
    const path = join(dir, "a.txt");
    const glob = join(dir, "*.txt");
    const old = new Date("2020-01-02T03:04:05Z");
    const write = async (text: string) => {
      await Deno.writeTextFile(path, text);
      await Deno.utime(path, old, old);
    };
    await write("one");
    const before = await filesFingerprint({ glob });
    assertEquals(await filesFingerprint({ glob }), before);
    await write("two");
    assertNotEquals(await filesFingerprint({ glob }), before);
    await write("one");
    assertEquals(await filesFingerprint({ glob }), before);
  }));

Deno.test("a digest is trusted only of a file that had rested, and never with verify", () =>
  inFolder(async (dir) => {
    const path = join(dir, "a.txt");
    await Deno.writeTextFile(path, "one");
    const digest = await contentDigest(path);
    const known = knownFiles().get(path)!;
    // Stands for a digest that was taken of other bytes: it tells whether the file is read again.
    const other = "0".repeat(64);
    const put = (changes: object) =>
      knownFiles().set(path, { ...known, sha256: other, ...changes });
    put({});
    assertEquals(await contentDigest(path), digest, "read within two seconds of the change");
    const rested = { read_at: Math.max(known.mtime, known.ctime) + 2000 };
    put(rested);
    assertEquals(await contentDigest(path), other, "nothing says that it has changed");
    put(rested);
    assertEquals(await contentDigest(path, { verify: true }), digest);
    for (const key of ["size", "mtime", "ctime", "inode"] as const) {
      put({ ...rested, [key]: known[key] - 1 });
      assertEquals(await contentDigest(path), digest, key);
    }
    const future = new Date(Date.now() + 1e7);
    await Deno.utime(path, future, future);
    await contentDigest(path);
    knownFiles().set(path, { ...knownFiles().get(path)!, sha256: other });
    assertEquals(await contentDigest(path), digest, "a time of the future");
  }));
