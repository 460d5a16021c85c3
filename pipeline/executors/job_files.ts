/**
 * The files of the store that a job starts from:
 *
 * ```
 * jobs/<run>/run.json      the configuration as the user named it and as it was resolved, the root, provenance
 * jobs/<run>/<key>.json    a job: its node, the parts of its key, the keys of its inputs
 * jobs/<run>/<key>.log     all that its processes said
 * ```
 *
 * @module
 */

import { join } from "@std/path";
import { z } from "zod";
import { UserError } from "../errors.ts";
import type { KeyComponents } from "../graph/key.ts";
import type { JsonValue } from "../stage.ts";
import { readTextOrUndefined, remove, writeAtomic } from "../store/files.ts";
import type { Job, RunStart } from "./executor.ts";

/** The command that the coordinator was started with, as far as jobs repeat it. */
export interface RunRequest {
  /** The coordinator's folder; relative paths of `config` and in the configuration are seen from here. */
  readonly cwd: string;
  /** `--config`, as typed. */
  readonly config?: string;
  /** `--set`, in order. */
  readonly set: readonly string[];
  /** `--seed`. */
  readonly seed?: number;
  /** The program's options for stages. */
  readonly options: Readonly<Record<string, JsonValue>>;
}

/** `run.json`. */
export interface RunFile extends RunStart, RunRequest {
  readonly format: 1;
}

/** `<key>.json`. */
export interface Ticket {
  readonly format: 1;
  readonly key: string;
  /** Name of the node. */
  readonly node: string;
  /** Keys of the nodes that it reads, by their names. */
  readonly inputs: Readonly<Record<string, string>>;
  /** The key is a function of these: parameters, inputs, code digests. */
  readonly components: KeyComponents;
  readonly replaces?: { readonly run: string; readonly finished_at: string };
  readonly fresh: boolean;
  readonly debug: boolean;
  /** The worker's device, for the provenance. */
  readonly device?: string;
}

const text = z.string();
const runSchema = z.looseObject({
  format: z.literal(1),
  run: text,
  root: text,
  configuration: z.json(),
  host: z.record(text, z.json()),
  cwd: text,
  config: text.optional(),
  set: z.array(text),
  seed: z.int().optional(),
  options: z.record(text, z.json()),
});
const ticketSchema = z.looseObject({
  format: z.literal(1),
  key: text,
  node: text,
  inputs: z.record(text, text),
  components: z.looseObject({ code: z.looseObject({ digest: text }) }),
  replaces: z.looseObject({ run: text, finished_at: text }).optional(),
  fresh: z.boolean(),
  debug: z.boolean(),
  device: text.optional(),
});

/** The files of one run's jobs. */
export class JobFiles {
  /** Their folder. */
  readonly dir: string;

  /** `store` is the store's folder. */
  constructor(store: string, run: string) {
    this.dir = join(store, "jobs", run);
  }

  /** Path of a job's log. */
  logPath(key: string): string {
    return join(this.dir, `${key}.log`);
  }

  /** Writes `run.json`. */
  async writeRun(run: RunFile, temporary: string): Promise<void> {
    await this.#write("run.json", run, temporary);
  }

  /** Writes the ticket of a job; `device` names what it computes on, if that was chosen. */
  async writeTicket(job: Job, device: string): Promise<void> {
    const ticket: Ticket = {
      format: 1,
      key: job.key,
      node: job.node.name,
      inputs: Object.fromEntries([...job.inputs].map(([node, { key }]) => [node.name, key])),
      components: job.components,
      ...job.replaces !== undefined && { replaces: job.replaces },
      fresh: job.fresh,
      debug: job.debug,
      ...device !== "" && { device },
    };
    await this.#write(`${job.key}.json`, ticket, job.store.temporary);
  }

  async #write(name: string, value: unknown, temporary: string): Promise<void> {
    await writeAtomic(join(this.dir, name), `${JSON.stringify(value)}\n`, {
      temporary,
      sync: false,
    });
  }

  /**
   * The run.
   *
   * @throws UserError when the file is missing or damaged.
   */
  async readRun(): Promise<RunFile> {
    return await this.#read<RunFile>("run.json", runSchema);
  }

  /**
   * The ticket of a job.
   *
   * @throws UserError when the file is missing or damaged.
   */
  async readTicket(key: string): Promise<Ticket> {
    return await this.#read<Ticket>(`${key}.json`, ticketSchema);
  }

  /** Removes the ticket of a job that is done. */
  async removeTicket(key: string): Promise<void> {
    await remove(join(this.dir, `${key}.json`));
  }

  async #read<T>(name: string, schema: z.ZodType): Promise<T> {
    const path = join(this.dir, name);
    const content = await readTextOrUndefined(path);
    if (content === undefined) {
      throw new UserError(`There is no ${path}; expected the coordinator to have written it.`);
    }
    let value: unknown;
    try {
      value = JSON.parse(content);
    } catch {
      // Said below.
    }
    if (!schema.safeParse(value).success) {
      throw new UserError(`${path} is damaged; expected what the coordinator wrote.`);
    }
    return value as T;
  }
}
