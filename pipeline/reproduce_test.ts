/** The engine end to end: a toy project in a folder of its own, run as a user runs it. */

import {
  assert,
  assertEquals,
  assertLess,
  assertMatch,
  assertNotEquals,
  assertStringIncludes,
} from "@std/assert";
import { ALL, all, fileExists, states, type Summary, ToyProject } from "./testing.ts";

interface Plan {
  readonly nodes: readonly { node: string; state: string; reasons: readonly string[] }[];
}

Deno.test("reproduce: runs, then is cached, and explains itself", async (t) => {
  await using toy = await ToyProject.create();

  await t.step("a dry run and status write nothing", async () => {
    const dry = await toy.json<Plan>("reproduce", "--dry-run");
    assertEquals(dry.nodes.map((node) => node.state), Array(5).fill("new"));
    const { stdout } = await toy.run("status");
    assertStringIncludes(stdout, "0 of 5 nodes are cached.");
    assertEquals([...Deno.readDirSync(toy.dir)].some((entry) => entry.name === ".ethos"), false);
  });

  await t.step("everything runs once and results are copied", async () => {
    const { code, stdout, stderr } = await toy.run("reproduce");
    assertEquals(code, 0, stderr);
    assertStringIncludes(stdout, `Results are in ${toy.path("results")}`);
    assertStringIncludes(stderr, "train[rate=0.2]: runs (never ran)");
    const report = await Deno.readTextFile(toy.path("results", "report.md"));
    assertMatch(report, /train\[rate=0\.2\] 0\.2: .*, 40 rows/);
  });

  const written = (await Deno.stat(toy.path("results", "report.md"))).mtime!.getTime();
  await t.step("the second time everything is cached and no result is written", async () => {
    const start = performance.now();
    const { code, stdout } = await toy.run("reproduce");
    assertEquals(code, 0);
    for (const name of ALL) assertStringIncludes(stdout, `cached      ${name}\n`);
    assertLess((performance.now() - start) / 1000, 5);
    assertEquals((await Deno.stat(toy.path("results", "report.md"))).mtime!.getTime(), written);
  });

  await t.step(
    "a comment in one stage's file runs what depends on it; status names it",
    async () => {
      const file = toy.path("train.ts");
      await Deno.writeTextFile(file, "// A remark.\n", { append: true });
      const plan = await toy.json<Plan>("status");
      assertEquals(plan.nodes.map((node) => node.state), [
        "cached",
        "stale",
        "stale",
        "stale",
        "waiting",
      ]);
      assertEquals(plan.nodes[1]!.reasons, ["code: train.ts changed"]);
      // The numbers come out as before, so the report is not written again.
      const summary = await toy.json<Summary>("reproduce");
      assertEquals(states(summary), {
        ...all("done"),
        numbers: "cached",
        report: "cached",
      });
    },
  );

  await t.step(
    "results lose what is no longer part of them, and keep what others put there",
    async () => {
      const file = toy.path("report.ts");
      const source = await Deno.readTextFile(file);
      await Deno.writeTextFile(file, source.replace("lines.txt", "rows.txt"));
      await Deno.writeTextFile(toy.path("results", "README.md"), "Mine.");
      assertEquals((await toy.run("reproduce")).code, 0);
      assertEquals(await fileExists(toy.path("results", "data", "rows.txt")), true);
      assertEquals(await fileExists(toy.path("results", "data", "lines.txt")), false);
      assertEquals(await Deno.readTextFile(toy.path("results", "README.md")), "Mine.");
    },
  );

  await t.step("text that is imported is code", async () => {
    await Deno.writeTextFile(toy.path("weights.txt"), "0.25");
    const { stdout } = await toy.run("why", "train[rate=0.1]");
    assertStringIncludes(stdout, "code: weights.txt changed");
    assertStringIncludes(stdout, "params.rate 0.1");
    assertMatch(stdout, /package \d+ packages \(--all lists them\)/);
    const { stdout: listed } = await toy.run("why", "train[rate=0.1]", "--all");
    assertStringIncludes(listed, "package.zod@");
    assertStringIncludes(listed, "code.train.ts");
    const summary = await toy.json<Summary>("reproduce");
    assertEquals(states(summary), { ...all("done"), numbers: "cached" });
  });

  await t.step("a changed parameter is named, and the old result found again", async () => {
    const plan = await toy.json<Plan>("reproduce", "--seed", "2", "--dry-run");
    assertEquals(plan.nodes[0]!.reasons, ["params.seed 1 → 2"]);
    assertEquals((await toy.json<Summary>("reproduce", "--seed", "2")).state, "done");
    assertEquals(states(await toy.json<Summary>("reproduce")), all("cached"));
  });

  await t.step("provenance names the configuration that a node was made with", async () => {
    const query = "SELECT DISTINCT provenance->>'configuration' AS digest, " +
      "provenance->>'config' AS config FROM nodes WHERE node = 'numbers'";
    const rows = await toy.json<{ digest: string; config: string }[]>("sql", query);
    assertEquals(rows.map(({ config }) => config), ["toy.yaml", "toy.yaml"]);
    assert(rows.every(({ digest }) => /^[0-9a-f]{64}$/.test(digest)));
    assertEquals(new Set(rows.map(({ digest }) => digest)).size, 2);
  });

  await t.step("--force and --only", async () => {
    const forced = await toy.json<Summary>("reproduce", "--force", "train[rate=0.1]");
    assertEquals(states(forced), { ...all("cached"), "train[rate=0.1]": "done" });
    const only = await toy.json<Summary>("reproduce", "--only", "train", "--seed", "3");
    const { report: _, ...others } = all("done");
    assertEquals(states(only), others);
  });

  await t.step("runs, diff, sql, export, dag, gc and verify", async () => {
    const { runs } = await toy.json<{ runs: { run: string; state: string }[] }>("runs");
    assertEquals(runs[0]!.state, "done");
    const diff = await toy.json<{
      configuration: { path: string; before: number; after: number }[];
      metrics: { node: string; metric: string }[];
    }>("diff", "previous", "latest");
    assertEquals(diff.configuration, [{ path: "seed", before: 1, after: 3 }]);
    assert(diff.metrics.some((m) => m.node === "train[rate=0.1]" && m.metric === "loss"));
    assert(!diff.metrics.some((m) => m.metric === "seconds" || m.node === "numbers"));
    const timed = await toy.json<typeof diff>("diff", "previous", "latest", "--measured");
    assert(timed.metrics.some((m) => m.metric === "seconds"));
    assert(timed.metrics.some((m) => m.metric === "times[writing].seconds"));

    const query = "SELECT count(*) AS n FROM metrics WHERE run = (SELECT max(run) FROM runs)";
    assertEquals(await toy.json("sql", query), [{ n: String(3 * 20 * 3) }]);
    const rows = "SELECT DISTINCT row->>'of' AS of, (row->'seconds')::DOUBLE > 0 AS timed FROM " +
      "(SELECT unnest(value::JSON[]) AS row FROM artifacts WHERE kind = 'measured')";
    assertEquals(await toy.json("sql", rows), [{ of: "writing", timed: true }]);
    const bad = await toy.run("sql", "SELECT * FROM metrix");
    assertEquals(bad.code, 2);
    assertStringIncludes(bad.stderr, "metrix");

    assertEquals((await toy.run("export", "--out", "tables", "--format", "csv")).code, 0);
    const csv = await Deno.readTextFile(toy.path("tables", "metrics.csv"));
    assertStringIncludes(csv, "run,node,step,name,value,measured\n");
    const jsonl = ["export", "--out", "tables", "--format", "jsonl", "--run", "latest"];
    assertEquals((await toy.run(...jsonl)).code, 0);
    const lines = (await Deno.readTextFile(toy.path("tables", "metrics.jsonl"))).trim().split("\n");
    assertEquals(lines.length, 3 * 20 * 3);
    const [row] = lines.map((line) => JSON.parse(line));
    assertEquals(Object.keys(row), ["run", "node", "step", "name", "value", "measured"]);
    assertEquals([row.run, row.step, row.name], [runs[0]!.run, 0, "loss"]);
    const nothing = await toy.run("export", "--out", "none", "--store", toy.path("nowhere"));
    assertEquals([nothing.code, await fileExists(toy.path("none"))], [2, false]);
    assertEquals((await toy.run("export", "--out", "tables", "--table", "metrics")).code, 0);
    const parquet = await Deno.readFile(toy.path("tables", "metrics.parquet"));
    assertEquals(new TextDecoder().decode(parquet.subarray(0, 4)), "PAR1");

    assertStringIncludes((await toy.run("dag", "--format", "svg")).stdout, "train[rate=0.1]");
    assertEquals((await toy.run("verify")).code, 0);
    const would = await toy.json<{ nodes: unknown[]; removed: boolean }>("gc", "--keep", "1");
    assertEquals(would.removed, false);
    assert(would.nodes.length > 0);
    const did = await toy.json<{ nodes: unknown[] }>("gc", "--keep", "1", "--yes");
    assertEquals(did.nodes.length, would.nodes.length);
    assertEquals((await toy.json<{ orphans: number }>("verify")).orphans, 0);
    const { report: _, ...others } = all("cached");
    const again = await toy.json<Summary>("reproduce", "--only", "train", "--seed", "3");
    assertEquals(states(again), others);
  });
});

