import { assertEquals } from "@std/assert";
import { explain, systemCode, UserError } from "./errors.ts";
import { createDisplay, formatSeconds, PlainDisplay } from "./progress.ts";
import { formatBytes } from "./files.ts";
import { suggestion } from "./suggest.ts";

Deno.test("a plain display speaks every few seconds, with an ETA from this attempt's own rate", () => {
  const lines: string[] = [];
  let now = 0;
  const display = new PlainDisplay((line) => lines.push(line), () => now);
  const bar = display.bar("train", 1000, "steps");
  bar.update(500);
  now = 4000;
  bar.update(540);
  now = 5000;
  bar.update(550, "loss 2.5");
  now = 9000;
  bar.update(590);
  now = 10_000;
  bar.update(600);
  assertEquals(lines, [
    "train: 550/1000 steps (55 %), ETA 45 s, loss 2.5",
    "train: 600/1000 steps (60 %), ETA 40 s",
  ]);
});

Deno.test("without a terminal the display is plain", async () => {
  const lines: string[] = [];
  const display = await createDisplay({ terminal: false, write: (line) => lines.push(line) });
  display.line("hello");
  display.stop();
  assertEquals(lines, ["hello"]);
});

Deno.test("formatSeconds() and formatBytes() read well", () => {
  assertEquals([0.26, 12.4, 59.6, 200, 7500].map(formatSeconds), [
    "0.3 s",
    "12 s",
    "1 min 00 s",
    "3 min 20 s",
    "2 h 05 min",
  ]);
  assertEquals([12, 1536, 5 * 2 ** 30].map(formatBytes), ["12 B", "1.5 KiB", "5.0 GiB"]);
});

Deno.test("explain() makes one line of what the system says", () => {
  const full = Object.assign(new Error("No space left on device (os error 28): writefile '/a/b'"), {
    code: "ENOSPC",
  });
  assertEquals(explain(full, "running x"), "The disk is full while running x (/a/b).");
  const duck = new Error('IO Error: Could not write file "/a": No space left on device');
  assertEquals(systemCode(new Error("outer", { cause: duck })), "ENOSPC");
  assertEquals(explain(new UserError("Plain words.")), "Plain words.");
  assertEquals(explain(new Error("Something else")), "Something else");
});

Deno.test("suggestion() suggests only what is close", () => {
  assertEquals(suggestion("reprodce", ["reproduce", "report"]), " Did you mean `reproduce`?");
  assertEquals(suggestion("zzz", ["reproduce", "report"]), "");
  assertEquals(suggestion("x", []), "");
});
