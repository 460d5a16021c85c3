/** Feeds the reader of JSON lines whatever a file may hold: documents come back, or one line that says what is wrong. */

import { isUtf8 } from "node:buffer";
import { assert, assertEquals } from "@std/assert";
import { join } from "@std/path";
import fc from "fast-check";
import { cutText, splitParagraphs } from "./cut.ts";
import { readFiles } from "./files.ts";

const encoder = new TextEncoder();
const seeded = { seed: 20, numRuns: 2000 };

const anyString = fc.string({ unit: "binary", maxLength: 40 });
/** Halves of surrogate pairs, which JSON may spell and UTF-8 can't. */
const escapes = fc.array(
  fc.constantFrom("\\ud800", "\\udc00", "\\ud83d\\ude00", "\\u0000", "\\u001b", "\\n", "x", "é"),
  { maxLength: 12 },
).map((parts) => parts.join(""));
const nested = fc.tuple(fc.constantFrom("[", '{"text":'), fc.integer({ min: 1, max: 30_000 }));
const closing = (open: string) => open === "[" ? "]" : "}";

/** Lines that are documents. */
const goodLine = fc.oneof(
  fc.record({ text: anyString, url: anyString, other: fc.jsonValue() }).map((value) =>
    JSON.stringify(value)
  ),
  escapes.map((text) => `{"text":"${text}"}`),
  // Longer than a batch of lines, at times.
  fc.oneof(
    { weight: 9, arbitrary: fc.nat({ max: 1000 }) },
    { weight: 1, arbitrary: fc.integer({ min: 200_000, max: 400_000 }) },
  ).map((n) => JSON.stringify({ text: "a".repeat(n) })),
  nested.map(([open, depth]) =>
    `{"text":"x","deep":${open.repeat(depth)}1${closing(open).repeat(depth)}}`
  ),
  fc.nat({ max: 400 }).map((digits) => `{"size":-1${"0".repeat(digits)}e${digits},"text":""}`),
  fc.constantFrom("", " ", "\t", "\r"),
);

/** Lines that are anything, most of them no documents. */
const anyLine = fc.oneof(
  fc.jsonValue().map((value) => JSON.stringify(value)),
  anyString,
  fc.dictionary(anyString, fc.jsonValue()).map((value) => JSON.stringify(value)),
  nested.map(([open, depth]) => open.repeat(depth)),
  nested.map(([open, depth]) => `${open.repeat(depth)}1${closing(open).repeat(depth)}`),
  fc.nat({ max: 100_000 }).map((n) => `{"${"k\\u001b\\n".repeat(n)}":1}`),
  fc.constantFrom("\ufeff", '\ufeff{"text":"marked"}', "nul", '{"text":1e999}', '{"text":"', "[1]"),
  escapes.map((text) => `{"text":"${text}`),
);

const goodBytes = goodLine.map((line) => encoder.encode(line));
const anyBytes = fc.oneof(
  anyLine.map((line) => encoder.encode(line)),
  fc.uint8Array({ maxLength: 60 }),
  // A document cut off, perhaps within a character.
  fc.tuple(goodBytes, fc.double({ min: 0, max: 1, noNaN: true })).map(([bytes, share]) =>
    bytes.subarray(0, Math.floor(bytes.length * share))
  ),
  // Bytes that are no UTF-8, within a string.
  fc.uint8Array({ maxLength: 20 }).map((bytes) =>
    Uint8Array.of(...encoder.encode('{"text":"'), ...bytes, ...encoder.encode('"}'))
  ),
);

/** A file: mostly documents, so that errors come in any line. */
const file = fc.record({
  mark: fc.boolean(),
  lines: fc.array(
    fc.oneof({ weight: 12, arbitrary: goodBytes }, { weight: 1, arbitrary: anyBytes }),
    { maxLength: 12 },
  ),
  end: fc.constantFrom("\n", "\r\n", "\n\n"),
  ended: fc.boolean(),
}).map(({ mark, lines, end, ended }) => {
  const parts = lines.flatMap((line, index) =>
    ended || index < lines.length - 1 ? [line, encoder.encode(end)] : [line]
  );
  return Buffer.concat([mark ? encoder.encode("\ufeff") : new Uint8Array(), ...parts]);
});

interface Outcome {
  readonly texts: readonly string[];
  /** Number of the line that is wrong; 0 if none is. */
  readonly wrong: number;
  /** Offset of the byte that is no text, if one is named. */
  readonly offset?: number;
}

/** The offset of the first byte that is no text: no UTF-8, or NUL. */
function encodingFault(bytes: Uint8Array<ArrayBuffer>): number | undefined {
  const nul = bytes.indexOf(0);
  const text = nul < 0 ? bytes : bytes.subarray(0, nul);
  if (isUtf8(text)) return nul < 0 ? undefined : nul;
  // Of 0 to 3 bytes fewer one prefix is UTF-8 until a byte is none.
  const whole = (end: number) =>
    [end, end - 1, end - 2, end - 3].find((n) => n >= 0 && isUtf8(text.subarray(0, n)));
  let [good, bad] = [0, text.length + 1];
  while (bad - good > 1) {
    const middle = (good + bad) >> 1;
    if (whole(middle) === undefined) bad = middle;
    else good = middle;
  }
  return whole(good);
}

/** Whether other bytes than UTF-8 are announced. */
const marked = ([first, second]: Uint8Array) =>
  (first === 0xff && second === 0xfe) || (first === 0xfe && second === 0xff);

