// deno-lint-ignore-file no-console -- what a program prints is its output
/**
 * Kills a real `reproduce` again and again, and compares what comes out in the end with what an undisturbed one makes.
 *
 * ```sh
 * deno task kill-check --kills 30 --seed 1
 * ```
 *
 * Half of the kills come at a time drawn from the length of the undisturbed run, half after a number of changes on
 * disk drawn from those that the undisturbed run made: the second kind hits checkpoints and publications, which take
 * milliseconds. After each kill, the check replaces every object of no node by rubbish, so that a use of one would
 * show.
 *
 * With `--workers N` nodes are jobs of so many workers, and every third kill ends a job instead of its coordinator.
 *
 * Exits with 1 when a published digest, a checkpoint's byte or a row of the catalogue differs, or when `verify` is not
 * clean. The report shows the clock and the date; its files that differ between two undisturbed runs are left out.
 */

import { parseArgs } from "node:util";
import { formatTable } from "../pipeline/terminal/table.ts";
import {
  contents,
  differences,
  MINIMAL_CONFIG,
  type Running,
  Sandbox,
} from "../stages/reproduce_testing.ts";

/** How long any run may take before the check gives up on it. */
const PATIENCE_SECONDS = 300;

/** So many kills of one experiment at most: more would all come late in it. */
const KILLS_AN_EXPERIMENT = 4;

/** One kill, as it is told. */
interface Kill {
  readonly experiment: number;
  readonly aim: string;
  readonly seconds: number;
  readonly during: string;
  readonly orphans: number;
}

/** Numbers from 0 to 1, the same ones for a seed (xorshift32). */
function random(seed: number): () => number {
  let x = (Math.imul(seed + 1, 0x9e3779b9) >>> 0) || 1;
  return () => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return (x >>> 0) / 2 ** 32;
  };
}

/** Counts changes below a folder until it is disposed. */
class Changes implements Disposable {
  readonly #watcher: Deno.FsWatcher;
  count = 0;

  constructor(folder: string, onChange: (count: number) => void = () => {}) {
    const watcher = Deno.watchFs(folder, { recursive: true });
    this.#watcher = watcher;
    (async () => {
      for await (const { kind } of watcher) {
        if (kind !== "access") onChange(++this.count);
      }
    })();
  }

  [Symbol.dispose](): void {
    this.#watcher.close();
  }
}

/** Runs to the end without disturbance. */
async function calmRun(sandbox: Sandbox): Promise<{ seconds: number; changes: number }> {
  using changes = new Changes(sandbox.dir);
  const start = performance.now();
  await finish(sandbox.start("reproduce"));
  return { seconds: (performance.now() - start) / 1000, changes: changes.count };
}

async function finish(running: Running): Promise<void> {
  const { code, stderr } = await patiently(running);
  if (code !== 0) throw new Error(`reproduce ended with exit code ${code}:\n${stderr}`);
}

async function patiently(running: Running) {
  const timer = setTimeout(() => running.kill("SIGKILL"), PATIENCE_SECONDS * 1000);
  try {
    return await running.ended;
  } finally {
    clearTimeout(timer);
  }
}

/** Returns the killed process's last line: the node, and how far it had come. */
function lastWords(stderr: string): string {
  return stderr.trim().split("\n").at(-1)?.slice(0, 60) || "start-up";
}

/** Replaces objects of no node by rubbish of the same size and time. Gives back how many there were. */
async function poison(sandbox: Sandbox): Promise<number> {
  const orphans = await sandbox.orphans();
  for (const sha256 of orphans) {
    const path = sandbox.object(sha256);
    const { size, mtime } = await Deno.stat(path);
    // Another file in its place, not other bytes in it: a checkpoint in the state folder may be the same file.
    await Deno.writeFile(`${path}.rubbish`, new Uint8Array(size).fill(0x21));
    await Deno.utime(`${path}.rubbish`, mtime!, mtime!);
    await Deno.rename(`${path}.rubbish`, path);
  }
  return orphans.length;
}

