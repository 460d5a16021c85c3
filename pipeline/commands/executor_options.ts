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
import type { Executor, JobProgram } from "../executors/executor.ts";
import type { RunRequest } from "../executors/job_files.ts";
import type { Graph, GraphNode } from "../graph/graph.ts";
import type { JsonValue } from "../stage.ts";
import type { Store } from "../store/store.ts";

/** Options of the commands that run nodes. */
export const EXECUTOR_OPTIONS: NonNullable<Command["options"]> = {
  executor: {
    choices: ["inline", "process", "slurm"],
    requiresArg: true,
    describe:
      "Run nodes in this process, each in one of its own, or as jobs of Slurm's (default: inline)",
  },
  workers: {
    type: "number",
    requiresArg: true,
    describe: "With --executor process: how many GPU nodes run at a time (default: one a device)",
  },
  retries: {
    type: "number",
    requiresArg: true,
    describe: "How often a failed node is tried again (default: 0; with Slurm as its file says)",
  },
  slurm: {
    type: "string",
    requiresArg: true,
    describe: "With --executor slurm: a YAML file of resources that jobs ask for",
  },
  detach: {
    type: "boolean",
    describe: "With --executor slurm: leave once Slurm has every job that is due",
  },
};

/** Where the nodes of a command are computed. */
export interface PlannedExecutor {
  /** Makes the executor once the store is open. */
  make(store: Store): Promise<Executor>;
  /** Scripts that would be sent for nodes that would run. */
  readonly scripts?: (nodes: readonly GraphNode[]) => readonly PreviewedScript[];
}

/** A script that `--dry-run` shows. */
export interface PreviewedScript {
  readonly stage: string;
  /** Names of the nodes. */
  readonly nodes: readonly string[];
  readonly script: string;
}

/**
 * Checks the options that say where nodes run, before anything is started.
 *
 * @throws UserError for options that contradict each other, or devices that are not there.
 */
export async function planExecutor(
  args: Arguments,
  context: CommandContext,
  graph: Graph,
): Promise<PlannedExecutor> {
  const { program } = context;
  const name = stringArgument(args, "executor") ?? "inline";
  for (const option of ["slurm", "detach"]) {
    if (args[option] === undefined || name === "slurm") continue;
    throw new UserError(`--${option} is for Slurm; expected --executor slurm beside it.`);
  }
  if (name === "slurm" && args["jobs"] !== undefined) {
    throw new UserError("--jobs is for this host; expected `max_jobs` in the file of --slurm.");
  }
  const retries = wholeNumber(args, "retries", 0);
  const workers = wholeNumber(args, "workers", 1);
  if (name !== "process") {
    for (const name of ["workers", ...Object.keys(program.workers?.options ?? {})]) {
      if (args[name] === undefined) continue;
      throw new UserError(`--${name} is for workers; expected --executor process beside it.`);
    }
  }
  if (name === "inline") {
    return {
      async make() {
        const [{ inline, inlineExecutor }, { withRetries }] = await Promise.all([
          import("../executors/inline.ts"),
          import("../executors/retry.ts"),
        ]);
        const { gpuNodes } = program;
        return withRetries(gpuNodes ? inlineExecutor(gpuNodes) : inline, retries ?? 0);
      },
    };
  }
  const { job } = program;
  if (job === undefined) {
    throw new UserError(`${program.name} can't start itself; expected --executor inline.`);
  }
  if (name === "slurm") return await planSlurm(args, context, { graph, job, retries });
  const planned = await program.workers?.plan(args, workers) ?? equalWorkers(workers ?? 1);
  const request = requestOf(args, context);
  return {
    async make(store) {
      const [{ createProcessExecutor }, { withRetries }] = await Promise.all([
        import("../executors/process.ts"),
        import("../executors/retry.ts"),
      ]);
      const options = { store, program: job, workers: planned, request };
      return withRetries(await createProcessExecutor(options), retries ?? 0);
    },
  };
}

async function planSlurm(
  args: Arguments,
  context: CommandContext,
  { graph, job: program, retries }: {
    graph: Graph;
    job: JobProgram;
    retries: number | undefined;
  },
): Promise<PlannedExecutor> {
  const [{ loadSlurmOptions }, { jobScript }, { SlurmExecutor }] = await Promise.all([
    import("../executors/slurm/options.ts"),
    import("../executors/slurm/script.ts"),
    import("../executors/slurm/slurm.ts"),
  ]);
  const stages = new Set(graph.nodes.map(({ stage }) => stage.name));
  const slurm = await loadSlurmOptions(stringArgument(args, "slurm"), [...stages]);
  const request = requestOf(args, context);
  const common = { program, request, slurm };
  return {
    async make(store) {
      const [{ withRetries }, { confirm }] = await Promise.all([
        import("../executors/retry.ts"),
        import("../terminal/confirm.ts"),
      ]);
      const executor = new SlurmExecutor({
        ...common,
        store,
        detach: args["detach"] === true,
        confirmCancel: (jobs) =>
          confirm(
            `Cancel ${jobs === 1 ? "the job" : `the ${jobs} jobs`} that this command waits for? ` +
              "Otherwise Slurm goes on, and the same command finds what it did.",
          ),
      });
      return withRetries(executor, retries ?? slurm.retries);
    },
    scripts: (nodes) =>
      [...Map.groupBy(nodes, ({ stage }) => stage.name)].map(([stage, [node, ...others]]) => ({
        stage,
        nodes: [node!, ...others].map(({ name }) => name),
        script: jobScript({ ...common, store: { dir: context.storeDir } }, {
          name: `${stage}-ID`,
          run: "RUN",
          node: node!,
          tasks: [node, ...others],
          throttle: Math.min(slurm.max_jobs, others.length + 1),
        }),
      })),
  };
}

function equalWorkers(count: number): Worker[] {
  return Array.from({ length: count }, () => ({ name: "", prefix: [], env: {} }));
}

/** The part of the command line with which a job loads the same experiment. */
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
