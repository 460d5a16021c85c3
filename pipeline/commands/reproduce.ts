/**
 * `reproduce` and `sweep`: run what is not there yet.
 *
 * @module
 */

import {
  type Arguments,
  type Command,
  type CommandContext,
  EXPERIMENT_OPTIONS,
  INPUT_OPTIONS,
  listArgument,
  type LoadedExperiment,
} from "../command.ts";
import { EXIT, explain, UserError } from "../errors.ts";
import { foldNodes } from "../graph/fold.ts";
import type { Graph, GraphNode } from "../graph/graph.ts";
import type { RunSummary } from "../run/run.ts";
import type { Store } from "../store/store.ts";
import { findRemote, REMOTE_OPTION } from "./remote_option.ts";
import { EXECUTOR_OPTIONS, planExecutor, type PlannedExecutor } from "./executor_options.ts";
import { ALL_OPTION } from "./status.ts";

const OPTIONS: Command["options"] = {
  ...EXPERIMENT_OPTIONS,
  only: {
    type: "string",
    array: true,
    nargs: 1,
    requiresArg: true,
    describe: "Only this stage or node, and what it reads; may be repeated",
  },
  force: {
    type: "string",
    array: true,
    nargs: 1,
    requiresArg: true,
    describe: "Run this stage or node again, from scratch; may be repeated",
  },
  "dry-run": { type: "boolean", describe: "Say what would run, and why, and run nothing" },
  ...INPUT_OPTIONS,
  ...ALL_OPTION,
  ...REMOTE_OPTION,
  jobs: { type: "number", requiresArg: true, describe: "How many CPU nodes run at a time" },
  wait: { type: "boolean", describe: "Wait while another process has the store" },
  ...EXECUTOR_OPTIONS,
};

/** Runs the nodes of a configuration. */
export const reproduce: Command = {
  name: "reproduce",
  summary: "Run everything that is not there yet, and copy the results",
  examples: [
    ["reproduce", "the default configuration"],
    ["reproduce --set model.ffn.d_latent=64", "with another value"],
    ["reproduce --seed 100", "with fresh randomness"],
    ["reproduce --only train --dry-run", "what would run up to training, and why"],
    ["reproduce --force report", "draw the report again"],
  ],
  options: OPTIONS,
  runsStages: true,
  startsJobs: true,
  run: runExperiment,
};

/** Runs the nodes of an ablation or a grid. */
export const sweep: Command = {
  name: "sweep",
  summary: "Run an ablation or a grid; each cell is a cached node",
  examples: [["sweep --config configs/ablations/d_latent.yaml", "one ablation"]],
  options: { ...OPTIONS, config: { ...EXPERIMENT_OPTIONS["config"], demandOption: true } },
  runsStages: true,
  startsJobs: true,
  run: runExperiment,
};

async function runExperiment(args: Arguments, context: CommandContext): Promise<number> {
  const experiment = await context.experiment(args);
  const graph = restrict(experiment.graph, listArgument(args, "only"));
  const force = new Set(listArgument(args, "force").flatMap((name) => graph.select(name)));
  const jobs = args["jobs"] as number | undefined;
  if (jobs !== undefined && !(Number.isSafeInteger(jobs) && jobs >= 1)) {
    throw new UserError(`--jobs is ${jobs}; expected an integer of at least 1.`);
  }
  const all = args["all"] === true;
  const remote = await findRemote(args);
  const planned = await planExecutor(args, context, experiment.graph);
  if (args["dry-run"] === true) {
    const { scripts } = planned;
    return await dryRun(graph, { force, all, ...scripts && { scripts } }, context);
  }
  const opening = { create: true, wait: args["wait"] === true };
  return await context.withStore(opening, async (store) => {
    await experiment.remember?.(store.dir);
    const [{ runPipeline }, { RemoteSource }, { createDisplay }, { interruptible }] = await Promise
      .all([
        import("../run/run.ts"),
        import("../run/remote_source.ts"),
        import("../terminal/progress.ts"),
        import("../run/interrupt.ts"),
      ]);
    const display = await createDisplay();
    const executor = await planned.make(store);
    using interrupt = interruptible((line) => display.line(line), () => executor.end?.());
    // Whatever happens, no bar stays behind.
    using _ = { [Symbol.dispose]: () => display.stop() };
    await using events = experiment.tensorboard === true
      ? await followEvents(store, (line) => display.line(line))
      : undefined;
    const summary = await runPipeline({
      graph,
      store,
      root: context.program.root,
      command: context.command,
      configPath: experiment.configPath,
      configuration: experiment.configuration,
      force,
      executor,
      ...jobs === undefined ? {} : { jobs },
      ...remote === undefined ? {} : { remote: new RemoteSource(remote) },
      display,
      signal: interrupt.signal,
      debug: context.debug,
    });
    await events?.finish(summary.nodes);
    display.stop();
    report(summary, { experiment, all }, context);
    return summary.exitCode === EXIT.interrupted ? interrupt.exitCode : summary.exitCode;
  });
}

