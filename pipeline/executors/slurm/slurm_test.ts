/**
 * The toy project on a real Slurm of one node and two slots.
 *
 * @module
 */

import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { type NodeRecord, Records } from "../../store/records/records.ts";
import { all, fileExists, states, type Summary, ToyProject } from "../../testing.ts";
import { SlurmCluster } from "./cluster_testing.ts";

/** Long enough for a test to disturb it, with a checkpoint every quarter of a second. */
const SLOW = ["--set", "milliseconds=50", "--set", "steps=40"];
/** Likewise, without the report. */
const TRAIN = [...SLOW, "--only", "train"];
/** Likewise, as many as there are slots. */
const TWO = [...SLOW, "--only", "train[rate=0.1]", "--only", "train[rate=0.2]"];

/** So that commands beside it have time. */
const LONG = ["--set", "milliseconds=200"];

/** A toy project whose commands know the cluster. */
class SlurmToy implements AsyncDisposable {
  readonly toy: ToyProject;
  readonly #cluster: SlurmCluster;

  private constructor(toy: ToyProject, cluster: SlurmCluster) {
    this.toy = toy;
    this.#cluster = cluster;
  }

  static async create(cluster: SlurmCluster, options = ""): Promise<SlurmToy> {
    const toy = await ToyProject.create();
    Object.assign(toy.env, cluster.env);
    await Deno.writeTextFile(toy.path("slurm.yaml"), `poll_seconds: 0.5\n${options}`);
    return new SlurmToy(toy, cluster);
  }

  arguments(...more: string[]): string[] {
    return ["reproduce", "--executor", "slurm", "--slurm", this.toy.path("slurm.yaml"), ...more];
  }

  run(...more: string[]): Promise<{ summary: Summary; code: number; stderr: string }> {
    return finish(this.start(...more));
  }

  start(...more: string[]): Deno.ChildProcess {
    return this.toy.spawn(...this.arguments("--json", ...more));
  }

  async records(): Promise<Map<string, NodeRecord>> {
    const records = new Records(this.toy.path(".ethos"), this.toy.path(".ethos", "tmp"));
    const found = new Map<string, NodeRecord>();
    for (const key of await records.nodeKeys()) {
      const record = await records.readNode(key);
      if (record !== undefined) found.set(record.node, record);
    }
    return found;
  }

  /** Digests of what each node published. */
  async digests(): Promise<Record<string, string>> {
    const records = [...await this.records()].map(([name, { digest }]) => [name, digest]);
    return Object.fromEntries(records.sort());
  }

  /** Last words of the tasks, by key. */
  async ends(): Promise<Map<string, string[]>> {
    const ends = new Map<string, string[]>();
    for (const dir of await this.waves()) {
      const keys = (await Deno.readTextFile(`${dir}/keys`)).trim().split("\n");
      for (const [index, key] of keys.entries()) {
        if (!await fileExists(`${dir}/${index}.end.json`)) continue;
        const { state } = JSON.parse(await Deno.readTextFile(`${dir}/${index}.end.json`));
        ends.set(key, [...ends.get(key) ?? [], state]);
      }
    }
    return ends;
  }

  /** Folders of the arrays of a stage. */
  async waves(stage = ""): Promise<string[]> {
    const jobs = this.toy.path(".ethos", "jobs");
    const found: string[] = [];
    for await (const run of Deno.readDir(jobs)) {
      for await (const { name, isDirectory } of Deno.readDir(`${jobs}/${run.name}`)) {
        if (isDirectory && name.startsWith(stage)) found.push(`${jobs}/${run.name}/${name}`);
      }
    }
    return found;
  }

  /** All that the tasks of a stage wrote. */
  async log(stage: string): Promise<string> {
    const texts: string[] = [];
    for (const wave of await this.waves(stage)) {
      for await (const { name } of Deno.readDir(wave)) {
        if (name.endsWith(".log")) texts.push(await Deno.readTextFile(`${wave}/${name}`));
      }
    }
    return texts.join("\n");
  }

