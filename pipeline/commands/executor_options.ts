/**
 * `--executor`: where the nodes of a run are computed.
 *
 * @module
 */

import {
  type Arguments,
  type Command,
  type CommandContext,
  listArgument,
  stringArgument,
  type Worker,
} from "../command.ts";
import { UserError } from "../errors.ts";
import type { Executor } from "../executors/executor.ts";
import type { RunRequest } from "../executors/job_files.ts";
import type { JsonValue } from "../stage.ts";
import type { Store } from "../store/store.ts";

/** Options of the commands that run nodes. */
export const EXECUTOR_OPTIONS: NonNullable<Command["options"]> = {
  executor: {
    choices: ["inline", "process"],
    requiresArg: true,
    describe: "Run nodes in this process, or each in one of its own (default: inline)",
  },
  workers: {
    type: "number",
    requiresArg: true,
    describe: "With --executor process: how many GPU nodes run at a time (default: one a device)",
  },
  retries: {
    type: "number",
    requiresArg: true,
    describe: "How often a failed node is tried again (default: 0)",
  },
};

/** Makes an executor once the store is open. */
export type MakeExecutor = (store: Store) => Promise<Executor>;

/**
 * Checks the options that say where nodes run, before anything is started.
 *
 * @throws UserError for options that contradict each other, or devices that are not there.
 */
export async function planExecutor(
  args: Arguments,
  context: CommandContext,
): Promise<MakeExecutor> {
  const { program } = context;
  const retries = wholeNumber(args, "retries", 0) ?? 0;
  const workers = wholeNumber(args, "workers", 1);
  if ((stringArgument(args, "executor") ?? "inline") === "inline") {
    for (const name of ["workers", ...Object.keys(program.workers?.options ?? {})]) {
      if (args[name] === undefined) continue;
      throw new UserError(`--${name} is for workers; expected --executor process beside it.`);
    }
    return async () => {
      const [{ inline }, { withRetries }] = await Promise.all([
        import("../executors/inline.ts"),
        import("../executors/retry.ts"),
      ]);
      return withRetries(inline, retries);
    };
  }
  const { job } = program;
  if (job === undefined) {
    throw new UserError(`${program.name} can't start itself; expected --executor inline.`);
  }
  const planned = await program.workers?.plan(args, workers) ?? equalWorkers(workers ?? 1);
  const request = requestOf(args, context);
  return async (store) => {
    const [{ createProcessExecutor }, { withRetries }] = await Promise.all([
      import("../executors/process.ts"),
      import("../executors/retry.ts"),
    ]);
    const options = { store, program: job, workers: planned, request };
    return withRetries(await createProcessExecutor(options), retries);
  };
}

function equalWorkers(count: number): Worker[] {
  return Array.from({ length: count }, () => ({ name: "", prefix: [], env: {} }));
}

/** What a job has to know of the command line to load the same experiment. */
export function requestOf(args: Arguments, { program }: CommandContext): RunRequest {
  const config = stringArgument(args, "config");
  const seed = args["seed"] as number | undefined;
  const options = Object.keys(program.stageOptions?.options ?? {})
    .filter((name) => args[name] !== undefined)
    .map((name) => [name, args[name] as JsonValue]);
  return {
    cwd: Deno.cwd(),
    ...config !== undefined && { config },
    set: listArgument(args, "set"),
    ...seed !== undefined && { seed },
    options: Object.fromEntries(options),
  };
}

function wholeNumber(args: Arguments, name: string, least: number): number | undefined {
  const value = args[name] as number | undefined;
  if (value === undefined || (Number.isSafeInteger(value) && value >= least)) return value;
  throw new UserError(`--${name} is ${value}; expected an integer of at least ${least}.`);
}
