import { assertEquals } from "@std/assert";
import { decodeEvent, encodeEvent, EventDisplay, EventPlayer, type JobEvent } from "./events.ts";
import { type Display, PlainDisplay } from "../terminal/progress.ts";

Deno.test("events come back as they were sent; anything else is no event", () => {
  const events: JobEvent[] = [
    { type: "line", text: 'two\nlines and "quotes"' },
    { type: "bar", id: 0, node: "train", total: 10, unit: "steps" },
    { type: "progress", id: 0, done: 3, remark: "loss 1.5" },
    { type: "stop", id: 0 },
    { type: "end", state: "failed", message: "No", code: "ENOSPC", trace: "at x" },
  ];
  for (const event of events) {
    const line = encodeEvent(event);
    assertEquals(line.split("\n").length, 2);
    assertEquals(decodeEvent(line.trimEnd()), event);
  }
  for (const line of ["", "step 3", "{", "{}", '{"type":"end","state":"odd"}', "[1]"]) {
    assertEquals(decodeEvent(line), undefined, line);
  }
});

Deno.test("a bar sends few events, its last count always, and none after it was stopped", () => {
  let now = 0;
  const sent: JobEvent[] = [];
  const display = new EventDisplay((event) => sent.push(event), () => now);
  const bar = display.bar("train", 1000, "steps");
  for (let done = 1; done <= 1000; done++, now++) bar.update(done);
  bar.stop();
  bar.stop();
  bar.update(1000);
  const counts = sent.flatMap((event) => event.type === "progress" ? [event.done] : []);
  assertEquals(counts, [1, 201, 401, 601, 801, 1000]);
  assertEquals(sent.at(-1), { type: "stop", id: 0 });
});

Deno.test("a player shows a job's lines and bars as this process shows its own", () => {
  let now = 0;
  const record = (work: (display: PlainDisplay) => void): string[] => {
    now = 0;
    const lines: string[] = [];
    work(new PlainDisplay((line) => lines.push(line), () => now));
    return lines;
  };
  const work = (display: Pick<PlainDisplay, "bar" | "line">) => {
    const bar = display.bar("train", 100, "steps");
    display.line("train: warning: warm");
    for (let done = 0; done <= 100; done += 10, now += 1000) bar.update(done, `at ${done}`);
    bar.stop();
  };
  const inline = record(work);
  const played = record((display) => {
    const player = new EventPlayer(display);
    work(
      new EventDisplay(
        (event) => player.play(decodeEvent(encodeEvent(event).trimEnd())!),
        () => now,
      ),
    );
    player.play({ type: "end", state: "published" });
    assertEquals(player.end?.state, "published");
    player.stop();
  });
  assertEquals(played, inline);
  assertEquals(inline.length > 2, true);
});

Deno.test("a player passes on the texts that a job's model wrote", () => {
  const told: unknown[] = [];
  const player = new EventPlayer({
    ...new PlainDisplay(() => {}),
    sample: (node, { step, prompt, text }) => void told.push({ node, step, prompt, text }),
  } as Display);
  const sample = { step: 3, prompt: "a\n", text: "\u2028\u{1f600}" };
  const job = new EventDisplay((event) => player.play(decodeEvent(encodeEvent(event).trimEnd())!));
  job.sample("train[base]", sample);
  assertEquals(told, [{ node: "train[base]", ...sample }]);
});