  /** Waits for tasks of a stage that have made a checkpoint; gives back the ids of those that run. */
  async training(count: number): Promise<string[]> {
    return await until(`${count} trainings under way`, async () => {
      let checkpoints = 0;
      try {
        for await (const { name } of Deno.readDir(this.toy.path(".ethos", "state"))) {
          if (await fileExists(this.toy.path(".ethos", "state", name, "files", "state.json"))) {
            checkpoints++;
          }
        }
      } catch (error) {
        if (!(error instanceof Deno.errors.NotFound)) throw error;
      }
      const running = (await this.#cluster.jobs()).filter((line) => line.endsWith(" RUNNING"));
      return checkpoints >= count && running.length >= count
        ? running.map((line) => line.split(" ")[0]!)
        : undefined;
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#cluster.say("scancel", "--me");
    await this.#cluster.idle();
    await this.toy[Symbol.asyncDispose]();
  }
}

async function until<T>(what: string, ask: () => Promise<T | undefined>): Promise<T> {
  const end = performance.now() + 60_000;
  for (;;) {
    const answer = await ask();
    if (answer !== undefined) return answer;
    if (performance.now() > end) throw new Error(`There was no ${what} after a minute`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function finish(
  child: Deno.ChildProcess,
  lines: ReadableStream<Uint8Array<ArrayBuffer>> = child.stderr,
) {
  const [stdout, stderr, { code }] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(lines).text(),
    child.status,
  ]);
  try {
    return { summary: JSON.parse(stdout) as Summary, code, stderr };
  } catch {
    throw new Error(`Not JSON: ${stdout}\n${stderr}`);
  }
}

/** Nobody's job published the same node twice, and all of them are there. */
async function assertOnce(toy: SlurmToy): Promise<void> {
  for (const [key, ends] of await toy.ends()) {
    const published = ends.filter((state) => state === "published").length;
    assertEquals(published, 1, `${key} ended as ${ends.join(", ")}`);
  }
}

Deno.test("Slurm runs a pipeline to the same bits, whatever happens to jobs, daemons and coordinator", async (t) => {
  await using cluster = await SlurmCluster.start();
  let expected: Record<string, string>;
  {
    await using inline = await SlurmToy.create(cluster);
    assertEquals((await inline.toy.run("reproduce", ...SLOW)).code, 0);
    expected = await inline.digests();
    assertEquals(Object.keys(expected).length, 5);
  }
  const { report: _, "train[rate=0.3]": __, ...two } = expected;

  await t.step("a stage's due nodes are one array, as many at a time as may", async () => {
    await using toy = await SlurmToy.create(cluster, "max_jobs: 1\n");
    const { summary, code, stderr } = await toy.run(...SLOW);
    assertEquals([code, states(summary)], [0, all("done")], stderr);
    assertEquals(await toy.digests(), expected);
    assertEquals((await toy.waves()).length, 3, "numbers, train, report");
    assertMatch(stderr, /train: Slurm job \d+ is 3 nodes, 1 at a time/);
    const times = [...(await toy.records()).values()].filter(({ stage }) => stage === "train")
      .map(({ provenance }) => provenance).sort((a, b) => a.started_at < b.started_at ? -1 : 1);
    for (const [i, next] of times.slice(1).entries()) {
      assert(next.started_at >= times[i]!.finished_at, "two trainings ran at a time");
    }
    const again = await toy.run(...SLOW);
    assertEquals(states(again.summary), all("cached"));
  });

  await t.step("what Slurm refuses is one line with its words and the script", async () => {
    await using toy = await SlurmToy.create(cluster, "partition: nowhere\n");
    const { summary, code } = await toy.run();
    assertEquals([code, states(summary)["numbers"]], [1, "failed"]);
    const error = summary.nodes.find(({ node }) => node === "numbers")!.error!;
    assertStringIncludes(error, "sbatch refused: ");
    assertStringIncludes(error, "invalid partition specified: nowhere");
    const script = await Deno.readTextFile(/The script is (\S+)$/.exec(error)![1]!);
    assertStringIncludes(script, "#SBATCH --partition=nowhere\n");
  });

  await t.step("a job that Slurm took without saying so is not sent again", async () => {
    await using toy = await SlurmToy.create(cluster);
    const bin = toy.toy.path("bin");
    await Deno.mkdir(bin);
    const { stdout } = await new Deno.Command("which", { args: ["sbatch"] }).output();
    const script = `#!/bin/sh
${new TextDecoder().decode(stdout).trim()} "$@" >/dev/null
echo "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation" >&2
exit 1
`;
    await Deno.writeTextFile(`${bin}/sbatch`, script, { mode: 0o755 });
    toy.toy.env["PATH"] = `${bin}:${Deno.env.get("PATH")}`;
    const { summary, code, stderr } = await toy.run("--only", "numbers");
    assertEquals([code, summary.state], [0, "done"], stderr);
    assertMatch(stderr, /warning: Slurm does not answer \(Batch job submission failed: Socket/);
    assertMatch(stderr, /Slurm answers again\nnumbers: Slurm job \d+ is numbers\n/);
    await assertOnce(toy);
  });

  await t.step(
    "a failing node is tried again, and then named with its log; others go on",
    async () => {
      await using toy = await SlurmToy.create(cluster);
      const { summary, code, stderr } = await toy.run("--set", "failing=1");
      assertEquals(code, 1);
      const { report, failing, "report[bad]": behind } = states(summary);
      assertEquals([report, failing, behind], ["done", "failed", "blocked"]);
      assertMatch(stderr, /failing: Slurm job \d+_0: This one always fails.*; attempt 2 of 2/);
      const error = summary.nodes.find(({ node }) => node === "failing")!.error!;
      const path = /Its log is (\S+)$/.exec(error)?.[1];
      assertStringIncludes(await Deno.readTextFile(path!), "failed: This one always fails");
      assertEquals((await toy.waves("failing")).length, 2);
    },
  );

  await t.step("a job that is killed, as for want of memory, is tried again", async () => {
    await using toy = await SlurmToy.create(cluster);
    const running = toy.start(...TWO);
    const [job] = await toy.training(2);
    await cluster.say("scancel", "--signal=KILL", "--batch", job!);
    const { summary, code, stderr } = await finish(running);
    assertEquals([code, summary.state], [0, "done"], stderr);
    assertMatch(stderr, /Slurm job \d+_\d: it was ended.*Its log is .*; attempt 2 of 2/);
    assertEquals(await toy.digests(), two);
    assertStringIncludes(await toy.log("train"), "goes on at step");
  });

  await t.step("a job whose time is up goes on from its checkpoint after a requeue", async () => {
    await using toy = await SlurmToy.create(cluster);
    const running = toy.start(...TWO);
    // Slurm's number for the last task of an array is the array's.
    const [other, job] = await toy.training(2);
    // As Slurm does some time before the limit, which it counts in minutes.
    await cluster.say("scancel", "--signal=USR2", "--batch", job!);
    await until("second start", async () => {
      const { stdout } = await cluster.say("scontrol", "show", "job", job!);
      return stdout.includes("Restarts=1") ? true : undefined;
    });
    const { stdout } = await cluster.say("scontrol", "show", "job", other!);
    assertStringIncludes(stdout, "Restarts=0");
    const { summary, code, stderr } = await finish(running);
    assertEquals([code, summary.state], [0, "done"], stderr);
    assertEquals(await toy.digests(), two);
    assertStringIncludes(await toy.log("train"), "goes on at step");
    assertEquals((await toy.waves("train")).length, 1, "no other job was sent");
    await assertOnce(toy);
  });

  await t.step("a coordinator that is killed leaves its jobs to the next one", async () => {
    await using toy = await SlurmToy.create(cluster);
    const first = toy.start(...SLOW);
    await toy.training(2);
    first.kill("SIGKILL");
    await first.output();
    const [wave] = await toy.waves("train");
    // Killed before it noted the id, too.
    await Deno.remove(`${wave}/job`);
    const { summary, code, stderr } = await toy.run(...SLOW);
    assertEquals(code, 0, stderr);
    assertMatch(stderr, /train\[rate=0\.[123]\]: was sent before, as Slurm job train-/);
    const { numbers, report } = states(summary);
    assertEquals([numbers, report], ["cached", "done"]);
    assertEquals(await toy.digests(), expected);
    assertEquals((await toy.waves("train")).length, 1, "no other job was sent");
    await assertOnce(toy);
    assertEquals((await toy.toy.run("verify")).code, 0);
  });

  await t.step("slurmd and slurmctld may be away for a while", async () => {
    await using toy = await SlurmToy.create(cluster);
    // A job that ends while slurmctld is away says so again only after a quarter of a minute.
    const running = toy.start(...TWO, "--set", "milliseconds=300");
    await toy.training(2);
    await cluster.kill("slurmd");
    // Killed by SIGKILL it would forget the jobs, which are then given up after half a minute and sent again.
    await cluster.kill("slurmctld", "SIGTERM");
    const [lines, heard] = running.stderr.tee();
    let said = "";
    for await (const text of heard.pipeThrough(new TextDecoderStream())) {
      said += text;
      if (said.includes("Slurm does not answer")) break;
    }
    await cluster.launch("slurmctld");
    await cluster.launch("slurmd");
    const { summary, code, stderr } = await finish(running, lines);
    assertEquals([code, summary.state], [0, "done"], stderr);
    assertEquals(stderr.match(/warning: Slurm does not answer/g)?.length, 1, stderr);
    assertStringIncludes(stderr, "Slurm answers again");
    assertEquals(await toy.digests(), two);
    await assertOnce(toy);
  });

  await t.step("a host that fails loses no node", async () => {
    await using toy = await SlurmToy.create(cluster);
    const running = toy.start(...TWO);
    await toy.training(2);
    await cluster.failNode();
    await cluster.repairNode();
    const { summary, code, stderr } = await finish(running);
    assertEquals([code, summary.state], [0, "done"], stderr);
    assertEquals(await toy.digests(), two);
    assertStringIncludes(await toy.log("train"), "goes on at step");
    await assertOnce(toy);
  });

  await t.step("--detach leaves when Slurm has the jobs, and the next run goes on", async () => {
    await using toy = await SlurmToy.create(cluster);
    const first = await toy.run("--detach");
    assertEquals([first.code, first.summary.state], [0, "submitted"], first.stderr);
    const { numbers, report } = states(first.summary);
    assertEquals([numbers, report], ["submitted", "waiting"]);
    const { summary, code, stderr } = await toy.run();
    assertEquals(code, 0, stderr);
    assertEquals(states(summary)["report"], "done");
    assertEquals((await toy.waves("numbers")).length, 1, "no other job was sent");
    await assertOnce(toy);
  });

  await t.step("Ctrl-C leaves the jobs to Slurm where nobody can be asked", async () => {
    await using toy = await SlurmToy.create(cluster);
    const first = toy.start(...TWO, ...LONG);
    await toy.training(2);
    first.kill("SIGINT");
    const interrupted = await finish(first);
    assertEquals([interrupted.code, interrupted.summary.state], [130, "interrupted"]);
    assertEquals((await cluster.jobs()).filter((line) => line.endsWith("RUNNING")).length, 2);
    for (const command of [["gc", "--yes"], ["clean"]]) {
      const refused = await toy.toy.run(...command);
      assertEquals(refused.code, 2);
      assertMatch(refused.stderr, /A job works in the store \S+: process \d+ of run .* on /);
    }
    const { code, stderr } = await toy.run(...TWO, ...LONG);
    assertEquals(code, 0, stderr);
    assertEquals(await toy.digests(), two);
    await assertOnce(toy);
  });

  await t.step("Ctrl-C on a terminal asks, and cancels the command's own jobs alone", async () => {
    await using toy = await SlurmToy.create(cluster);
    await Deno.writeTextFile(toy.toy.path("other.sh"), "#!/bin/bash\nsleep 60\n");
    const other = await cluster.say("sbatch", "--parsable", "--hold", toy.toy.path("other.sh"));
    const words = [Deno.execPath(), "run", "--no-check", "-A", toy.toy.path("main.ts")];
    const command = [...words, ...toy.arguments(...TRAIN)].join(" ");
    // util-linux's `script` gives it a terminal, whose Ctrl-C is a byte.
    const first = new Deno.Command("script", {
      args: ["--quiet", "--return", "--command", command, "/dev/null"],
      cwd: toy.toy.dir,
      env: toy.toy.env,
      stdin: "piped",
      stdout: "piped",
      stderr: "null",
    }).spawn();
    const keyboard = first.stdin.getWriter();
    await toy.training(2);
    await keyboard.write(new TextEncoder().encode("\x03"));
    let screen = "";
    for await (const text of first.stdout.pipeThrough(new TextDecoderStream())) {
      if (!screen.includes("[y/N]") && `${screen}${text}`.includes("[y/N]")) {
        await keyboard.write(new TextEncoder().encode("y\n"));
      }
      screen += text;
    }
    assertEquals((await first.status).code, 130, screen);
    await keyboard.close();
    assertStringIncludes(screen, "Cancel the 3 jobs that this command waits for?");
    assertStringIncludes(screen, "Cancelled 3 jobs");
    await cluster.idle();
    assert((await cluster.jobs()).includes(`${other.stdout.trim()} PENDING`));
  });
});

Deno.test("Options of Slurm are checked before anything is started", async () => {
  await using toy = await ToyProject.create();
  const file = toy.path("slurm.yaml");
  await Deno.writeTextFile(file, "time: tomorrow\n");
  const slurm = ["reproduce", "--executor", "slurm"];
  const refused: [args: string[], complaint: string][] = [
    [["reproduce", "--slurm", file], "--slurm is for Slurm; expected --executor slurm beside it."],
    [["reproduce", "--detach"], "--detach is for Slurm; expected --executor slurm beside it."],
    [
      [...slurm, "--slurm", file],
      `${file}:1: time: expected hours:minutes:seconds, such as 12:00:00 or 2-00:00:00, got "tomorrow"`,
    ],
    [[...slurm, "--jobs", "2"], "--jobs is for this host; expected `max_jobs`"],
    [[...slurm, "--workers", "2"], "--workers is for workers; expected"],
  ];
  for (const [args, complaint] of refused) {
    const { code, stderr } = await toy.run(...args);
    assertEquals(code, 2, stderr);
    assertStringIncludes(stderr, `error: ${complaint}`);
  }
  assertEquals(await fileExists(toy.path(".ethos")), false);
  // Scripts can be looked at without Slurm's programs.
  toy.env["PATH"] = toy.dir;
  await Deno.writeTextFile(file, "max_jobs: 2\nstages: { numbers: { partition: cpu } }\n");
  const { code, stdout } = await toy.run(...slurm, "--slurm", file, "--dry-run");
  assertEquals(code, 0);
  assertStringIncludes(stdout, "# numbers, at most 1 at once: numbers\n#!/bin/bash\n");
  assertStringIncludes(stdout, "#SBATCH --array=0-0\n#SBATCH --partition=cpu\n");
  assertStringIncludes(stdout, "#SBATCH --array=0-2%2\n#SBATCH --gres=gpu:1\n");
  const { scripts } = await toy.json<{ scripts: { stage: string; nodes: string[] }[] }>(
    ...[...slurm, "--slurm", file, "--dry-run"],
  );
  const arrays = scripts.map(({ stage, nodes }) => `${nodes.length} ${stage}`);
  assertEquals(arrays, ["1 numbers", "3 train", "1 report"]);
  const absent = await toy.run(...slurm);
  assertEquals(absent.code, 1);
  assertStringIncludes(absent.stdout, "scontrol is not on the path; expected Slurm's programs");
});
