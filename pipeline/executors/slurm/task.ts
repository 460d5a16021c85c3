/**
 * A task of a job array, as it sees itself: `run-node` under Slurm.
 *
 * @module
 */

import { messageOf } from "../../errors.ts";
import { listFiles, statOrUndefined } from "../../store/files.ts";
import type { JobEnd } from "../events.ts";
import { SlurmClient } from "./client.ts";
import { type TaskEnd, type TaskName, WaveFiles } from "./waves.ts";

/** The files and the node of a task. */
export interface TaskOptions {
  /** Which one it is. */
  readonly name: TaskName;
  /** Key of its node. */
  readonly key: string;
  /** The store's folder. */
  readonly store: string;
  /** Folder of the node's state. */
  readonly state: string;
  /** Says a line in the task's log. */
  readonly say: (line: string) => void;
  /** Runs the node; `restarted` when Slurm has started the task before, and the node goes on. */
  readonly work: (options: { restarted: boolean }) => Promise<JobEnd>;
  /** Slurm's name of the task, `array_index`. */
  readonly job: string;
  /** Puts the task back into the queue; through Slurm's program unless given. */
  readonly requeue?: (job: string) => Promise<void>;
}

/**
 * Runs a node as a task and notes how it ended.
 *
 * Slurm sends SIGUSR2 some time before the time limit: the node stops at a checkpoint, and the task puts itself back into
 * the queue. Where it may not, the coordinator sends another.
 */
export async function runTask(options: TaskOptions): Promise<TaskEnd> {
  const { name, key, store, state, say, work } = options;
  const waves = new WaveFiles(store);
  const owner = await waves.taskOf(key);
  if (owner?.wave !== name.wave || owner.index !== name.index) {
    const end: TaskEnd = { state: "superseded", message: "Another job has the node by now" };
    // Slurm starts a task again whose end it did not hear of. That it published stays said.
    if ((await waves.endOf(name))?.state !== "published") await waves.noteEnd(name, end);
    return end;
  }
  const restarted = await waves.noteStart(name);
  const before = await fingerprint(state);
  let late = false;
  const warn = () => late = true;
  Deno.addSignalListener("SIGUSR2", warn);
  const { type: _, ...ended } = await work({ restarted })
    .finally(() => Deno.removeSignalListener("SIGUSR2", warn));
  let end: TaskEnd = ended.state === "interrupted"
    ? { state: "paused" }
    : { ...ended, state: ended.state };
  if (late && end.state === "paused" && await fingerprint(state) === before) {
    end = {
      state: "refused",
      message:
        "The time limit is too short for a first checkpoint; expected a longer `time`, or more frequent checkpoints",
    };
  }
  try {
    await waves.noteEnd(name, end);
  } catch (error) {
    // A full disk leaves it to Slurm's words.
    say(`warning: ${messageOf(error)}`);
  }
  if (late && end.state === "paused") {
    const requeue = options.requeue ?? ((job: string) => new SlurmClient().requeue(job));
    await requeue(options.job).catch((error) =>
      say(`Not put back into the queue: ${messageOf(error)}`)
    );
  }
  return end;
}

/** Changes when a node has kept something for its next attempt. */
async function fingerprint(state: string): Promise<string> {
  if (await statOrUndefined(state) === undefined) return "";
  const parts: string[] = [];
  for (const path of await listFiles(state)) {
    const stat = await statOrUndefined(`${state}/${path}`);
    parts.push(`${path} ${stat?.size} ${stat?.mtime?.getTime()}`);
  }
  return parts.join("\n");
}