Deno.test("mistakes end with exit code 2 and a sentence, and start nothing", async () => {
  await using toy = await ToyProject.create();
  const cases: [string[], string][] = [
    [["reprodce"], "Did you mean `reproduce`?"],
    [["reproduce", "--seeed", "1"], "Did you mean `--seed`?"],
    [["reproduce", "--seed", "x"], "--seed"],
    [["reproduce", "--jobs", "0"], "--jobs is 0"],
    [["reproduce", "--seed", "2", "--seed=1"], "--seed is given 2 times; expected it once."],
    [["reproduce", "--only", "trian"], "Did you mean `train`?"],
    [["reproduce", "--set", "nope=1"], "there is no `nope`"],
    [["why", "reprt"], "Did you mean `report`?"],
    [["dag", "--format", "png"], "png"],
    [["sweep"], "Missing required argument: config."],
    [["why"], "Expected `why <node>`, got 0 of its arguments."],
    [["reproduce", "--config"], "--config needs a value."],
    [
      ["reproduce", "--adapter", "fingers"],
      '--adapter is "fingers"; expected abacus, quipu or soroban.',
    ],
    [["status", "--adapter", "quipu"], "Unknown option or argument `adapter` for `status`."],
    [["clean", "--all"], "--yes"],
    [["diff", "previous", "latest"], "There is no previous run"],
    [[], "Expected a command"],
  ];
  for (const [args, message] of cases) {
    const { code, stderr } = await toy.run(...args);
    assertEquals(code, 2, `${args}: ${stderr}`);
    assertStringIncludes(stderr, message);
    assertEquals(stderr.trim().split("\n").length, 1, stderr);
  }
  assertEquals([...Deno.readDirSync(toy.dir)].some((entry) => entry.name === ".ethos"), false);
  const help = await toy.run("reproduce", "--help");
  assertEquals(help.code, 0);
  assertStringIncludes(help.stdout, "toy reproduce --only train --dry-run");
});