/** Starts a run and kills it. `undefined` when it had ended before. */
async function killOne(
  sandbox: Sandbox,
  aim: { readonly seconds: number } | { readonly changes: number },
  options: { readonly executor: readonly string[]; readonly job: boolean },
): Promise<Omit<Kill, "experiment" | "orphans"> | undefined> {
  const running = sandbox.start("reproduce", ...options.executor);
  let hit = false;
  const kill = () => {
    const job = options.job ? youngestJob(sandbox) : undefined;
    if (hit) return;
    hit = true;
    if (job === undefined) return running.kill("SIGKILL");
    try {
      Deno.kill(job, "SIGKILL");
    } catch {
      hit = false;
    }
  };
  const start = performance.now();
  let timer: ReturnType<typeof setTimeout> | undefined;
  let changes: Changes | undefined;
  if ("seconds" in aim) timer = setTimeout(kill, aim.seconds * 1000);
  else {
    changes = new Changes(sandbox.dir, (count) => {
      if (count >= aim.changes) kill();
    });
  }
  const { code, signal, stderr } = await patiently(running);
  clearTimeout(timer);
  changes?.[Symbol.dispose]();
  const seconds = (performance.now() - start) / 1000;
  const killed = signal !== null || stderr.includes("The job was killed by SIGKILL");
  if (!killed && code !== 0) {
    throw new Error(`reproduce ended with exit code ${code}:\n${stderr}`);
  }
  if (!killed) return undefined;
  const whom = signal === null ? "job, " : "";
  const what = "seconds" in aim ? `at ${aim.seconds.toFixed(2)} s` : `change ${aim.changes}`;
  return { aim: whom + what, seconds, during: lastWords(stderr) };
}

