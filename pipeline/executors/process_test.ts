/** Nodes as processes: the toy project, run as a user runs it, with kills of coordinators and jobs. */

import {
  assert,
  assertEquals,
  assertLess,
  assertMatch,
  assertNotEquals,
  assertStringIncludes,
} from "@std/assert";
import { join } from "@std/path";
import { ALL, all, fileExists, states, type Summary, ToyProject } from "../testing.ts";
import { type NodeRecord, objectsOf, Records } from "../store/records/records.ts";

const PROCESS = ["reproduce", "--executor", "process", "--workers", "2"] as const;

const ALONE = ["reproduce", "--executor", "process", "--workers", "1"] as const;

/** Manifests by key. */
async function manifests(toy: ToyProject): Promise<Map<string, NodeRecord>> {
  const records = new Records(toy.path(".ethos"), toy.path(".ethos", "tmp"));
  const found = new Map<string, NodeRecord>();
  for (const key of await records.nodeKeys()) {
    const record = await records.readNode(key);
    if (record !== undefined) found.set(key, record);
  }
  return found;
}

/** Keys, digests and object hashes: all that is a function of the experiment. */
async function contents(toy: ToyProject): Promise<unknown> {
  const nodes = [...(await manifests(toy)).values()].map((record) => ({
    node: record.node,
    key: record.key,
    digest: record.digest,
    objects: objectsOf({ ...record, measured: undefined! }).map(({ sha256 }) => sha256),
  }));
  const rows = await toy.json("sql", "SELECT node, key, digest FROM nodes ORDER BY ALL");
  const metrics = "SELECT node, step, name, value FROM metrics WHERE NOT measured AND " +
    "run = (SELECT max(run) FROM runs) ORDER BY ALL";
  return {
    nodes: nodes.sort((a, b) => a.node < b.node ? -1 : 1),
    rows,
    metrics: await toy.json("sql", metrics),
    report: await Deno.readTextFile(toy.path("results", "report.md")),
  };
}

/** Texts of all logs of jobs, by path. */
async function logs(toy: ToyProject): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  const jobs = toy.path(".ethos", "jobs");
  if (!await fileExists(jobs)) return found;
  for await (const { name: run } of Deno.readDir(jobs)) {
    for await (const { name } of Deno.readDir(join(jobs, run))) {
      if (!name.endsWith(".log")) continue;
      const path = join(jobs, run, name);
      found.set(path, await Deno.readTextFile(path));
    }
  }
  return found;
}

/** Process of the job that began last for a node, once there is one. */
async function jobOf(toy: ToyProject, node: string): Promise<number> {
  for (const end = performance.now() + 20_000; performance.now() < end;) {
    for (const text of (await logs(toy)).values()) {
      const pid = text.split("\n").findLast((line) => line.includes(` ${node}: process `));
      if (pid !== undefined) return Number(/process (\d+)/.exec(pid)![1]);
    }
    await sleep(10);
  }
  throw new Error(`No job of ${node} began`);
}

async function until(condition: () => Promise<boolean> | boolean): Promise<void> {
  const end = performance.now() + 20_000;
  while (!await condition()) {
    if (performance.now() > end) throw new Error("Waited 20 s in vain");
    await sleep(10);
  }
}

