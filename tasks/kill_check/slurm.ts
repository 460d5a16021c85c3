/**
 * Disturbs a run whose nodes are jobs of Slurm's.
 *
 * @module
 */

import { join } from "@std/path";
import { SlurmCluster } from "../../pipeline/executors/slurm/cluster_testing.ts";
import { type Running, Sandbox } from "../../stages/reproduce_testing.ts";
import { examine, type Expected, finish, type Kill, patiently } from "./experiment.ts";

/** The victims, in turn. */
const VICTIMS = ["coordinator", "job", "slurmd", "host"] as const;
/** So many kills of one experiment at most. */
const KILLS_AN_EXPERIMENT = 5;
/** Kills are no fault of a node: every one may hit the same. */
const OPTIONS = "poll_seconds: 1\nretries: 10\n";

/** How a disturbance is made. */
export interface DisturbOptions {
  readonly kills: number;
  /** Numbers from 0 to 1. */
  readonly draw: () => number;
  readonly config: string;
  readonly expected: Expected;
  readonly say: (line: string) => void;
}

/** Kills, and lists the kills and all that went wrong. */
export async function disturbSlurm(
  options: DisturbOptions,
): Promise<{ done: Kill[]; wrong: string[] }> {
  const { kills, draw, config, expected, say } = options;
  await using cluster = await SlurmCluster.start();
  const done: Kill[] = [];
  const wrong: string[] = [];
  for (let experiment = 1; done.length < kills; experiment++) {
    await using sandbox = await Sandbox.create(config);
    Object.assign(sandbox.env, cluster.env);
    const slurm = join(sandbox.dir, "slurm.yaml");
    await Deno.writeTextFile(slurm, OPTIONS);
    const start = () => sandbox.start("reproduce", "--executor", "slurm", "--slurm", slurm);
    using publications = new Publications(sandbox.dir, join(sandbox.store, "nodes"));
    let running = start();
    for (let i = 0; i < KILLS_AN_EXPERIMENT && done.length < kills; i++) {
      // Jobs start a process each, so that a run takes about twice as long as without them.
      const seconds = 0.5 + draw() * expected.seconds * 2 / KILLS_AN_EXPERIMENT;
      const ended = await Promise.race([
        running.ended.then(() => true),
        new Promise<false>((resolve) => setTimeout(() => resolve(false), seconds * 1000)),
      ]);
      if (ended) break;
      const victim = VICTIMS[done.length % VICTIMS.length]!;
      const during = running.stderr().trim().split("\n").at(-1)?.slice(0, 60) || "start-up";
      const hit = await kill(victim, { cluster, running, draw });
      if (hit === undefined) break;
      if (victim === "coordinator") running = start();
      done.push({ experiment, aim: hit, seconds, during, orphans: 0 });
      say(`kill ${done.length} of ${kills}: ${hit}, ${during}`);
    }
    await finish(running);
    const found = [
      ...await examine(sandbox, expected),
      ...publications.repeated.map((path) => `${path} was published more than once`),
    ];
    wrong.push(...found.map((what) => `experiment ${experiment}: ${what}`));
    say(`experiment ${experiment}: ${found.length === 0 ? "the same bits" : "NOT the same"}`);
  }
  return { done, wrong };
}

/** Kills one of the kinds; says which it was, or nothing when there was nothing left to kill. */
async function kill(
  victim: (typeof VICTIMS)[number],
  { cluster, running, draw }: { cluster: SlurmCluster; running: Running; draw: () => number },
): Promise<string | undefined> {
  switch (victim) {
    case "coordinator": {
      running.kill("SIGKILL");
      return (await patiently(running)).signal === "SIGKILL" ? victim : undefined;
    }
    case "job": {
      const jobs = await runningJobs(cluster, running);
      const job = jobs[Math.floor(draw() * jobs.length)];
      if (job === undefined) return undefined;
      await cluster.say("scancel", "--signal=KILL", "--batch", job);
      return `job ${job}`;
    }
    case "slurmd": {
      await cluster.kill("slurmd");
      await cluster.launch("slurmd");
      return victim;
    }
    case "host": {
      const jobs = await runningJobs(cluster, running);
      await cluster.failNode();
      await cluster.repairNode();
      return `host with ${jobs.length} jobs`;
    }
  }
}

/** Jobs that run, once there are any; none when the experiment ends before. */
async function runningJobs(cluster: SlurmCluster, running: Running): Promise<string[]> {
  let ended = false;
  running.ended.then(() => ended = true);
  while (!ended) {
    const jobs = (await cluster.jobs()).filter((line) => line.endsWith(" RUNNING"));
    if (jobs.length > 0) return jobs.map((line) => line.split(" ")[0]!);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return [];
}

/** Watches manifests until it is disposed. A publication renames a new file into its place. */
class Publications implements Disposable {
  readonly #manifests: string;
  readonly #watcher: Deno.FsWatcher;
  readonly #inodes = new Map<string, Set<number>>();

  /** Watches a folder that is there for those in another below it. */
  constructor(folder: string, manifests: string) {
    this.#manifests = manifests;
    const watcher = Deno.watchFs(folder, { recursive: true });
    this.#watcher = watcher;
    (async () => {
      for await (const { paths } of watcher) paths.forEach((path) => this.#see(path));
    })();
  }

  #see(path: string): void {
    if (!path.startsWith(this.#manifests) || !path.endsWith(".json")) return;
    try {
      const { ino } = Deno.statSync(path);
      const seen = this.#inodes.get(path) ?? new Set();
      this.#inodes.set(path, seen.add(ino ?? 0));
    } catch {
      // Another event has its own.
    }
  }

  /** Manifests that were written more than once. */
  get repeated(): string[] {
    return [...this.#inodes].filter(([, inodes]) => inodes.size > 1).map(([path]) => path);
  }

  [Symbol.dispose](): void {
    this.#watcher.close();
  }
}
