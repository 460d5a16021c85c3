/**
 * Large graphs and an executor that only pretends to work, for tests and benchmarks of the engine itself.
 *
 * @module
 */

import { z } from "zod";
import type { CodeClosure } from "../graph/code.ts";
import { buildGraph, type Graph, type GraphNode } from "../graph/graph.ts";
import { sha256 } from "../graph/key.ts";
import type { Executor, Job } from "../executors/executor.ts";
import { type NodeRecord, outputsDigest } from "../store/records/records.ts";
import type { JsonValue, NodeSpec, Resource, Stage } from "../stage.ts";
import { Planner } from "./plan.ts";
import { runGraph, type ScheduleResult } from "./scheduler.ts";
import type { Store } from "../store/store.ts";

function stageOf(name: string, resource: Resource = "cpu"): Stage<JsonValue> {
  return {
    name,
    description: `${name}.`,
    module: import.meta.url,
    resource,
    params: z.json(),
    outputs: { value: "json" },
    run: () => Promise.reject(new Error("The executor runs nothing")),
  };
}

/** Parameters of as many values as a real training has. */
function paramsOf(i: number): JsonValue {
  const layers = Object.fromEntries(Array.from({ length: 40 }, (_, j) => [`width_${j}`, 64 + j]));
  return { model: layers, seed: i };
}

/** `download → tokenize → n trainings → n evaluations → ablate → report`. */
export function experimentGraph(n: number): Graph {
  const stages = {
    download: stageOf("download"),
    tokenize: stageOf("tokenize"),
    train: stageOf("train"),
    evaluate: stageOf("evaluate"),
    ablate: stageOf("ablate"),
    report: stageOf("report"),
  };
  const download: NodeSpec = { stage: stages.download, params: {} };
  const dataset: NodeSpec = {
    stage: stages.tokenize,
    params: {},
    inputs: { download: [download] },
  };
  const train = Array.from({ length: n }, (_, i): NodeSpec => ({
    stage: stages.train,
    label: `seed=${i}`,
    params: paramsOf(i),
    inputs: { dataset: [dataset] },
  }));
  const evaluate = train.map((model, i): NodeSpec => ({
    stage: stages.evaluate,
    label: `seed=${i}`,
    params: { windows: 8 },
    inputs: { train: [model], dataset: [dataset] },
  }));
  const ablate: NodeSpec = { stage: stages.ablate, params: {}, inputs: { train, evaluate } };
  const inputs = { download: [download], dataset: [dataset], train, evaluate, ablate: [ablate] };
  return buildGraph([{ stage: stages.report, params: {}, inputs }]);
}

/** `n` nodes that read up to three earlier ones each, near or far, the same for a seed. */
export function randomGraph(n: number, seed: number): Graph {
  let state = seed >>> 0;
  const random = (below: number) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor(state / 2 ** 32 * below);
  };
  const stage = stageOf("mix");
  const specs: NodeSpec[] = [];
  for (let i = 0; i < n; i++) {
    const before = new Set<NodeSpec>();
    for (let k = random(4); k > 0 && i > 0; k--) {
      before.add(specs[random(2) === 0 ? i - 1 : random(i)]!);
    }
    specs.push({ stage, label: `${i}`, params: { i }, inputs: { before: [...before] } });
  }
  return buildGraph(specs);
}

/** `n` nodes, each of which reads the one before. */
export function chainGraph(n: number): Graph {
  const stage = stageOf("link");
  let last: NodeSpec | undefined;
  for (let i = 0; i < n; i++) {
    const spec: NodeSpec = { stage, label: `${i}`, params: { i } };
    last = { ...spec, inputs: last === undefined ? {} : { before: [last] } };
  }
  return buildGraph([last!]);
}

/** Code of as many files as a stage of this project reaches. */
export function codeOf(graph: Graph, files = 250): ReadonlyMap<GraphNode, CodeClosure> {
  const entries = Array.from({ length: files }, (_, i) => [`model/part_${i}.ts`, sha256(`${i}`)]);
  const code: CodeClosure = {
    digest: sha256(JSON.stringify(entries)),
    files: Object.fromEntries(entries),
    packages: { "zod@4.6.7": "sha512-x" },
  };
  return new Map(graph.nodes.map((node) => [node, code]));
}

/** Publishes a small value for each node after `seconds(node)`, as a job in another process would. */
export function fakeExecutor(
  milliseconds: (node: GraphNode) => number,
  publish: (store: Job["store"], record: NodeRecord) => Promise<void> = (store, record) =>
    store.publish({ record, metrics: [], objects: [] }),
): (job: Job) => Promise<NodeRecord> {
  return async ({ node, key, components, store, run }) => {
    const time = milliseconds(node);
    if (time > 0) await new Promise((resolve) => setTimeout(resolve, time));
    const outputs: NodeRecord["outputs"] = { value: { kind: "json", value: sha256(node.name) } };
    const now = new Date().toISOString();
    const record: NodeRecord = {
      format: 1,
      key,
      node: node.name,
      stage: node.stage.name,
      resource: "cpu",
      labels: node.labels,
      components,
      outputs,
      digest: outputsDigest(outputs, undefined),
      provenance: { run, started_at: now, finished_at: now, seconds: time / 1000 },
    };
    await publish(store, record);
    return record;
  };
}

/** Runs a graph without a run's manifest. */
export async function schedule(
  graph: Graph,
  store: Store,
  options: {
    executor: Executor["run"];
    gpus?: Executor["gpus"];
    jobs?: number;
    signal?: AbortSignal;
    line?: () => void;
  },
): Promise<ScheduleResult> {
  return await runGraph({
    graph,
    store,
    root: ".",
    planner: new Planner(store, codeOf(graph)),
    force: new Set(),
    run: "20260101-000000-000",
    executor: { gpus: options.gpus ?? 1, run: options.executor },
    jobs: options.jobs ?? 64,
    display: {
      bar: () => ({ update: () => {}, stop: () => {} }),
      line: options.line ?? (() => {}),
      sample: () => {},
      stop: () => {},
    },
    signal: options.signal ?? new AbortController().signal,
    host: {},
  });
}