/** The same reading, line by line without batches. */
function expected(bytes: Uint8Array): Outcome {
  const texts: string[] = [];
  const lines = new TextDecoder().decode(bytes).split("\n");
  for (const [index, line] of lines.entries()) {
    if (line.trim() === "") continue;
    let value: unknown;
    try {
      value = JSON.parse(line);
    } catch {
      return { texts, wrong: index + 1 };
    }
    const text = Object(value).text;
    if (typeof text !== "string") return { texts, wrong: index + 1 };
    texts.push(text.toWellFormed());
  }
  return { texts, wrong: 0 };
}

async function read(path: string): Promise<Outcome> {
  const texts: string[] = [];
  try {
    for await (const { text } of readFiles([path])) texts.push(text);
  } catch (error) {
    assert(error instanceof Error);
    const { message } = error;
    const said = message.replace(path, "");
    const [, line] = /^: line (\d+) (?:is not JSON: |has no string "text"; )/.exec(said) ?? [];
    const [, offset] = /^: the byte at offset (\d+) /.exec(said) ?? [];
    assert(line !== undefined || offset !== undefined, `The message names no place: ${message}`);
    // One line of a readable length, whatever the file holds.
    assertEquals(message.match(/[\p{C}\u2028\u2029]/u), null);
    assert(message.length < path.length + 4000, `A message of ${message.length} characters`);
    return line === undefined
      ? { texts, wrong: 0, offset: Number(offset) }
      : { texts, wrong: Number(line) };
  }
  return { texts, wrong: 0 };
}

Deno.test("files: any bytes are documents, or one line that names file and place", async () => {
  const dir = await Deno.makeTempDir();
  const path = join(dir, "any.jsonl");
  let wrong = 0;
  let faults = 0;
  let documents = 0;
  try {
    await fc.assert(
      fc.asyncProperty(file, async (bytes) => {
        // Arrays of documents are no lines (json_array_test.ts).
        fc.pre(!new TextDecoder().decode(bytes).trimStart().startsWith("["));
        await Deno.writeFile(path, bytes);
        const begin = performance.now();
        const outcome = await read(path);
        assert(performance.now() - begin < 10_000, "The reader takes too long");
        if (outcome.offset !== undefined) {
          if (!marked(bytes)) assertEquals(outcome.offset, encodingFault(bytes));
          faults++;
        } else if (!marked(bytes)) assertEquals(outcome, expected(bytes));
        if (outcome.wrong > 0) wrong++;
        documents += outcome.texts.length;
      }),
      seeded,
    );
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
  // The cases hold enough of each.
  assert(faults > 100, `${faults} of 2000 files are no text`);
  assert(wrong > 100 && wrong < 1800, `${wrong} of 2000 files are wrong`);
  assert(documents > 2000, `${documents} documents`);
});

Deno.test("files: nesting of a million levels is read or named", async () => {
  const dir = await Deno.makeTempDir();
  const path = join(dir, "deep.jsonl");
  const depth = 1_000_000;
  try {
    await Deno.writeTextFile(
      path,
      `{"text":"x","deep":${"[".repeat(depth)}${"]".repeat(depth)}}\n`,
    );
    assertEquals(await read(path), { texts: ["x"], wrong: 0 });
    await Deno.writeTextFile(path, `{"text":"x"}\n${"[".repeat(depth)}`);
    assertEquals(await read(path), { texts: ["x"], wrong: 2 });
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("cutText: long runs of white space take no longer than words", () => {
  const begin = performance.now();
  const spaces = " ".repeat(300_000);
  assertEquals(cutText(`a${spaces}b\n\n\n${spaces}`).join("").replaceAll(/\s+/g, " "), "a b");
  // Milliseconds; half a minute in quadratic time.
  assert(performance.now() - begin < 5000, "Cutting takes too long");
});

Deno.test("splitParagraphs: parts are those of the expression, also for millions of blank lines", () => {
  const text = fc.array(fc.constantFrom("\n", " ", "\t", "a", "\n\n", "\r"), { maxLength: 40 })
    .map((parts) => parts.join(""));
  fc.assert(
    fc.property(text, (text) => {
      assertEquals(Array.from(splitParagraphs(text)), text.split(/\n[ \t]*(?:\n[ \t]*)+/));
    }),
    { seed: 21, numRuns: 2000 },
  );
  assertEquals(Array.from(splitParagraphs("a" + "\n ".repeat(5_000_000) + "b")), ["a", "b"]);
});

Deno.test("files: text without blank lines is read in one go, whatever ends its lines", async () => {
  const dir = await Deno.makeTempDir();
  const path = join(dir, "long.txt");
  try {
    // Chunks are 256 Ki bytes: a length of 3 lets them end between the two halves of a line's end.
    for (const line of ["a\r\n", "b\n", "\r\n ", "\ta\r"]) {
      await Deno.writeTextFile(path, line.repeat(2_000_000));
      const begin = performance.now();
      const texts: string[] = [];
      for await (const { text } of readFiles([path])) texts.push(text);
      // A second; a quarter of a minute where all that was read is converted again with every chunk.
      assert(performance.now() - begin < 10_000, "Reading takes too long");
      const marks = texts.join("").replaceAll(/[^ab]/g, "").length;
      assertEquals(marks, /[ab]/.test(line) ? 2_000_000 : 0);
      assert(!texts.some((text) => text.includes("\r\n")), "CRLF is still there");
    }
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});