Deno.test("the program's options for stages are told in provenance, and are part of no key", async () => {
  await using toy = await ToyProject.create();
  assertEquals((await toy.json<Summary>("reproduce", "--adapter", "quipu")).state, "done");
  assertEquals(await toy.json("sql", "SELECT DISTINCT provenance->>'adapter' AS a FROM nodes"), [
    { a: null },
    { a: "quipu" },
  ]);
  const again = await toy.json<Summary>("reproduce", "--adapter", "soroban");
  assertEquals(states(again), all("cached"));
  assertStringIncludes((await toy.run("sweep", "--help")).stdout, "--adapter");
});

Deno.test("an option that stands for a key of the configuration is as if the key had been set", async () => {
  await using toy = await ToyProject.create();
  await toy.json<Summary>("reproduce", "--set", "steps=7");
  const again = await toy.json<Summary>("reproduce", "--set", "steps=9", "--length", "7");
  assertEquals(states(again), all("cached"));
  const plan = await toy.run("status", "--length", "8");
  assertStringIncludes(plan.stdout, "params.steps 7 → 8");
  assertStringIncludes((await toy.run("why", "--help")).stdout, "Steps of a training");
  assertEquals((await toy.run("runs", "--length", "8")).code, 2);
  // Jobs make the experiment again, of the same words.
  const jobs = await toy.json<Summary>("reproduce", "--length", "8", "--executor", "process");
  assertEquals(jobs.state, "done");
  assertEquals(states(await toy.json<Summary>("reproduce", "--set", "steps=8")), all("cached"));
});

