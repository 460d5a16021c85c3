/**
 * `run-node`: a job. Runs one node of a run whose coordinator asks for it, and publishes it by a manifest.
 *
 * It tells what it does on standard output, an event a line (`executors/events.ts`).
 *
 * @module
 */

import { join } from "@std/path";
import { type Arguments, type Command, type CommandContext, stringArgument } from "../command.ts";
import { explain, systemCode, traceOf, UserError } from "../errors.ts";
import { encodeEvent, EventDisplay, type JobEnd } from "../executors/events.ts";
import type { RunFile, Ticket } from "../executors/job_files.ts";
import type { Graph, GraphNode } from "../graph/graph.ts";
import type { NodeRecord } from "../store/records/records.ts";
import type { JobStore } from "../store/job_store.ts";
import type { Display } from "../terminal/progress.ts";

/** Exit codes by how a job ended; others say that its process was ended. */
const EXIT_CODES = {
  published: 0,
  // Another job has the node; this one has nothing to do.
  superseded: 0,
  failed: 1,
  refused: 2,
  // As mailers say it: try again later.
  paused: 75,
  interrupted: 130,
} as const;
/** How long a job whose coordinator is gone looks for a safe place to stop. */
const ORPHAN_MILLISECONDS = 10_000;

/** Runs one node. */
export const runNode: Command = {
  name: "run-node <key>",
  summary: "Run one node as a job of a run; the executors start it",
  positionals: { key: { type: "string", describe: "Key of the node" } },
  options: {
    run: {
      type: "string",
      requiresArg: true,
      demandOption: true,
      describe: "Name of the run, whose coordinator has written what the job starts from",
    },
    wave: {
      type: "string",
      requiresArg: true,
      describe:
        "Be a task of this job array of Slurm's, and keep what there is to say for whoever asks",
    },
    index: { type: "number", requiresArg: true, describe: "With --wave: the task" },
    attached: {
      type: "boolean",
      describe: "Belong to a coordinator at standard input, and stop when it is gone",
    },
  },
  async run(args, context) {
    const wave = stringArgument(args, "wave");
    if (wave !== undefined) return await runSlurmTask(wave, args, context);
    const display = new EventDisplay((event) => send(encodeEvent(event)));
    const end = await runJob(args, context, { display });
    send(encodeEvent(end));
    if (end.message !== undefined) context.warn(`error: ${end.message}`);
    if (end.trace !== undefined) context.warn(end.trace);
    return EXIT_CODES[end.state];
  },
};

/** Runs the node as a task of Slurm's, whose log is read by people. */
async function runSlurmTask(
  wave: string,
  args: Arguments,
  context: CommandContext,
): Promise<number> {
  const [{ runTask }, { createDisplay }, { JobStore }, { hostName }] = await Promise.all([
    import("../executors/slurm/task.ts"),
    import("../terminal/progress.ts"),
    import("../store/job_store.ts"),
    import("../store/locks/claim.ts"),
  ]);
  const display = await createDisplay({ terminal: false });
  const key = String(args["key"]);
  const [array, index, gpus] = [
    "SLURM_ARRAY_JOB_ID",
    "SLURM_ARRAY_TASK_ID",
    "CUDA_VISIBLE_DEVICES",
  ].map((name) => Deno.env.get(name));
  // Not SLURM_JOB_ID: that of one task is the array's, and would requeue every task.
  const job = `${array}_${index}`;
  context.warn(`Slurm job ${job} on ${hostName()}${gpus === undefined ? "" : `, GPU ${gpus}`}`);
  const end = await runTask({
    name: { run: String(args["run"]), wave, index: Number(args["index"]) },
    key,
    store: context.storeDir,
    state: new JobStore(context.storeDir, key).stateDir(key),
    job,
    say: (line) => context.warn(line),
    work: ({ restarted }) => runJob(args, context, { display, restarted }),
  });
  context.warn(end.message === undefined ? end.state : `${end.state}: ${end.message}`);
  if (end.trace !== undefined) context.warn(end.trace);
  return EXIT_CODES[end.state];
}

async function runJob(
  args: Arguments,
  context: CommandContext,
  { display, restarted = false }: { display: Display; restarted?: boolean },
): Promise<JobEnd> {
  const attached = args["attached"] === true;
  const stop = new AbortController();
  if (attached) heedCoordinator(stop);
  heedSignals(stop, { attached });
  let started = false;
  try {
    const prepared = await prepare(args, context, { attached });
    const { inline } = await import("../executors/inline.ts");
    const { ticket, store, run, node, inputs } = prepared;
    started = true;
    await inline.run({
      node,
      key: ticket.key,
      components: ticket.components,
      inputs,
      ...ticket.replaces !== undefined && { replaces: ticket.replaces },
      // A task that goes on keeps its own state.
      fresh: ticket.fresh && !restarted,
      store,
      root: run.root,
      run: run.run,
      display,
      signal: stop.signal,
      debug: ticket.debug,
      host: { ...run.host, ...ticket.device !== undefined && { device: ticket.device } },
    });
    return { type: "end", state: "published" };
  } catch (error) {
    const refused = !started && error instanceof UserError;
    if (stop.signal.aborted && !refused) return { type: "end", state: "interrupted" };
    const code = systemCode(error);
    const trace = context.debug ? traceOf(error) : undefined;
    return {
      type: "end",
      state: refused ? "refused" : "failed",
      message: error instanceof UserError || !(error instanceof Error)
        ? explain(error)
        : error.message,
      ...code !== undefined && { code },
      ...trace !== undefined && { trace },
    };
  }
}

