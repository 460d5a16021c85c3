import { assertEquals } from "@std/assert";
import { join } from "@std/path";
import { decodeRunEvent, RunEvents, type TimedEvent } from "./run_events.ts";
import { inspectStore } from "../store/folder.ts";
import { Records } from "../store/records/records.ts";
import { PlainDisplay } from "../terminal/progress.ts";

function read(path: string): TimedEvent[] {
  return Deno.readTextFileSync(path).split("\n").flatMap((line) => decodeRunEvent(line) ?? []);
}

Deno.test("a run's file and its terminal are told the same; the file has a bar's count once a second, and its last", () => {
  const dir = Deno.makeTempDirSync();
  const path = join(dir, "run.jsonl");
  const shown: string[] = [];
  let now = 5000;
  const clock = () => now;
  {
    using events = RunEvents.open(path, new PlainDisplay((line) => shown.push(line)), clock);
    events.send({ type: "node", node: "train", state: "running", key: "k" });
    events.display.line("train: runs (new)");
    const bar = events.display.bar("train", 40, "steps");
    for (let done = 1; done <= 40; done++, now += 50) {
      bar.update(done);
      // The job's own clock holds events back; here each one is let through.
      events.send({ type: "progress", id: 0, done });
    }
    bar.stop();
    events.display.sample("train", { step: 40, prompt: "p", text: "a\nb" });
    events.send({ type: "finish", state: "done", results: ["results"], files: [], problems: [] });
  }
  assertEquals(shown, ["train: runs (new)"]);
  const events = read(path);
  assertEquals(events[0], { at: 5000, type: "node", node: "train", state: "running", key: "k" });
  const counts = events.flatMap((event) => event.type === "progress" ? [event.done] : []);
  assertEquals(counts.slice(0, 2), [1, 21]);
  assertEquals(counts.at(-1), 40);
  assertEquals(events.at(-1)!.type, "finish");
  // Texts are in the file, and flood no terminal.
  assertEquals(
    events.filter(({ type }) => type === "sample"),
    [{ at: now, type: "sample", node: "train", step: 40, prompt: "p", text: "a\nb" }],
  );
  Deno.removeSync(dir, { recursive: true });
});

Deno.test("a line that is cut short, is none, or has an odd state is passed over", () => {
  for (
    const line of ["", '{"at":1,"type":"li', "null", '{"type":"line","text":"x"}', "[]"].concat(
      '{"at":1,"type":"node","node":"a","state":"odd"}',
      '{"at":"1","type":"line","text":"x"}',
    )
  ) assertEquals(decodeRunEvent(line), undefined, line);
  assertEquals(decodeRunEvent('{"at":1,"type":"line","text":"x"}'), {
    at: 1,
    type: "line",
    text: "x",
  });
});

Deno.test("a disk that refuses the file does not stop a run", () => {
  const shown: string[] = [];
  using events = RunEvents.open("/nowhere/at/all.jsonl", new PlainDisplay((l) => shown.push(l)));
  events.display.line("on");
  assertEquals(shown, ["on"]);
});

Deno.test("events go with the manifest of their run, and make no run by themselves", async () => {
  const dir = Deno.makeTempDirSync();
  const run = "20260412-101500-123";
  for (const name of ["runs", "tmp"]) Deno.mkdirSync(join(dir, name));
  const records = new Records(dir, join(dir, "tmp"));
  RunEvents.open(records.eventsPath(run), new PlainDisplay(() => {}))[Symbol.dispose]();
  assertEquals(await records.readEveryRun(), { runs: [], unreadable: [] });
  assertEquals(await records.runNames(), []);
  // A store of an earlier version, without a marker, may have been used by this one.
  Deno.writeTextFileSync(join(dir, "lock"), "");
  assertEquals(await inspectStore(dir), "unmarked");
  Deno.writeTextFileSync(join(dir, "runs", `${run}.json`), "{}");
  await records.removeRun(run);
  assertEquals([...Deno.readDirSync(join(dir, "runs"))], []);
  Deno.removeSync(dir, { recursive: true });
});