Deno.test("a shell completes commands", async () => {
  await using toy = await ToyProject.create();
  const script = await toy.run("completion");
  assertEquals(script.code, 0, script.stderr);
  const bash = `${script.stdout}
    COMP_WORDS=(toy rep); COMP_CWORD=1; _toy_yargs_completions; echo "\${COMPREPLY[@]}"`;
  const args = ["-c", bash];
  const { stdout } = await new Deno.Command("bash", { args, cwd: toy.dir }).output();
  assertStringIncludes(new TextDecoder().decode(stdout), "reproduce");
});

Deno.test("a failed node doesn't block its siblings", async () => {
  await using toy = await ToyProject.create();
  const { code, stdout, stderr } = await toy.run("reproduce", "--set", "failing=1");
  assertEquals(code, 1);
  assertStringIncludes(stdout, "failed      failing: This one always fails");
  assertStringIncludes(stdout, "blocked     report[bad]: failing failed");
  assertStringIncludes(stdout, "done        report\n");
  assertEquals(stderr.split("\n").filter((line) => line.startsWith("failing:")).length, 2, stderr);
  // The trace is for who mends the stage.
  const traced = await toy.run("reproduce", "--set", "failing=1", "--debug");
  assertMatch(traced.stderr, /failing:\s+at .*experiment\.ts/);
});

Deno.test("an error is one line, whoever made it; --debug shows where it arose", async () => {
  await using toy = await ToyProject.create();
  const file = toy.path("experiment.ts");
  const source = await Deno.readTextFile(file);
  const broken = source.replace(
    "const values:",
    "request.set.map((x) => x.of.nothing);\n  const values:",
  );
  await Deno.writeTextFile(file, broken);
  const mistakes = [["status", "--set", "count=1"], ["why", "reprt"], ["status", "--store", file]];
  for (const args of mistakes) {
    const { code, stderr } = await toy.run(...args);
    assertNotEquals(code, 0);
    assertMatch(stderr, /^error: .*\n$/);
    const traced = await toy.run(...args, "--debug");
    assertEquals(traced.code, code);
    assertMatch(traced.stderr, /^error: .*\n.*Error: .*\n\s+at /);
  }
  const { stderr } = await toy.run(...mistakes[0]!);
  assertMatch(stderr, /^error: TypeError: .*\. --debug shows where\.\n$/);
});

Deno.test("two at once: one works, the other says who holds the store", async () => {
  await using toy = await ToyProject.create();
  const first = toy.spawn("reproduce", "--set", "milliseconds=60");
  await until(() => fileExists(toy.path(".ethos", "catalogue.duckdb")));
  const second = await toy.run("reproduce");
  assertEquals(second.code, 2);
  assertStringIncludes(second.stderr, `is held by process ${first.pid}`);
  assertStringIncludes(second.stderr, "reproduce --set milliseconds=60");
  await until(() => hasState(toy));
  // However slow this machine is, the first must not end before it was looked at.
  first.kill("SIGSTOP");
  try {
    // Who only reads is let in, and told whose store it is.
    const status = await toy.run("status", "--set", "milliseconds=60");
    assertEquals(status.code, 0, status.stderr);
    assertStringIncludes(status.stderr, `is held by process ${first.pid}`);
    assertStringIncludes(status.stderr, "this is what it has published so far");
    assertStringIncludes(status.stdout, "cached   numbers\n");
    assertStringIncludes(status.stdout, "is under way");
    const { runs } = await toy.json<{ runs: { state: string }[] }>("runs");
    assertEquals(runs.map(({ state }) => state), ["running"]);
    const query = "SELECT node FROM nodes WHERE stage = 'numbers'";
    assertEquals(await toy.json("sql", query), [{ node: "numbers" }]);
    const leak = await toy.run("sql", `COPY (SELECT 1) TO '${toy.path("leak.csv")}'`);
    assertEquals([leak.code, await fileExists(toy.path("leak.csv"))], [2, false]);
    assertEquals((await toy.run("verify")).code, 2);
  } finally {
    first.kill("SIGCONT");
  }
  // Whoever waits comes in when the first has gone, and finds all that it published.
  const third = toy.json<Summary>("reproduce", "--wait", "--set", "milliseconds=60");
  const { code, stderr } = await first.output();
  assertEquals(code, 0, new TextDecoder().decode(stderr));
  assertEquals(states(await third), all("cached"));
});

