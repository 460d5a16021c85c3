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
 * With `--executor slurm`, the run is that of a Slurm of this host alone, and the check kills in turn the coordinator, a
 * job, slurmd, and all that runs on the node.
 *
 * Exits with 1 when a published digest, a checkpoint's byte or a row of the catalogue differs, or when `verify` is not
 * clean. The report shows the clock and the date; its files that differ between two undisturbed runs are left out.
 */

import { parseArgs } from "node:util";
import { formatTable } from "../pipeline/terminal/table.ts";
import { MINIMAL_CONFIG, Sandbox } from "../stages/reproduce_testing.ts";
import {
  Changes,
  examine,
  expect,
  finish,
  type Kill,
  patiently,
  random,
} from "./kill_check/experiment.ts";
import { disturbSlurm } from "./kill_check/slurm.ts";

/** So many kills of one experiment at most: more would all come late in it. */
const KILLS_AN_EXPERIMENT = 4;

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

const USAGE =
  "Usage: kill-check [--kills 30] [--seed 1] [--config FILE] [--workers N | --executor slurm], with whole numbers.";

/** Says how it is called, and ends. */
function refuse(): never {
  console.error(USAGE);
  Deno.exit(2);
}

/** The options, or the usage. */
function readOptions() {
  try {
    return parseArgs({
      options: {
        kills: { type: "string", default: "30" },
        seed: { type: "string", default: "1" },
        config: { type: "string", default: MINIMAL_CONFIG },
        executor: { type: "string", default: "inline" },
        workers: { type: "string", default: "0" },
      },
    }).values;
  } catch {
    refuse();
  }
}

const values = readOptions();
const kills = Number(values.kills);
const seed = Number(values.seed);
const workers = Number(values.workers);
const slurm = values.executor === "slurm";
const numbers = kills > 0 && workers >= 0 && [kills, seed, workers].every(Number.isSafeInteger);
if (!numbers || !(slurm || values.executor === "inline") || (slurm && workers > 0)) refuse();
const executor = workers > 0 ? ["--executor", "process", "--workers", `${workers}`] : [];

await using calm = await Sandbox.create(values.config);
const expected = await expect(calm, values.config);
const { seconds, changes } = expected;
console.log(
  `Undisturbed: ${
    seconds.toFixed(1)
  } s, ${changes} changes on disk, ${expected.contents.size} entries to compare, ` +
    `${expected.ignored.size} files of the report show the clock.`,
);

const draw = random(seed);
const done: Kill[] = [];
const wrong: string[] = [];
if (slurm) {
  const { config } = values;
  const disturbed = await disturbSlurm({ kills, draw, config, expected, say: console.log });
  done.push(...disturbed.done);
  wrong.push(...disturbed.wrong);
}
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
  const found = await examine(sandbox, expected);
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
