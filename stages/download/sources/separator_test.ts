import { assertEquals, assertRejects } from "@std/assert";
import fc from "fast-check";
import { splitText } from "./separator.ts";

const END = "<|endoftext|>";

/** Bytes of a text in chunks of `size`. */
function* chunks(text: string, size: number): Generator<Uint8Array> {
  const bytes = new TextEncoder().encode(text);
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

const split = (text: string, size = 7, separator = END) =>
  Array.fromAsync(splitText(chunks(text, size), { name: "a.txt", separator }));

Deno.test("splitText: stories between lines of <|endoftext|>, or within a line", async () => {
  const stories =
    `One day.\n\nThe end.\n${END}\n\nTwo. 👩\n${END}\n${END}\n \n${END}Three.${END}Four.`;
  const expected = ["One day.\n\nThe end.", "Two. 👩", "Three.", "Four."];
  for (const size of [1, 2, 3, 7, 1000]) assertEquals(await split(stories, size), expected);
  assertEquals(await split(stories.replaceAll("\n", "\r\n"), 1), expected);
  assertEquals(await split(`${END}\n${END}`), []);
  assertEquals(await split(""), []);
  assertEquals(await split("no end"), ["no end"]);
  assertEquals(await split("a\r\n\r\nb\n\nc\rd\r", 1, "\r\n\r\n"), ["a", "b", "c\rd"]);
});

Deno.test("splitText: does not depend on where chunks end", async () => {
  const part = fc.constantFrom("a", " ", "\n", "\r", "<|", "<|end", END, "日", "--");
  const separators = fc.constantFrom(END, "--", "\n", "aa");
  const parts = fc.array(part, { maxLength: 30 });
  await fc.assert(
    fc.asyncProperty(parts, fc.nat(9), separators, async (parts, size, separator) => {
      const text = parts.join("");
      const expected = text.replaceAll("\r\n", "\n").split(separator).map((s) => s.trim())
        .filter((s) => s !== "");
      assertEquals(await split(text, size + 1, separator), expected);
    }),
    { numRuns: 300 },
  );
});

Deno.test("splitText: a separator that does not occur is told, and memory is bounded", async () => {
  function* endless(): Generator<Uint8Array> {
    const line = new TextEncoder().encode("It goes on.\n".repeat(1 << 16));
    for (;;) yield line;
  }
  const text = splitText(endless(), { name: "a.txt", separator: "=====" });
  await assertRejects(
    () => text.next(),
    Error,
    'a.txt: document 1 has more than 16 Mi characters; expected data.files.separator "=====" between',
  );
});