Deno.test("SIGINT stops at a safe place, and the next run goes on from there", async () => {
  await using toy = await ToyProject.create();
  const slow = ["reproduce", "--set", "milliseconds=40"];
  const child = toy.spawn(...slow);
  await until(() => hasState(toy));
  child.kill("SIGINT");
  const { code, stdout } = await child.output();
  assertEquals(code, 130);
  assertStringIncludes(new TextDecoder().decode(stdout), "interrupted");
  const again = await toy.run(...slow);
  assertEquals(again.code, 0, again.stderr);
  assertStringIncludes(again.stderr, "goes on at step");
});

Deno.test("a corrupted object is noticed, and its node runs again", async (t) => {
  await using toy = await ToyProject.create();
  assertEquals((await toy.run("reproduce")).code, 0);
  const [{ sha256 }] = await toy.json<[{ sha256: string }]>(
    "sql",
    "SELECT sha256 FROM artifacts JOIN nodes USING (key) WHERE node = 'numbers' AND kind = 'file'",
  );
  const path = toy.path(".ethos", "objects", sha256.slice(0, 2), sha256);
  const text = await Deno.readTextFile(path);
  const corrupt = async () => {
    const { mtime } = await Deno.stat(path);
    await Deno.chmod(path, 0o644);
    await Deno.writeTextFile(path, text.replace(/\d/, "x"));
    return mtime!;
  };

  await t.step("by its time, without reading it", async () => {
    await corrupt();
    const summary = await toy.json<Summary>("reproduce");
    assertEquals(states(summary), { ...all("cached"), numbers: "done" });
    assertEquals(await Deno.readTextFile(path), text);
  });

  await t.step("by its bytes, when a node reads it", async () => {
    const mtime = await corrupt();
    await Deno.utime(path, mtime, mtime);
    const summary = await toy.json<Summary>("reproduce", "--force", "train[rate=0.1]");
    assertEquals(states(summary), {
      ...all("cached"),
      numbers: "done",
      "train[rate=0.1]": "done",
    });
    assertEquals(await Deno.readTextFile(path), text);
  });

  await t.step("by verify", async () => {
    const mtime = await corrupt();
    await Deno.utime(path, mtime, mtime);
    const { code, stdout } = await toy.run("verify");
    assertEquals(code, 1);
    assertStringIncludes(stdout, `numbers: object ${sha256} is changed`);
    assertEquals(states(await toy.json<Summary>("reproduce")), {
      ...all("cached"),
      numbers: "done",
    });
    assertEquals((await toy.run("verify")).code, 0);
  });

  await t.step("a deleted catalogue is rebuilt and nothing runs again", async () => {
    await Deno.remove(toy.path(".ethos", "catalogue.duckdb"));
    const { code, stdout, stderr } = await toy.run("reproduce");
    assertEquals(code, 0, stderr);
    assertStringIncludes(stderr, "rebuilt it from 5 nodes");
    assertStringIncludes(stdout, "5 cached");
  });
});

Deno.test("the report is written again when what it shows was measured anew", async () => {
  await using toy = await ToyProject.create();
  const file = toy.path("report.ts");
  const source = await Deno.readTextFile(file);
  await Deno.writeTextFile(file, source.replace("outputs:", "readsMeasured: true,\n  outputs:"));
  assertEquals((await toy.run("reproduce")).code, 0);
  assertEquals(states(await toy.json<Summary>("reproduce")), all("cached"));
  const summary = await toy.json<Summary>("reproduce", "--force", "train[rate=0.2]");
  const { state, reason } = summary.nodes.at(-1)!;
  assertEquals([state, reason], ["done", "measured: train[rate=0.2] was measured anew"]);
});