interface Prepared {
  readonly run: RunFile;
  readonly ticket: Ticket;
  readonly store: JobStore;
  readonly node: GraphNode;
  readonly inputs: ReadonlyMap<GraphNode, NodeRecord>;
}

/**
 * Rebuilds the node from the files of its run.
 *
 * @throws UserError when the job does not belong to the store's owner, or the node's key comes out otherwise.
 */
async function prepare(
  args: Arguments,
  context: CommandContext,
  { attached }: { attached: boolean },
): Promise<Prepared> {
  const { storeDir, program } = context;
  const [{ JobFiles }, { JobStore }, { StoreLock }] = await Promise.all([
    import("../executors/job_files.ts"),
    import("../store/job_store.ts"),
    import("../store/locks/lock.ts"),
  ]);
  const name = String(args["run"]);
  const key = String(args["key"]);
  const files = new JobFiles(storeDir, name);
  const [run, ticket] = await Promise.all([files.readRun(), files.readTicket(key)]);
  if (attached) await StoreLock.assertOwnedBy(join(storeDir, "lock"), name);
  Deno.chdir(run.cwd);
  await program.stageOptions?.use({ ...run.options, _: [], $0: "" });
  const { configuration, graph } = await context.experiment({
    config: run.config,
    set: run.set,
    seed: run.seed,
    _: [],
    $0: "",
  });
  const node = findNode(graph, ticket, { before: run.configuration, now: configuration });
  const store = new JobStore(storeDir, key);
  const inputs = await readInputs(node, ticket, store);
  await assertKey(node, { inputs, ticket, root: program.root });
  return { run, ticket, store, node, inputs };
}

function findNode(
  graph: Graph,
  ticket: Ticket,
  configuration: { before: unknown; now: unknown },
): GraphNode {
  const node = graph.find(ticket.node);
  if (node !== undefined) return node;
  const why = JSON.stringify(configuration.before) === JSON.stringify(configuration.now)
    ? "the program wires its experiment otherwise"
    : "the configuration has changed";
  throw new UserError(`There is no node ${ticket.node} any more: ${why} since the run began.`);
}

async function readInputs(
  node: GraphNode,
  ticket: Ticket,
  store: JobStore,
): Promise<Map<GraphNode, NodeRecord>> {
  const inputs = new Map<GraphNode, NodeRecord>();
  for (const input of node.dependencies) {
    const key = ticket.inputs[input.name];
    const record = key === undefined ? undefined : await store.records.readNode(key);
    if (record === undefined) {
      throw new UserError(
        key === undefined
          ? `${node.name} reads ${input.name}, which it did not when the run began.`
          : `${node.name} reads ${input.name}, whose manifest ${key} is not in the store.`,
      );
    }
    inputs.set(input, record);
  }
  return inputs;
}

/** Holds a node to its key: whatever changed since the coordinator looked, the job is not the one that it asked for. */
async function assertKey(
  node: GraphNode,
  { inputs, ticket, root }: {
    inputs: ReadonlyMap<GraphNode, NodeRecord>;
    ticket: Ticket;
    root: string;
  },
): Promise<void> {
  const [{ componentsOf, codeRoots, inputDigest }, { readCode }, { explainDifference, nodeKey }] =
    await Promise
      .all([
        import("../run/plan.ts"),
        import("../graph/code.ts"),
        import("../graph/key.ts"),
      ]);
  const code = (await readCode(new Map([[node, codeRoots(node)]]), { root })).get(node)!;
  const digestOf = (input: GraphNode) => inputDigest(input, inputs.get(input)!);
  const components = componentsOf(node, digestOf, code);
  if (nodeKey(components) === ticket.key) return;
  const reasons = explainDifference(ticket.components, components);
  throw new UserError(
    `${node.name} is another node than when the run began (${
      reasons.join("; ") || "its ticket is damaged"
    }); expected the key ${ticket.key}. Run the command again.`,
  );
}

/** Stops when the coordinator says so, or is gone: its end of the pipe closes however it ended. */
async function heedCoordinator(stop: AbortController): Promise<void> {
  const decoder = new TextDecoder();
  for await (const chunk of Deno.stdin.readable) {
    if (decoder.decode(chunk).includes("stop")) stop.abort(new Error("Interrupted"));
  }
  stop.abort(new Error("The coordinator is gone"));
  setTimeout(() => Deno.exit(EXIT_CODES.interrupted), ORPHAN_MILLISECONDS);
}

function heedSignals(stop: AbortController, { attached }: { attached: boolean }): void {
  const abort = () => stop.abort(new Error("Interrupted"));
  // A terminal sends Ctrl-C to every process of its group; an attached job waits for its coordinator's word.
  Deno.addSignalListener("SIGINT", attached ? () => {} : abort);
  if (Deno.build.os === "windows") return;
  Deno.addSignalListener("SIGTERM", abort);
  // Slurm's word that the time limit is near.
  Deno.addSignalListener("SIGUSR2", abort);
}

function send(line: string): void {
  const bytes = new TextEncoder().encode(line);
  try {
    for (let at = 0; at < bytes.length;) at += Deno.stdout.writeSync(bytes.subarray(at));
  } catch (error) {
    // Nobody listens any more.
    if (!(error instanceof Deno.errors.BrokenPipe)) throw error;
  }
}
