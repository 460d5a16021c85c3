/**
 * One run: reads the code, runs the graph, records how each node ended, copies the results.
 *
 * @module
 */

import { basename, relative, resolve } from "@std/path";
import { EXIT, explain, isDiskError, UserError } from "../errors.ts";
import type { Graph, GraphNode } from "../graph/graph.ts";
import { digestJson } from "../graph/key.ts";
import { Planner, readNodeCode } from "./plan.ts";
import type { Display } from "../terminal/progress.ts";
import type { RunNode, RunRecord, RunState } from "../store/records/records.ts";
import { copyResult } from "./results.ts";
import { revisionOf } from "./revision.ts";
import type { Executor } from "../executors/executor.ts";
import { inline } from "../executors/inline.ts";
import { type RunEvent, RunEvents } from "../executors/run_events.ts";
import type { RemoteSource } from "./remote_source.ts";
import { runGraph, type ScheduleResult } from "./scheduler.ts";
import type { JsonValue } from "../stage.ts";
import type { Store } from "../store/store.ts";

/** A graph to run, the store to publish to, and how. */
export interface RunOptions {
  /** The nodes to run. */
  readonly graph: Graph;
  /** The store that nodes publish to. */
  readonly store: Store;
  /** The project root. */
  readonly root: string;
  /** The command line that the user typed. */
  readonly command: string;
  /** Where the configuration came from. */
  readonly configPath: string;
  /** The configuration. */
  readonly configuration: JsonValue;
  /** Nodes to run whatever is published. */
  readonly force?: ReadonlySet<GraphNode>;
  /** Runs nodes; this process unless given. */
  readonly executor?: Executor;
  /** How many `cpu` nodes run at a time; as many as cores unless given. */
  readonly jobs?: number;
  /** Asked for a node before it runs. */
  readonly remote?: RemoteSource;
  /** Shows progress. */
  readonly display: Display;
  /** Aborted by the user. */
  readonly signal?: AbortSignal;
  /** Shows where in the program a node's error arose. */
  readonly debug?: boolean;
}

/** The outcome of a run. */
export interface RunSummary {
  /** Its name. */
  readonly run: string;
  /** How it ended. */
  readonly state: RunState;
  /** How long it took. */
  readonly seconds: number;
  /** How each node ended. */
  readonly nodes: readonly RunNode[];
  /** Folders that results were copied to. */
  readonly results: readonly string[];
  /** Files in those folders themselves, not in folders inside: what a reader opens first. */
  readonly files: readonly string[];
  /** Problems that are not a node's: a full disk, a results folder that can't be written. */
  readonly problems: readonly string[];
  /** The program exits with this code. */
  readonly exitCode: number;
}

/**
 * Runs a graph. Failures of nodes, of the disk and of results are told in the summary, not thrown.
 *
 * @throws LeaseLostError when another process took the store over.
 */