Deno.test("a measured output changes no digest, and runs again only what reads measured values", async () => {
  await using toy = await ToyProject.create();
  const numbers = async () => {
    const rows = await toy.json<{ digest: string; value: string }[]>(
      "sql",
      "SELECT digest, value FROM nodes JOIN artifacts USING (key) WHERE output = 'times'",
    );
    assertEquals(rows.length, 1);
    return rows[0]!;
  };
  const again = ["reproduce", "--force", "numbers"] as const;
  assertEquals((await toy.run("reproduce")).code, 0);
  const first = await numbers();
  assertEquals(states(await toy.json<Summary>(...again)), { ...all("cached"), numbers: "done" });
  const second = await numbers();
  assertEquals(second.digest, first.digest);
  assertNotEquals(second.value, first.value);

  const file = toy.path("train.ts");
  const source = await Deno.readTextFile(file);
  const reads = source.replace("outputs:", "readsMeasured: true,\n  outputs:")
    .replace(
      `json("summary", {`,
      `log.info(JSON.stringify(inputs["data"]![0]!.measured("times")));\n    json("summary", {`,
    );
  await Deno.writeTextFile(file, reads);
  const { code, stderr } = await toy.run("reproduce");
  assertEquals(code, 0, stderr);
  assertStringIncludes(stderr, `train[rate=0.1]: ${JSON.stringify(JSON.parse(second.value))}`);
  assertEquals(states(await toy.json<Summary>("reproduce")), all("cached"));
  const summary = await toy.json<Summary>(...again);
  assertEquals(states(summary), { ...all("done"), report: "cached" });
  assertEquals(summary.nodes[1]!.reason, "measured: numbers was measured anew");
});

Deno.test("a number beyond float64 is a result, and null wherever it is shown", async () => {
  await using toy = await ToyProject.create();
  const file = toy.path("train.ts");
  const source = await Deno.readTextFile(file);
  const overflow = (nats: number) =>
    source.replace(
      "total });\n      metrics",
      `total, perplexity: Math.exp(${nats}) });\n      metrics`,
    );
  for (const nats of [1, 800]) {
    await Deno.writeTextFile(file, overflow(nats));
    const { code, stderr } = await toy.run("reproduce");
    assertEquals(code, 0, stderr);
  }
  const where = "name = 'perplexity' AND run = (SELECT max(run) FROM runs)";
  const query = `SELECT count(*) AS n, count(value) AS known FROM metrics WHERE ${where}`;
  assertEquals(await toy.json("sql", query), [{ n: "60", known: "0" }]);
  const shown = await toy.run("sql", `SELECT DISTINCT value FROM metrics WHERE ${where}`);
  assertStringIncludes(shown.stdout, "NULL");
  const rows = ["export", "--run", "latest", "--table", "metrics", "--out", "tables"];
  assertEquals((await toy.run(...rows, "--format", "jsonl")).code, 0);
  const lines = (await Deno.readTextFile(toy.path("tables", "metrics.jsonl"))).trim().split("\n")
    .map((line) => JSON.parse(line)).filter(({ name }) => name === "perplexity");
  assertEquals(new Set(lines.map(({ value }) => value)), new Set([null]));
  const { metrics } = await toy.json<
    { metrics: { metric: string; before: number; after: number | null }[] }
  >("diff", "previous", "latest");
  const changed = metrics.filter(({ metric }) => metric === "perplexity");
  assertEquals(changed.map(({ before, after }) => [before, after]), Array(3).fill([Math.E, null]));
  // The same from the manifests alone.
  await Deno.remove(toy.path(".ethos", "catalogue.duckdb"));
  assertEquals(await toy.json("sql", query), [{ n: "60", known: "0" }]);
});

Deno.test("an output is published in the way of its kind", async () => {
  await using toy = await ToyProject.create();
  const file = toy.path("numbers.ts");
  const source = await Deno.readTextFile(file);
  const cases: [string, string, string][] = [
    [
      `measured("times"`,
      `json("times"`,
      "`times` is a measured output, not a json one; use measured().",
    ],
    [
      `json("about"`,
      `measured("about"`,
      "`about` is a json output, not a measured one; use json().",
    ],
    [
      `output("numbers")`,
      `output("times")`,
      "`times` is a measured output; give it with measured().",
    ],
    [`measured("times"`, `void ("times"`, "ended without writing its output `times`"],
  ];
  for (const [right, wrong, message] of cases) {
    await Deno.writeTextFile(file, source.replace(right, wrong));
    const { code, stderr } = await toy.run("reproduce", "--only", "numbers");
    assertEquals(code, 1);
    assertStringIncludes(stderr, message);
  }
});

async function hasState(toy: ToyProject): Promise<boolean> {
  try {
    for await (const entry of Deno.readDir(toy.path(".ethos", "state"))) {
      if (await fileExists(toy.path(".ethos", "state", entry.name, "files", "state.json"))) {
        return true;
      }
    }
  } catch {
    // Not yet.
  }
  return false;
}

async function until(condition: () => Promise<boolean>): Promise<void> {
  const end = performance.now() + 10_000;
  while (!await condition()) {
    if (performance.now() > end) throw new Error("Waited 10 s in vain");
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