function sleep(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

function signal(pid: number, name: Deno.Signal): void {
  try {
    Deno.kill(pid, name);
  } catch {
    // It has ended.
  }
}

function isAlive(pid: number): boolean {
  try {
    Deno.kill(pid, "SIGCONT");
    return true;
  } catch {
    return false;
  }
}

/** Whether so many trainings have begun to keep their state. */
async function hasState(toy: ToyProject, count = 1): Promise<boolean> {
  const state = toy.path(".ethos", "state");
  if (!await fileExists(state)) return false;
  let found = 0;
  for await (const { name } of Deno.readDir(state)) {
    if (await fileExists(join(state, name, "files", "state.json"))) found++;
  }
  return found >= count;
}

/** Has the toy's training say when two processes run it at once, in the file `overlap`. */
async function watchOverlaps(toy: ToyProject): Promise<void> {
  const file = toy.path("train.ts");
  const source = await Deno.readTextFile(file);
  const guard = `
    const guardPath = ${JSON.stringify(toy.dir)} + "/guard-" + context.node.name;
    using guard = await Deno.open(guardPath, { write: true, create: true });
    if (!await guard.tryLock(true)) {
      await Deno.writeTextFile(${JSON.stringify(toy.path("overlap"))}, context.node.name);
    }`;
  await Deno.writeTextFile(file, source.replace("let rate =", `${guard}\n    let rate =`));
}

Deno.test("jobs publish the same keys, bits and objects as this process", async (t) => {
  await using inline = await ToyProject.create();
  assertEquals((await inline.run("reproduce", "--adapter", "quipu")).code, 0);
  await using toy = await ToyProject.create();

  await t.step("with the same words", async () => {
    const { code, stdout, stderr } = await toy.run(...PROCESS, "--adapter", "quipu");
    assertEquals(code, 0, stderr);
    for (const name of ALL) {
      assertStringIncludes(stdout, `done        ${name}\n`);
      assertStringIncludes(stderr, `${name}: runs (never ran)\n`);
      assertMatch(stderr, new RegExp(`^${name.replace(/[[\].]/g, "\\$&")}: done in `, "m"));
    }
    assertEquals(await contents(toy), await contents(inline));
    assertEquals((await toy.json<{ clean: boolean }>("verify")).clean, true);
  });

  await t.step("with the same provenance", async () => {
    const query = "SELECT DISTINCT provenance->>'adapter' AS adapter, " +
      "provenance->>'config' AS config, provenance->>'configuration' AS digest FROM nodes " +
      "WHERE stage = 'train'";
    assertEquals(await toy.json("sql", query), await inline.json("sql", query));
  });

  await t.step("and leave logs, but no ticket, claim or temporary file", async () => {
    assertEquals((await logs(toy)).size, ALL.length);
    const left = async (...parts: string[]) =>
      (await Array.fromAsync(Deno.readDir(toy.path(".ethos", ...parts)), ({ name }) => name))
        .filter((name) => !name.endsWith(".log") && name !== "run.json");
    assertEquals(await left("tmp"), []);
    assertEquals(await left("claims"), []);
    const [run] = await left("jobs");
    assertEquals(await left("jobs", run!), []);
  });

  await t.step("so that either finds cached what the other made", async () => {
    assertEquals(states(await toy.json<Summary>("reproduce")), all("cached"));
    const forced = await toy.json<Summary>(...PROCESS, "--force", "train[rate=0.1]");
    assertEquals(states(forced), { ...all("cached"), "train[rate=0.1]": "done" });
    const damaged = [...(await manifests(toy)).values()].find(({ node }) => node === "numbers")!;
    const { sha256 } = objectsOf(damaged)[0]!;
    await Deno.remove(toy.path(".ethos", "objects", sha256.slice(0, 2), sha256));
    const healed = await toy.json<Summary>(...PROCESS);
    assertEquals(states(healed), { ...all("cached"), numbers: "done" });
    assertEquals(await contents(toy), await contents(inline));
  });

  await t.step("and logs go with their runs", async () => {
    assertEquals((await toy.run("gc", "--keep", "1", "--yes")).code, 0);
    const kept = [...(await logs(toy)).values()];
    assertEquals(kept.length, 1);
    assertStringIncludes(kept[0]!, " numbers: process ");
  });
});

Deno.test("options that contradict each other are refused before anything starts", async () => {
  await using toy = await ToyProject.create();
  const cases: [string[], string][] = [
    [["--workers", "2"], "--workers is for workers; expected --executor process beside it."],
    [["--devices", "red"], "--devices is for workers; expected --executor process beside it."],
    [["--executor", "process", "--workers", "0"], "--workers is 0; expected an integer"],
    [["--executor", "process", "--retries", "1.5"], "--retries is 1.5; expected an integer"],
    [["--executor", "cloud"], '--executor is "cloud"; expected inline'],
  ];
  for (const [args, message] of cases) {
    const { code, stderr } = await toy.run("reproduce", ...args);
    assertEquals(code, 2);
    assertStringIncludes(stderr, message);
    assertEquals(stderr.trim().split("\n").length, 1, stderr);
  }
  assertEquals(await fileExists(toy.path(".ethos")), false);
});

Deno.test("each job has the prefix and the environment of its worker, and names its device", async () => {
  await using toy = await ToyProject.create();
  const file = toy.path("train.ts");
  const source = await Deno.readTextFile(file);
  const told = source.replace(
    "provenance?.({",
    `provenance?.({ bead: Deno.env.get("BEAD") ?? "", hand: Deno.env.get("HAND") ?? "",`,
  );
  await Deno.writeTextFile(file, told);
  const query = "SELECT DISTINCT stage, provenance->>'device' AS device, " +
    "provenance->>'bead' AS bead, provenance->>'hand' AS hand FROM nodes ORDER BY ALL";
  const slow = ["--set", "milliseconds=30"];
  const plans: [string[], [string, string][]][] = [
    // A worker a device by default.
    [[], [["blue", "1"], ["red", "0"]]],
    [["--devices", "green"], [["green", "0"]]],
  ];
  for (const [args, expected] of plans) {
    const process = ["reproduce", "--executor", "process", ...args, ...slow];
    const { code, stderr } = await toy.run(...process, "--force", "train");
    assertEquals(code, 0, stderr);
    const none = { device: null, bead: null, hand: null };
    assertEquals(await toy.json("sql", query), [
      { stage: "numbers", ...none },
      { stage: "report", ...none },
      ...expected.map(([bead, hand]) => ({ stage: "train", device: bead, bead, hand })),
    ]);
  }
});

Deno.test("a stage that throws is one line that names the log; siblings go on", async () => {
  await using toy = await ToyProject.create();
  const { code, stdout, stderr } = await toy.run(...PROCESS, "--set", "failing=1", "--debug");
  assertEquals(code, 1);
  const path = /failed {6}failing: This one always fails\. Its log is (.*\.log)\n/.exec(stdout)
    ?.[1];
  assert(path !== undefined, stdout);
  assertStringIncludes(await Deno.readTextFile(path), "error: This one always fails");
  assertStringIncludes(stdout, "blocked     report[bad]: failing failed");
  assertStringIncludes(stdout, "done        report\n");
  assertMatch(stderr, /failing:\s+at .*experiment\.ts/);

  // Its ticket is still there: the same job, started by hand, belongs to nobody now.
  const [, run, key] = /jobs\/([^/]+)\/([0-9a-f]{64})\.log$/.exec(path)!;
  const alone = await toy.run("run-node", key!, "--run", run!, "--attached");
  assertEquals(alone.code, 2);
  assertStringIncludes(alone.stderr, `error: Nobody holds the store ${toy.path(".ethos")}`);
  const unknown = await toy.run("run-node", "0".repeat(64), "--run", run!);
  assertEquals(unknown.code, 2);
  assertStringIncludes(unknown.stderr, "expected the coordinator to have written it.");
});

Deno.test("a killed job is one clear line; siblings go on, and another attempt goes on from its state", async () => {
  await using toy = await ToyProject.create();
  const slow = [...PROCESS, "--set", "milliseconds=40"];
  const kill = async (...args: string[]) => {
    const child = toy.spawn(...slow, ...args);
    const output = child.output();
    const pid = await jobOf(toy, "train[rate=0.1]");
    await until(() => hasState(toy, 2));
    signal(pid, "SIGKILL");
    const { code, stdout, stderr } = await output;
    const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
    return { code, stdout: text(stdout), stderr: text(stderr) };
  };
  const once = await kill();
  assertEquals(once.code, 1);
  assertMatch(
    once.stdout,
    /failed {6}train\[rate=0\.1\]: The job was killed by SIGKILL, by hand or for want of memory\. Its log is .*\.log\n/,
  );
  assertStringIncludes(once.stdout, "done        train[rate=0.3]\n");
  await Deno.remove(toy.path(".ethos"), { recursive: true });
  const twice = await kill("--retries", "1");
  assertEquals(twice.code, 0, twice.stderr);
  assertMatch(twice.stderr, /train\[rate=0\.1\]: The job was killed .*; attempt 2 of 2\n/);
  assertStringIncludes(twice.stderr, "train[rate=0.1]: goes on at step");
});

Deno.test("a job that has no memory left says so", async () => {
  await using toy = await ToyProject.create();
  const file = toy.path("numbers.ts");
  const source = await Deno.readTextFile(file);
  const greedy = "const all: number[][] = []; for (;;) all.push(new Array(1e6).fill(all.length));";
  await Deno.writeTextFile(file, source.replace("const start =", `${greedy}\n    const start =`));
  toy.env["DENO_V8_FLAGS"] = "--max-old-space-size=200";
  const { code, stdout } = await toy.run(...PROCESS, "--only", "numbers");
  assertEquals(code, 1);
  assertMatch(stdout, /failed {6}numbers: The job ran out of memory\. Its log is .*\.log\n/);
});

Deno.test("a job whose code was edited meanwhile refuses, and says what differs", async () => {
  await using toy = await ToyProject.create();
  const child = toy.spawn(...ALONE, "--set", "milliseconds=60");
  const output = child.output();
  await until(() => hasState(toy));
  await Deno.writeTextFile(toy.path("train.ts"), "// Edited.\n", { append: true });
  const { code, stdout, stderr } = await output;
  assertEquals(code, 1, new TextDecoder().decode(stderr));
  const text = new TextDecoder().decode(stdout);
  assertStringIncludes(text, "done        train[rate=0.1]\n");
  assertStringIncludes(
    text,
    "failed      train[rate=0.2]: train[rate=0.2] is another node than when the run began " +
      "(code: train.ts changed); expected the key ",
  );
});

Deno.test("SIGINT and SIGTERM let jobs stop at a safe place, and a second one ends them", async () => {
  await using toy = await ToyProject.create();
  const slow = [...PROCESS, "--set", "milliseconds=40"];
  for (const [name, expected] of [["SIGINT", 130], ["SIGTERM", 143]] as const) {
    const child = toy.spawn(...slow);
    const output = child.output();
    await until(async () => /train\[rate=0.1\]/.test([...(await logs(toy)).values()].join()));
    const pid = await jobOf(toy, "train[rate=0.1]");
    await until(() => hasState(toy));
    child.kill(name);
    // A terminal sends it to the jobs as well.
    if (name === "SIGINT") signal(pid, name);
    const { code, stdout } = await output;
    assertEquals(code, expected);
    assertStringIncludes(new TextDecoder().decode(stdout), "interrupted train[rate=");
    assertEquals(isAlive(pid), false);
    await Deno.remove(toy.path(".ethos", "jobs"), { recursive: true });
  }
  const stubborn = toy.path("train.ts");
  const source = await Deno.readTextFile(stubborn);
  await Deno.writeTextFile(stubborn, source.replace("signal.throwIfAborted();", ""));
  const child = toy.spawn(...PROCESS, "--set", "milliseconds=2000");
  const output = child.output();
  const pid = await jobOf(toy, "train[rate=0.1]");
  const start = performance.now();
  child.kill("SIGINT");
  await sleep(300);
  child.kill("SIGINT");
  assertEquals((await output).code, 130);
  await until(() => !isAlive(pid));
  assertLess(performance.now() - start, 10_000);
});

Deno.test("the next coordinator waits for a job that outlived its own", async () => {
  await using toy = await ToyProject.create();
  await watchOverlaps(toy);
  // It does not stop when it is asked to, and comes to no end as long as it is held.
  const hold = toy.path("hold");
  const file = toy.path("train.ts");
  const source = await Deno.readTextFile(file);
  await Deno.writeTextFile(
    file,
    source.replace(
      "signal.throwIfAborted();",
      `while (await Deno.stat(${JSON.stringify(hold)}).then(() => true, () => false)) {
        await new Promise((resolve) => setTimeout(resolve, 20));
      }`,
    ),
  );
  const first = toy.spawn(...PROCESS);
  const output = first.output();
  const pid = await jobOf(toy, "train[rate=0.1]");
  await until(() => hasState(toy));
  await Deno.writeTextFile(hold, "");
  first.kill("SIGKILL");
  await output;
  assertEquals(isAlive(pid), true);
  const second = toy.spawn(...PROCESS);
  let words = "";
  let waits = false;
  for await (const text of second.stderr.pipeThrough(new TextDecoderStream())) {
    words += text;
    if (waits || !/train\[rate=0\.\d\]: waits for process \d+ of run \S+ on \S+/.test(words)) {
      continue;
    }
    waits = true;
    await Deno.remove(hold);
  }
  assertEquals((await second.status).code, 0, words);
  await second.stdout.cancel();
  assertEquals(waits, true, words);
  assertEquals(await fileExists(toy.path("overlap")), false);
  await until(() => !isAlive(pid));
  // The orphan came to its end, and what it published was taken in.
  const runs = new Set(
    [...(await manifests(toy)).values()].map(({ provenance }) => provenance.run),
  );
  assertEquals(runs.size, 2);
});

Deno.test("kills of coordinators and jobs at random moments: the same hashes, nothing twice", async () => {
  const kills = Number(Deno.env.get("ETHOS_TEST_KILLS") ?? 4);
  const set = ["--set", "milliseconds=8", "--set", "steps=40"];
  await using calm = await ToyProject.create();
  await watchOverlaps(calm);
  const start = performance.now();
  assertEquals((await calm.run("reproduce", ...set)).code, 0);
  const expected = await contents(calm) as { nodes: { node: string; objects: string[] }[] };
  const seconds = (performance.now() - start) / 1000;

  let killed = 0;
  while (killed < kills) {
    await using toy = await ToyProject.create();
    await watchOverlaps(toy);
    let published = new Map<string, NodeRecord>();
    const assertKept = async () => {
      const now = await manifests(toy);
      for (const [key, { node, provenance }] of published) {
        assertEquals(now.get(key)?.provenance, provenance, `${node} was published twice`);
      }
      published = now;
    };
    for (; killed < kills; killed++) {
      const child = toy.spawn(...PROCESS, "--retries", "3", ...set);
      const output = child.output();
      await sleep(Math.random() * 1000 * seconds);
      const jobs = [...(await logs(toy)).values()]
        .flatMap((text) => [...text.matchAll(/: process (\d+)/g)].map(([, pid]) => Number(pid)));
      const job = jobs[Math.floor(Math.random() * jobs.length)];
      if (killed % 2 === 1 && job !== undefined) signal(job, "SIGKILL");
      else signal(child.pid, "SIGKILL");
      const { code } = await output;
      await assertKept();
      if (code === 0) break;
    }
    const { code, stderr } = await toy.run(...PROCESS, ...set);
    assertEquals(code, 0, stderr);
    await assertKept();
    const found = await contents(toy) as typeof expected;
    // The watched file names the project's folder, and so the keys differ; objects do not.
    assertEquals(
      found.nodes.map(({ node, objects }) => ({ node, objects })),
      expected.nodes.map(({ node, objects }) => ({ node, objects })),
    );
    assertNotEquals(found.nodes.length, 0);
    assertEquals(await fileExists(toy.path("overlap")), false);
    assertEquals((await toy.json<{ clean: boolean }>("verify")).clean, true);
    assertEquals([...Deno.readDirSync(toy.path(".ethos", "tmp"))], []);
    assertEquals([...Deno.readDirSync(toy.path(".ethos", "claims"))], []);
  }
});
