/**
 * Slurm's own programs: `sbatch`, `squeue`, `scancel`, `scontrol` and, where there is accounting, `sacct`.
 *
 * @module
 */

import { messageOf, UserError } from "../../errors.ts";

/** A task of an array, as the queue shows it. */
export interface QueuedTask {
  /** Name of the job. */
  readonly name: string;
  /** Id of the array. */
  readonly job: string;
  /** Index in the array. */
  readonly index: number;
  /** Slurm's word: `PENDING`, `RUNNING`, `TIMEOUT`. */
  readonly state: string;
  /** Why it waits, or why it ended. */
  readonly reason: string;
}

/** Slurm does not answer now, and may do so later. */
export class SlurmSilent extends Error {
  override readonly name = "SlurmSilent";
}

/** Messages of a controller that is away or overloaded, or that takes no more jobs for now. */
const PASSING = [
  /Unable to contact slurm controller/i,
  /Socket timed out/i,
  /Connection refused/i,
  /Connection reset/i,
  /Connection timed out/i,
  /Zero Bytes were transmitted/i,
  /Unexpected message received/i,
  /Transport endpoint is not connected/i,
  /Communication connection failure/i,
  /Slurm backup controller in standby/i,
  /Resource temporarily unavailable/i,
  /Slurm temporarily unable to accept job/i,
  /(QOS|Assoc)Max(Submit)?Job\w*Limit/i,
  /job submit limit/i,
  /Job violates accounting\/QOS policy \(job submit limit/i,
  /Protocol authentication error/i,
  /Munge decode failed/i,
  /Failed to connect to .*munge/i,
];

/** Milliseconds after which a program of Slurm is taken for stuck. */
const PATIENCE = 120_000;

/** Asks a cluster through the programs on the path. */
export class SlurmClient {
  /**
   * Name of the cluster.
   *
   * @throws SlurmSilent when the controller does not answer.
   */
  async cluster(): Promise<string> {
    const text = await say("scontrol", ["show", "config"]);
    return /^ClusterName\s*=\s*(\S+)/m.exec(text)?.[1] ?? "unknown";
  }

  /**
   * Submits a script from the folder `dir`, where its jobs start and write their logs. Returns the array's id.
   *
   * @throws SlurmSilent when Slurm did not answer. It may have the job all the same.
   * @throws UserError when Slurm refuses the job.
   */
  async submit(script: string, dir: string): Promise<string> {
    const id = (await say("sbatch", ["--parsable", script], dir)).trim().split("\n").at(-1) ?? "";
    const job = /^(\d+)(;|$)/.exec(id)?.[1];
    if (job === undefined) {
      throw new UserError(`sbatch answered \`${id}\`; expected the id of a job.`, { exitCode: 1 });
    }
    return job;
  }

  /**
   * All of the user's tasks, those that ended a while ago included, in one question.
   *
   * @throws SlurmSilent when the controller does not answer, or answers in a way that nobody foresaw: jobs go on.
   */
  async queue(): Promise<QueuedTask[]> {
    const user = ["--me", "--array", "--states=all", "--noheader"];
    let text: string;
    try {
      text = await say("squeue", [...user, "--format=%j|%F|%K|%T|%r"]);
    } catch (error) {
      throw error instanceof SlurmSilent ? error : new SlurmSilent(messageOf(error));
    }
    return text.split("\n").flatMap((line) => {
      const [name, job, index, state, reason] = line.trim().split("|");
      if (reason === undefined || !/^\d+$/.test(index!)) return [];
      return [{ name: name!, job: job!, index: Number(index), state: state!, reason }];
    });
  }

  /** The accounting's words on a task that the queue has forgotten; nothing where there is none. */
  async account(job: string, index: number): Promise<string | undefined> {
    try {
      const format = ["--noheader", "--parsable2", "--allocations", "--format=State"];
      const text = await say("sacct", [...format, `--jobs=${job}_${index}`]);
      return /^([A-Z_]+)/.exec(text.trim().split("\n").at(-1) ?? "")?.[1];
    } catch {
      return undefined;
    }
  }

  /**
   * Ends tasks of the array `name`, each as `job_index`; those that ended already are fine. A controller that lost its
   * state gives ids a second time, and then the name alone keeps another's job from harm.
   */
  async cancel(name: string, tasks: readonly string[]): Promise<void> {
    // A command line is of limited length.
    for (let i = 0; i < tasks.length; i += 500) {
      await say("scancel", ["--quiet", `--name=${name}`, ...tasks.slice(i, i + 500)]);
    }
  }

  /** Puts a running task back into the queue; its processes are asked to end. */
  async requeue(task: string): Promise<void> {
    await say("scontrol", ["requeue", task]);
  }
}

async function say(program: string, args: readonly string[], cwd?: string): Promise<string> {
  const signal = AbortSignal.timeout(PATIENCE);
  let output: Deno.CommandOutput;
  try {
    output = await new Deno.Command(program, {
      args: [...args],
      ...cwd === undefined ? {} : { cwd },
      // Messages are compared with English ones.
      env: { LC_ALL: "C" },
      stdin: "null",
      signal,
    }).output();
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    throw new UserError(
      `${program} is not on the path; expected Slurm's programs on this machine.`,
      { cause: error },
    );
  }
  const decoder = new TextDecoder();
  if (output.success) return decoder.decode(output.stdout);
  if (signal.aborted) throw new SlurmSilent(`${program} took more than ${PATIENCE / 1000} s`);
  const message = decoder.decode(output.stderr).trim().split("\n")
    .map((line) => line.replace(/^\w+: (error: )?/, "")).filter((line) => line !== "").join("; ");
  if (PASSING.some((pattern) => pattern.test(message))) throw new SlurmSilent(message);
  throw new UserError(`${program} refused: ${message || `exit code ${output.code}`}`, {
    exitCode: 1,
  });
}