/** Writes event files while nodes run. A failure of theirs is told, and stops no node. */
async function followEvents(store: Store, warn: (line: string) => void) {
  const [{ join }, { MetricsFollower, Watch }] = await Promise.all([
    import("@std/path"),
    import("../tensorboard/follow.ts"),
  ]);
  const follower = new MetricsFollower(store, { out: join(store.dir, "tensorboard") });
  const failed = (error: unknown) =>
    warn(`warning: ${explain(error, "writing events for TensorBoard")}`);
  const watch = new Watch(follower, failed);
  return {
    [Symbol.asyncDispose]: () => watch[Symbol.asyncDispose](),
    /** Stops the watch, and writes what is left of the run's nodes. */
    async finish(nodes: RunSummary["nodes"]): Promise<void> {
      await watch[Symbol.asyncDispose]();
      try {
        for (const { node, key, state } of nodes) {
          if (key === undefined || (state !== "done" && state !== "cached")) continue;
          const record = await store.records.readNode(key);
          if (record !== undefined) await follower.publish({ ...record, node });
        }
      } catch (error) {
        failed(error);
      }
    },
  };
}

function restrict(graph: Graph, only: readonly string[]): Graph {
  return only.length === 0 ? graph : graph.restrict(only.flatMap((name) => graph.select(name)));
}

async function dryRun(
  graph: Graph,
  options: {
    force: ReadonlySet<GraphNode>;
    all: boolean;
    scripts?: NonNullable<PlannedExecutor["scripts"]>;
  },
  context: CommandContext,
): Promise<number> {
  const { showPlan } = await import("./status.ts");
  await context.withStore(
    { create: false, look: true },
    (store) => showPlan(graph, store, context, options),
  );
  return EXIT.ok;
}

function report(
  summary: RunSummary,
  options: { experiment: LoadedExperiment; all: boolean },
  context: CommandContext,
): void {
  if (context.json) {
    const { configPath } = options.experiment;
    return context.print(JSON.stringify({ config_path: configPath, ...summary }));
  }
  const counts = new Map<string, number>();
  for (const { state } of summary.nodes) counts.set(state, (counts.get(state) ?? 0) + 1);
  const lines = summary.nodes.map(({ node, stage, state, reason, error }) => (
    { node, stage, state, note: error ?? (state === "done" ? "" : reason ?? "") }
  ));
  for (const { node, state, note } of options.all ? lines : foldNodes(lines)) {
    context.print(`${state.padEnd(11)} ${node}${note === "" ? "" : `: ${note}`}`, { hang: 12 });
  }
  const total = [...counts].map(([state, count]) => `${count} ${state}`).join(", ") || "no nodes";
  context.print(
    `Run ${summary.run} ${summary.state} in ${summary.seconds.toFixed(1)} s: ${total}.`,
  );
  if (summary.state === "submitted") {
    context.print("Slurm goes on alone. The same command later takes in what is done and goes on.");
  }
  for (const folder of summary.results) context.print(`Results are in ${folder}`);
  for (const file of summary.files) context.print(`  ${file}`);
  for (const problem of summary.problems) context.warn(`error: ${problem}`);
}
