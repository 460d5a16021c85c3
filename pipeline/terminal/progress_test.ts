import { assertEquals } from "@std/assert";
import { explain, systemCode, UserError } from "../errors.ts";
import { barLine, createDisplay, formatSeconds, PlainDisplay } from "./progress.ts";
import { formatBytes } from "../store/files.ts";
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

/** As much of a terminal as bars need: what would be seen in it. */
class Screen {
  readonly isTTY = true;
  readonly columns: number;
  readonly #rows: string[] = [""];
  #x = 0;
  #y = 0;

  constructor(columns: number) {
    this.columns = columns;
  }

  get lines(): string[] {
    return this.#rows.map((row) => row.trimEnd());
  }

  write(text: string): void {
    // deno-lint-ignore no-control-regex -- escape sequences are what is looked for
    for (const [token, count, command] of text.matchAll(/\x1b\[(\d*)([A-Z])|[^]/gu)) {
      const row = this.#rows[this.#y] ?? "";
      if (command === "G") this.#x = Number(count) - 1;
      else if (command === "A") this.#y = Math.max(0, this.#y - Number(count));
      else if (command === "K") this.#rows[this.#y] = count === "2" ? "" : row.slice(0, this.#x);
      else if (command === "J") {
        this.#rows.length = this.#y + 1;
        this.#rows[this.#y] = row.slice(0, this.#x);
      } else if (command !== undefined) {
        throw new Error(`The escape sequence ${command} is not known`);
      } else if (token === "\n") this.#next();
      else {
        if (this.#x === this.columns) this.#next();
        this.#rows[this.#y] = (this.#rows[this.#y] ?? "").padEnd(this.#x).slice(0, this.#x) +
          token +
          (this.#rows[this.#y] ?? "").slice(this.#x + 1);
        this.#x++;
      }
    }
  }

  #next(): void {
    this.#x = 0;
    this.#rows[++this.#y] ??= "";
  }
}

Deno.test("bars of a terminal stay below the lines, and nothing of them is left", async () => {
  const screen = new Screen(60);
  const write = (line: string) => screen.write(`${line}\n`);
  const display = await createDisplay({ terminal: true, stream: screen, write });
  display.line("tokenize: runs");
  const first = display.bar("tokenize", 100, "bytes");
  const second = display.bar("train[base,seed=1]", 12, "updates");
  first.update(50);
  second.update(3, "loss 5.5");
  const long = `train: warning: ${"the checkpoint is damaged, ".repeat(4)}and that is all`;
  display.line(long);
  assertEquals(screen.lines.slice(0, 3), [
    "tokenize: runs",
    long.slice(0, 60),
    long.slice(60, 120),
  ]);
  assertEquals(screen.lines.length, 6);
  assertEquals(screen.lines[4]!.split(" ")[0], "tokenize");
  assertEquals(screen.lines[5]!.split(" ")[0], "train[base,seed=1]");
  first.stop();
  assertEquals(screen.lines[4]!.split(" ")[0], "train[base,seed=1]");
  second.stop();
  display.line("train: done");
  const third = display.bar("evaluate", 2, "tokens");
  third.update(1);
  display.line("evaluate: a line");
  third.stop();
  third.stop();
  display.line("evaluate: done");
  display.stop();
  assertEquals(screen.lines, [
    "tokenize: runs",
    long.slice(0, 60),
    long.slice(60, 120),
    long.slice(120),
    "train: done",
    "evaluate: a line",
    "evaluate: done",
    "",
  ]);
});

Deno.test("barLine() fits its line, and drops the least important first", () => {
  const bar = {
    node: "train[base,seed=1]",
    done: 7,
    total: 12,
    unit: "updates",
    eta: "ETA 12 s",
    remark: "loss 5.446  9000 tokens/s",
  };
  assertEquals(
    barLine(bar, 120),
    "train[base,seed=1] ███████████████████░░░░░░░░░░░░░  58 %  7/12 updates  ETA 12 s  loss 5.446  9000 tokens/s",
  );
  assertEquals(
    barLine(bar, 79),
    "train[base,seed=1] ██████████░░░░░░░  58 %  ETA 12 s  loss 5.446  9000 tokens/s",
  );
  assertEquals(barLine(bar, 45), "train[base,seed=1] ██████░░░░  58 %  ETA 12 s");
  assertEquals(barLine(bar, 20), "train[base,seed=1] 5");
  for (let width = 0; width < 140; width++) assertEquals(barLine(bar, width).length <= width, true);
  assertEquals(barLine({ ...bar, total: 0, eta: "" }, 45).includes("  0 %"), true);
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
