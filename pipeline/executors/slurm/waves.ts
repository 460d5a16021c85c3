/**
 * Files of the store that outlive the coordinator: which node is which job of Slurm's.
 *
 * ```
 * jobs/<run>/<wave>/wave.json      a job array: its name, its nodes
 * jobs/<run>/<wave>/script.sh      what was sent
 * jobs/<run>/<wave>/keys           a node's key a line
 * jobs/<run>/<wave>/job            the array's id, once Slurm has said it
 * jobs/<run>/<wave>/<i>.log        all that the task i said
 * jobs/<run>/<wave>/<i>.started    the task has started at least once
 * jobs/<run>/<wave>/<i>.end.json   how it ended, in its own words
 * slurm/<key>                      the task that a node belongs to; any other task of its key ends at once
 * ```
 *
 * A wave is written before it is submitted, and its name is the array's: a job whose id got lost is found by it.
 *
 * @module
 */

import { dirname, join } from "@std/path";
import { z } from "zod";
import { readTextOrUndefined, remove, writeAtomic } from "../../store/files.ts";
import type { JobEnd } from "../events.ts";

/** A node of a wave. */
export interface WaveTask {
  readonly key: string;
  /** Name of the node. */
  readonly node: string;
}

/** A job array. */
export interface Wave {
  readonly format: 1;
  /** Name of the array, which no other has. */
  readonly name: string;
  /** Name of the run, whose files its jobs start from. */
  readonly run: string;
  /** Name of the stage. */
  readonly stage: string;
  /** Name of the cluster that it was sent to. */
  readonly cluster: string;
  /** How many of its tasks run at a time. */
  readonly throttle: number;
  /** By index in the array. */
  readonly tasks: readonly WaveTask[];
}

/** A wave: its name, and that of the run that sent it. */
export interface WaveName {
  readonly run: string;
  readonly wave: string;
}

/** A task: an index of a wave's array. */
export interface TaskName extends WaveName {
  readonly index: number;
}

/** How a task ended, in its own words; `paused` goes on where it stopped. */
export interface TaskEnd extends Omit<JobEnd, "type" | "state"> {
  readonly state: "published" | "failed" | "refused" | "paused" | "superseded";
}

const text = z.string();
const waveSchema = z.looseObject({
  format: z.literal(1),
  name: text,
  run: text,
  stage: text,
  cluster: text,
  throttle: z.int().min(1),
  tasks: z.array(z.looseObject({ key: text, node: text })),
});
const endSchema = z.looseObject({
  state: z.enum(["published", "failed", "refused", "paused", "superseded"]),
  message: text.optional(),
  code: text.optional(),
});
const nameSchema = z.looseObject({ run: text, wave: text, index: z.int().min(0) });

/** The waves of a store. */
export class WaveFiles {
  readonly #store: string;
  readonly #owners: string;

  /** `store` is the store's folder. */
  constructor(store: string) {
    this.#store = store;
    this.#owners = join(store, "slurm");
  }

  /** Folder of a wave. */
  dir({ run, wave }: WaveName): string {
    return join(this.#store, "jobs", run, wave);
  }

  /** Path of a task's log. */
  logPath(task: TaskName): string {
    return join(this.dir(task), `${task.index}.log`);
  }

  /** Writes a wave, then gives it its nodes. */
  async write(wave: Wave, script: string): Promise<void> {
    const dir = this.dir({ run: wave.run, wave: wave.name });
    const keys = wave.tasks.map(({ key }) => `${key}\n`).join("");
    await this.#write(join(dir, "keys"), keys);
    await this.#write(join(dir, "script.sh"), script);
    await this.#write(join(dir, "wave.json"), `${JSON.stringify(wave)}\n`);
    for (const [index, { key }] of wave.tasks.entries()) {
      const name: TaskName = { run: wave.run, wave: wave.name, index };
      await this.#write(join(this.#owners, key), JSON.stringify(name));
    }
  }

  /** The wave of a name. */
  async read(name: WaveName): Promise<Wave | undefined> {
    return await this.#read<Wave>(join(this.dir(name), "wave.json"), waveSchema);
  }

  /** The task that a node belongs to. */
  async taskOf(key: string): Promise<TaskName | undefined> {
    return await this.#read<TaskName>(join(this.#owners, key), nameSchema);
  }

  /** Says that a node belongs to no task any more. */
  async release(key: string): Promise<void> {
    await remove(join(this.#owners, key));
  }

  /** Notes the array's id. */
  async noteJob(wave: WaveName, job: string): Promise<void> {
    await this.#write(join(this.dir(wave), "job"), job);
  }

  /** The array's id, if Slurm has said it. */
  async jobOf(wave: WaveName): Promise<string | undefined> {
    return await readTextOrUndefined(join(this.dir(wave), "job"));
  }

  /** Notes that a task has started; says whether it had before, as it has after a requeue. */
  async noteStart(task: TaskName): Promise<boolean> {
    const path = join(this.dir(task), `${task.index}.started`);
    const before = await readTextOrUndefined(path) !== undefined;
    if (!before) await this.#write(path, "");
    await remove(this.#endPath(task));
    return before;
  }

  /** Notes how a task ended. */
  async noteEnd(task: TaskName, end: TaskEnd): Promise<void> {
    await this.#write(this.#endPath(task), `${JSON.stringify(end)}\n`);
  }

  /** How a task says it ended the last time. */
  async endOf(task: TaskName): Promise<TaskEnd | undefined> {
    return await this.#read<TaskEnd>(this.#endPath(task), endSchema);
  }

  #endPath(task: TaskName): string {
    return join(this.dir(task), `${task.index}.end.json`);
  }

  async #write(path: string, content: string): Promise<void> {
    const temporary = dirname(path);
    await Deno.mkdir(temporary, { recursive: true });
    // Not in the store's folder for such files, which a coordinator empties when it comes.
    await writeAtomic(path, content, { temporary });
  }

  /** A file that is missing or damaged says nothing. */
  async #read<T>(path: string, schema: z.ZodType): Promise<T | undefined> {
    const content = await readTextOrUndefined(path);
    if (content === undefined) return undefined;
    try {
      const value = JSON.parse(content);
      return schema.safeParse(value).success ? value as T : undefined;
    } catch {
      return undefined;
    }
  }
}
