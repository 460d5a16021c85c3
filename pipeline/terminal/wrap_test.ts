import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { formatTable } from "./table.ts";
import { wrapText } from "./wrap.ts";

Deno.test("wrapText() breaks at spaces, and indents what goes on", () => {
  const wrap = (text: string, columns: number, hang = 2) => wrapText(text, { columns, hang });
  assertEquals(wrap("one two three", 8), "one two\n  three");
  assertEquals(wrap("  one two three", 9), "  one two\n    three");
  assertEquals(wrap("short\n  one two\nthree four", 8), "short\n  one\n    two\nthree\n  four");
  assertEquals(wrap("a/very/long/path goes on", 10), "a/very/long/path\n  goes on");
  assertEquals(wrap("exactly ten", 11), "exactly ten");
  assertEquals(wrap("unbroken", 4), "unbroken");
  assertEquals(wrapText("one two", { columns: undefined, hang: 2 }), "one two");
});

Deno.test("formatTable() breaks the last column where there is room to", () => {
  const table = (columns?: number) =>
    formatTable(["run", "command"], [["1", "reproduce --config configs/tiny.yaml"]], { columns })
      .split("\n");
  assertEquals(table(30), [
    "run  command",
    `───  ${"─".repeat(25)}`,
    "1    reproduce --config",
    "     configs/tiny.yaml",
  ]);
  for (const columns of [undefined, 20, 100]) assertEquals(table(columns).length, 3);
});

Deno.test("wrapText() loses no word, and only a long word is longer than the terminal", () => {
  const word = fc.stringMatching(/^[a-z=,]{1,12}$/);
  const options = {
    columns: fc.integer({ min: 1, max: 40 }),
    hang: fc.integer({ min: 0, max: 12 }),
  };
  fc.assert(fc.property(fc.array(word), fc.record(options), (words, { columns, hang }) => {
    const wrapped = wrapText(words.join(" "), { columns, hang });
    assertEquals(wrapped.split(/\s+/).filter(Boolean), words);
    for (const line of wrapped.split("\n")) {
      assert(line.length <= columns || line.trim().split(" ").length === 1, wrapped);
    }
  }));
});
