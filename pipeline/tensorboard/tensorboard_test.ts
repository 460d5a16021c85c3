import { assert, assertEquals } from "@std/assert";
import { join } from "@std/path";
import { Records } from "../store/records/records.ts";
import { all, states, type Summary, ToyProject } from "../testing.ts";
import type { MetricRow } from "../stage.ts";
import { encodeEvent } from "./event.ts";
import { EventLog } from "./event_log.ts";
import { eventsIn, readEvents } from "./events_testing.ts";
import { MetricsFollower } from "./follow.ts";
import { crc32c, frameRecord, maskedCrc } from "./record.ts";

Deno.test("checksums are those of RFC 3720, B.4, and of TensorFlow's files", () => {
  const range = Uint8Array.from({ length: 32 }, (_, i) => i);
  assertEquals(crc32c(new Uint8Array(32)), 0x8a9136aa);
  assertEquals(crc32c(new Uint8Array(32).fill(255)), 0x62a8ab43);
  assertEquals(crc32c(range), 0x46dd794e);
  assertEquals(crc32c(range.toReversed()), 0x113fdb5c);
  assertEquals(crc32c(new TextEncoder().encode("123456789")), 0xe3069283);
  // The first record of event files with the version alone has 24 bytes, and so this checksum.
  assertEquals(maskedCrc(Uint8Array.of(24, 0, 0, 0, 0, 0, 0, 0)), 0x224b7fa3);
});

Deno.test("an independent reader finds what was written", () => {
  const events = [
    { wall_time: 1.7e9 + 0.25, file_version: "brain.Event:2" },
    { wall_time: 1.7e9 + 1, start: true },
    { wall_time: 1.7e9 + 2, step: 300, scalars: { loss: 2.5, "né/x": -1e-8 } },
    {
      wall_time: 1.7e9 + 3,
      step: 2 ** 40 + 5,
      histograms: { use: { edges: [0, 0.5, 4, Infinity], counts: [0, 130, 0, 7] } },
    },
  ];
  const file = events.map((event) => frameRecord(encodeEvent(event)));
  const read = readEvents(Uint8Array.from(file.flatMap((bytes) => [...bytes])));
  assertEquals(read.map(({ wall_time, step }) => [wall_time, step]), [
    [1.7e9 + 0.25, 0],
    [1.7e9 + 1, 0],
    [1.7e9 + 2, 300],
    [1.7e9 + 3, 2 ** 40 + 5],
  ]);
  assertEquals(read.map(({ file_version }) => file_version), ["brain.Event:2", ...Array(3)]);
  assertEquals(read.map(({ start }) => start), [false, true, false, false]);
  assertEquals(read[2]!.scalars, { loss: 2.5, "né/x": Math.fround(-1e-8) });
  assertEquals(read[3]!.histograms["use"], {
    min: 0,
    max: 8,
    num: 137,
    sum: 130 * 0.5 + 7 * 8,
    sum_squares: 130 * 0.25 + 7 * 64,
    bucket_limit: [0, 0.5, 4, Number.MAX_VALUE],
    bucket: [0, 130, 0, 7],
  });
});

