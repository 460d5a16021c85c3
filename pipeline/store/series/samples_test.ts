import { assertEquals, assertThrows } from "@std/assert";
import { join } from "@std/path";
import { decodeSamples, SampleTable } from "./samples.ts";

const text = (text: string) => ({ prompt: "p", text, finish: "max_tokens" });

Deno.test("texts are on disk when they are written; a rewind leaves none of the steps that are repeated", () => {
  const dir = Deno.makeTempDirSync();
  const path = join(dir, "samples.jsonl");
  const told: string[] = [];
  const make = () => new SampleTable(() => path, (step, { text }) => told.push(`${step} ${text}`));
  const steps = () => decodeSamples(Deno.readTextFileSync(path)).map(({ step }) => step);
  const table = make();
  assertEquals(table.text(), "");
  table.write(2, [text("a\n\u2028b"), text("c")]);
  table.write(4, [text("d")]);
  assertEquals(steps(), [2, 2, 4]);
  assertEquals(Deno.readTextFileSync(path), table.text());
  // A kill cut the last line short.
  Deno.writeTextFileSync(path, '{"step":6,"ind', { append: true });
  const resumed = make();
  resumed.load(Deno.readTextFileSync(path));
  resumed.rewind(3);
  assertEquals(steps(), [2, 2]);
  resumed.write(4, [text("e")]);
  assertEquals(Deno.readTextFileSync(path), resumed.text());
  assertEquals(decodeSamples(resumed.text()).map(({ text }) => text), ["a\n\u2028b", "c", "e"]);
  assertEquals(told, ["2 a\n\u2028b", "2 c", "4 d", "4 e"]);
  // Text of another node is taken up without a word.
  const other = join(dir, "other.jsonl");
  const longer = new SampleTable(() => other, () => told.push("no"));
  longer.take(resumed.text());
  assertEquals(Deno.readTextFileSync(other), resumed.text());
  assertEquals(told.length, 4);
  Deno.removeSync(dir, { recursive: true });
});

Deno.test("a torn file without a rewind is made whole by the next text; a disk that refuses is an error", () => {
  const dir = Deno.makeTempDirSync();
  const path = join(dir, "samples.jsonl");
  const table = new SampleTable(() => path, () => {});
  table.load('{"step":1,"index":0,"prompt":"","text":"x","finish":"context"}\n{"st');
  table.write(2, [text("y")]);
  assertEquals(decodeSamples(Deno.readTextFileSync(path)).map(({ text }) => text), ["x", "y"]);
  const refused = new SampleTable(() => join(dir, "no", "file"), () => {});
  assertThrows(() => refused.write(1, [text("z")]), Deno.errors.NotFound);
  Deno.removeSync(dir, { recursive: true });
});

Deno.test("lines that are no samples are left out", () => {
  const lines = ["", "null", "{}", '{"step":-1,"index":0,"prompt":"","text":"","finish":""}'];
  assertEquals(decodeSamples(lines.join("\n")), []);
});