/** Process of the job that began last, as the logs in the store say. */
function youngestJob(sandbox: Sandbox): number | undefined {
  const begun: [time: string, pid: number][] = [];
  try {
    for (const { name: run } of Deno.readDirSync(`${sandbox.store}/jobs`)) {
      for (const { name } of Deno.readDirSync(`${sandbox.store}/jobs/${run}`)) {
        if (!name.endsWith(".log")) continue;
        const text = Deno.readTextFileSync(`${sandbox.store}/jobs/${run}/${name}`);
        for (const [, time, pid] of text.matchAll(/^(\S+) .*: process (\d+)/gm)) {
          begun.push([time!, Number(pid)]);
        }
      }
    }
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  return begun.sort(([a], [b]) => a < b ? -1 : 1).at(-1)?.[1];
}

/** Lists the problems of an experiment that was disturbed and has ended. */
async function examine(
  sandbox: Sandbox,
  expected: { readonly from: Sandbox; readonly contents: Map<string, string> },
  ignored: ReadonlySet<string>,
): Promise<string[]> {
  const found = await contents(sandbox);
  const wrong = differences(expected.contents, found).filter((name) => !ignored.has(name));
  // Digests could be of something else than what lies there: the bytes themselves.
  const reference = new Map((await expected.from.records()).map((record) => [record.node, record]));
  for (const { node, outputs } of await sandbox.records()) {
    const other = reference.get(node)?.outputs["checkpoint"];
    const checkpoint = outputs["checkpoint"];
    if (checkpoint?.kind !== "directory" || other?.kind !== "directory") continue;
    for (const [i, file] of checkpoint.files.entries()) {
      const [a, b] = await Promise.all([
        Deno.readFile(sandbox.object(file.sha256)),
        Deno.readFile(expected.from.object(other.files[i]!.sha256)),
      ]);
      if (a.length !== b.length || a.some((byte, at) => byte !== b[at])) {
        wrong.push(`${node} checkpoint/${file.path}, byte for byte`);
      }
    }
  }
  const verified = await sandbox.run("verify");
  if (verified.code !== 0) wrong.push(`verify: ${verified.stdout}`);
  const running = await sandbox.json<unknown[]>(
    "sql",
    "SELECT run FROM runs WHERE state = 'running'",
  );
  if (running.length > 0) wrong.push("a killed run is said to be running");
  await sandbox.run("gc", "--yes");
  if ((await sandbox.orphans()).length > 0) wrong.push("gc left objects that belong to no node");
  const again = await sandbox.json<{ nodes: { node: string; state: string }[] }>("reproduce");
  wrong.push(
    ...again.nodes.filter(({ state }) => state !== "cached")
      .map(({ node, state }) => `${node} is ${state} when everything was done`),
  );
  return wrong;
}

const { values } = parseArgs({
  options: {
    kills: { type: "string", default: "30" },
    seed: { type: "string", default: "1" },
    config: { type: "string", default: MINIMAL_CONFIG },
    workers: { type: "string", default: "0" },
  },
});
const kills = Number(values.kills);
const seed = Number(values.seed);
const workers = Number(values.workers);
if (!(kills > 0 && workers >= 0 && [kills, seed, workers].every(Number.isSafeInteger))) {
  console.error(
    "Usage: kill-check [--kills 30] [--seed 1] [--config FILE] [--workers N], with whole numbers.",
  );
  Deno.exit(2);
}
const executor = workers > 0 ? ["--executor", "process", "--workers", `${workers}`] : [];

await using calm = await Sandbox.create(values.config);
const { seconds, changes } = await calmRun(calm);
const expected = { from: calm, contents: await contents(calm) };
let ignored: Set<string>;
{
  await using second = await Sandbox.create(values.config);
  await calmRun(second);
  const unsteady = differences(expected.contents, await contents(second));
  ignored = new Set(unsteady.filter((name) => name.startsWith("report report/")));
  const wrong = unsteady.filter((name) => !ignored.has(name));
  if (wrong.length > 0) {
    console.error(`Two undisturbed runs differ already:\n  ${wrong.join("\n  ")}`);
    Deno.exit(1);
  }
}
console.log(
  `Undisturbed: ${
    seconds.toFixed(1)
  } s, ${changes} changes on disk, ${expected.contents.size} entries to compare, ` +
    `${ignored.size} files of the report show the clock.`,
);

const draw = random(seed);
const done: Kill[] = [];
const wrong: string[] = [];
for (let experiment = 1; done.length < kills; experiment++) {
  await using sandbox = await Sandbox.create(values.config);
  // Roughly the share of work left after the kills so far, so that a draw is rarely beyond the end.
  let left = 1;
  for (let i = 0; i < KILLS_AN_EXPERIMENT && done.length < kills; i++) {
    const at = draw() * left;
    const aim = done.length % 2 === 0
      ? { seconds: at * seconds }
      : { changes: 1 + Math.floor(at * changes) };
    const job = workers > 0 && done.length % 3 === 2;
    const kill = await killOne(sandbox, aim, { executor, job });
    if (kill === undefined) break;
    left = Math.max(0.3, left - 0.8 * at);
    done.push({ experiment, ...kill, orphans: await poison(sandbox) });
    console.log(`kill ${done.length} of ${kills}: ${kill.aim}, ${kill.during}`);
  }
  await finish(sandbox.start("reproduce", ...executor));
  const found = await examine(sandbox, expected, ignored);
  wrong.push(...found.map((what) => `experiment ${experiment}: ${what}`));
  console.log(
    `experiment ${experiment}: ${found.length === 0 ? "the same bits" : "NOT the same"}`,
  );
}

console.log(`\n${
  formatTable(
    ["kill", "experiment", "aimed", "hit after", "last words", "orphans made rubbish"],
    done.map((kill, i) => [
      `${i + 1}`,
      `${kill.experiment}`,
      kill.aim,
      `${kill.seconds.toFixed(2)} s`,
      kill.during,
      `${kill.orphans}`,
    ]),
  )
}`);
if (wrong.length > 0) {
  console.error(`\n${wrong.length} differences:\n  ${wrong.join("\n  ")}`);
  Deno.exit(1);
}
console.log(
  `\n${done.length} kills in ${
    done.at(-1)!.experiment
  } experiments: every published bit is that of the undisturbed run, and verify is clean.`,
);