export async function runPipeline(options: RunOptions): Promise<RunSummary> {
  const { graph, store, root } = options;
  const signals = [options.signal, store.lost].filter((signal) => signal !== undefined);
  const signal = AbortSignal.any(signals);
  const code = await readNodeCode(graph, root);
  const started = new Date();
  const base: RunRecord = {
    format: 1,
    run: newRunName(started),
    state: "running",
    command: options.command,
    config_path: options.configPath,
    configuration: options.configuration,
    started_at: started.toISOString(),
    host: { ...hostFacts(), ...await revisionOf(root) },
    nodes: [],
  };
  await note(store, base);
  await store.announce(base.run);
  using events = RunEvents.open(store.records.eventsPath(base.run), options.display);
  const { display } = events;
  events.send(graphEvent(graph, base));
  // Beside each node, so that an output names its origin without the catalogue.
  const host = {
    ...base.host,
    config: nameConfig(options.configPath, root),
    configuration: digestJson(options.configuration),
  };
  const { executor = inline, configuration } = options;
  await executor.prepare?.({ run: base.run, root, configuration, host });
  const problems: string[] = [];
  const schedule = await runGraph({
    executor,
    ...options.remote === undefined ? {} : { remote: options.remote },
    graph,
    store,
    root,
    planner: new Planner(store, code),
    force: options.force ?? new Set(),
    run: base.run,
    jobs: options.jobs ?? navigator.hardwareConcurrency,
    display,
    note: (event) => events.send(event),
    signal,
    debug: options.debug ?? false,
    host,
  });
  await store.assertOwned();
  if (schedule.stopped !== undefined) problems.push(schedule.stopped);
  const { folders: results, files } = await copyResults(schedule, options, problems);
  const state = stateOf(schedule, problems);
  const finished = new Date();
  const record: RunRecord = {
    ...base,
    state,
    finished_at: finished.toISOString(),
    nodes: schedule.nodes,
  };
  events.send({ type: "finish", state, results, files, problems });
  try {
    await note(store, record);
  } catch (error) {
    if (!isDiskError(error)) throw error;
    problems.push(explain(error, "noting how the run ended"));
  }
  return {
    run: base.run,
    state,
    seconds: (finished.getTime() - started.getTime()) / 1000,
    nodes: schedule.nodes,
    results,
    files,
    problems,
    exitCode: state === "interrupted"
      ? EXIT.interrupted
      : state !== "failed" && problems.length === 0
      ? EXIT.ok
      : EXIT.failed,
  };
}

function graphEvent(graph: Graph, { run, command, config_path }: RunRecord): RunEvent {
  const nodes = graph.nodes.map((node) => ({
    node: node.name,
    stage: node.stage.name,
    resource: node.stage.resource ?? "cpu" as const,
    inputs: node.dependencies.map(({ name }) => name),
    params: node.params,
    labels: node.labels,
  }));
  return { type: "graph", run, command, config_path, nodes };
}

async function note(store: Store, record: RunRecord): Promise<void> {
  await store.records.writeRun(record);
  await store.catalogue.putRun(record);
}

async function copyResults(
  schedule: ScheduleResult,
  options: RunOptions,
  problems: string[],
): Promise<{ folders: string[]; files: string[] }> {
  const folders = new Set<string>();
  const files = new Set<string>();
  for (const result of options.graph.results) {
    const record = schedule.records.get(result.node);
    if (record === undefined) continue;
    try {
      const damage = await options.store.damage(record, { read: false });
      if (damage !== undefined) {
        problems.push(
          `Results of ${result.node.name} were not copied: object ${damage.sha256} is ${damage.problem}. Run the command again.`,
        );
        continue;
      }
      const { folder, first } = await copyResult(result, record, options);
      folders.add(folder);
      for (const file of first) files.add(file);
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      problems.push(error.message);
    }
  }
  return { folders: [...folders], files: [...files] };
}

function stateOf(schedule: ScheduleResult, problems: readonly string[]): RunState {
  const states = new Set(schedule.nodes.map((node) => node.state));
  if (states.has("interrupted")) return "interrupted";
  if (states.has("failed") || states.has("blocked") || problems.length > 0) return "failed";
  return states.has("submitted") ? "submitted" : "done";
}

/** `20260412-101500-123`: sorts by time; one store has one run at a time, so a millisecond tells runs apart. */
function newRunName(time: Date): string {
  const digits = time.toISOString().replace(/[-:Z]/g, "");
  return digits.replace("T", "-").replace(".", "-");
}

/** A configuration's path below the project; elsewhere its name alone, as other folders are private. */
function nameConfig(path: string, root: string): string {
  const below = relative(root, resolve(path));
  return below.startsWith("..") ? basename(path) : below;
}

/** Describes the machine, for the provenance of all that a run publishes. */
function hostFacts(): Record<string, JsonValue> {
  return {
    os: Deno.build.os,
    arch: Deno.build.arch,
    cores: navigator.hardwareConcurrency,
    deno: Deno.version.deno,
  };
}