Deno.test("a log groups rows by step, and begins anew in the place of older files", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const row = (step: number, name: string, value: number | null): MetricRow => ({
      step,
      name,
      value,
      measured: false,
    });
    await Deno.writeTextFile(join(folder, "notes.txt"), "mine");
    const log = new EventLog(folder, "ab".repeat(32));
    await log.append([
      row(2, "loss", 1.5),
      row(1, "loss", 3),
      row(2, "nats", null),
      row(2, "use.layer0.le_inf", 1),
      row(2, "use.layer0.le_0.5", 4),
    ], (step) => 100 + step);
    await log.append([row(3, "loss", 1)], () => 200);
    const files = async () =>
      (await Array.fromAsync(Deno.readDir(folder), ({ name }) => name)).sort();
    assertEquals(await files(), ["events.out.tfevents.0000000101.abababababab.0", "notes.txt"]);
    await Deno.remove(join(folder, "notes.txt"));
    const events = await eventsIn(folder);
    assertEquals(events.map(({ step, scalars }) => [step, scalars]), [
      [0, {}],
      [0, {}],
      [1, { loss: 3 }],
      [2, { loss: 1.5 }],
      [3, { loss: 1 }],
    ]);
    const { bucket, bucket_limit } = events[3]!.histograms["use.layer0"]!;
    assertEquals([bucket_limit, bucket], [[0.5, Number.MAX_VALUE], [4, 1]]);
    log.restart();
    await log.append([row(1, "loss", 9)], () => 300);
    assertEquals(await files(), ["events.out.tfevents.0000000300.abababababab.1"]);
    assertEquals((await eventsIn(folder)).map(({ scalars }) => scalars), [{}, {}, { loss: 9 }]);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("events are there while a node runs, follow it over a kill, and change no digest", async () => {
  await using toy = await ToyProject.create();
  const store = toy.path(".ethos");
  const live = join(store, "tensorboard", "train[rate=0.1]");
  const set = ["--set", "steps=30", "--set", "milliseconds=60"];
  const child = toy.spawn("reproduce", ...set, "--set", "tensorboard=1");
  const ended = child.output();
  const deadline = performance.now() + 20_000;
  let seen: Awaited<ReturnType<typeof eventsIn>> = [];
  while (seen.length < 7 && performance.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, 50));
    seen = await eventsIn(live);
  }
  child.kill("SIGKILL");
  await ended;
  assert(seen.length >= 7 && seen.length < 32, `${seen.length} events`);
  assertEquals(seen[2]!.step, 0);
  assertEquals(Object.keys(seen[2]!.scalars).sort(), ["loss", "seconds", "total"]);
  const first = await Array.fromAsync(Deno.readDir(live), ({ name }) => name);

  const summary = await toy.json<Summary>("reproduce", ...set, "--set", "tensorboard=1");
  assertEquals(summary.state, "done");
  const events = await eventsIn(live);
  assertEquals(events.slice(2).map(({ step }) => step), Array.from({ length: 30 }, (_, i) => i));
  assert((await Array.fromAsync(Deno.readDir(live), ({ name }) => name))[0]! !== first[0]);
  assert(events.every(({ wall_time }) => Math.abs(wall_time * 1000 - Date.now()) < 600_000));

  // Without events the same nodes are there, and a command writes the same events of them.
  assertEquals(states(await toy.json<Summary>("reproduce", ...set)), all("cached"));
  const out = toy.path("events");
  const { folders } = await toy.json<{ folders: string[] }>("tensorboard", "--out", out);
  assertEquals(folders.length, 3);
  assertEquals(await eventsIn(join(out, "train[rate=0.1]")), events);
  for (const key of await new Records(store, "").nodeKeys()) {
    const record = await new Records(store, "").readNode(key);
    assert(!JSON.stringify(record).includes("tfevents"));
  }
  const verified = await toy.run("verify");
  assertEquals(verified.code, 0, verified.stderr);
  const none = await toy.run("tensorboard", "--out", out, "--run", "19990101");
  assertEquals(none.code, 2);
  assertEquals(none.stderr.trimEnd().split("\n").length, 1, none.stderr);
});

Deno.test("a node that is published while it is looked at ends no watch", async () => {
  const dir = await Deno.makeTempDir();
  const key = "ab".repeat(32);
  try {
    await Deno.mkdir(join(dir, "claims"));
    await Deno.writeTextFile(join(dir, "claims", key), JSON.stringify({ node: "train" }));
    const state = join(dir, "state", key);
    await Deno.mkdir(state, { recursive: true });
    await Deno.writeTextFile(join(state, "metrics.csv"), "d,1,loss,3\nd,2,lo");
    let removed = false;
    const follower = new MetricsFollower({
      dir,
      stateKeys: () => Promise.resolve([key]),
      stateDir: () => state,
      metrics: () => Promise.resolve([]),
    }, { out: join(dir, "out") });
    await follower.look();
    const events = () => eventsIn(join(dir, "out", "train"));
    assertEquals((await events()).map(({ scalars }) => scalars), [{}, {}, { loss: 3 }]);
    await Deno.writeTextFile(join(state, "metrics.csv"), "ss,2.5\n", { append: true });
    await follower.look();
    assertEquals((await events()).at(-1)!.scalars, { loss: 2.5 });

    const gone = new MetricsFollower({
      // Between the look at the file and its reading.
      get dir() {
        Deno.removeSync(state, { recursive: true });
        removed = true;
        return dir;
      },
      stateKeys: () => Promise.resolve([key]),
      stateDir: () => state,
      metrics: () => Promise.resolve([]),
    }, { out: join(dir, "out") });
    await gone.look();
    assert(removed);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});
