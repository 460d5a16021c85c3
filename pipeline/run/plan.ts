/**
 * Finds which nodes would run, and why.
 *
 * A node's key holds digests of its inputs' outputs, so it is known only once they are published. A node is `waiting`
 * when it changed in nothing but has inputs that run first. If they publish the same bits as before, it is cached.
 *
 * @module
 */

import { type CodeClosure, readCode } from "../graph/code.ts";
import { statOrUndefined } from "../store/files.ts";
import type { Graph, GraphNode } from "../graph/graph.ts";
import { digestJson, explainDifference, type KeyComponents, nodeKey } from "../graph/key.ts";
import { measuredDigest, type NodeRecord } from "../store/records/records.ts";
import type { JsonValue } from "../stage.ts";
import type { Store } from "../store/store.ts";

/** Where a node stands before anything runs. */
type PlanState = "cached" | "stale" | "new" | "damaged" | "forced" | "waiting";

/** One node of a plan. */
export interface PlannedNode {
  readonly node: GraphNode;
  readonly state: PlanState;
  /** Unknown while waiting. */
  readonly key?: string;
  readonly components?: KeyComponents;
  /** Why it isn't cached, the most telling first. */
  readonly reasons: readonly string[];
  /** The published record of a cached node. */
  readonly record?: NodeRecord;
  /** A publication that is there and that a run of the node would replace. */
  readonly replaces?: NodeRecord;
}

/** Code closures of all nodes of a graph. */
export async function readNodeCode(
  graph: Graph,
  root: string,
): Promise<ReadonlyMap<GraphNode, CodeClosure>> {
  return await readCode(new Map(graph.nodes.map((node) => [node, codeRoots(node)])), { root });
}

/** URLs of the modules that a node's code starts from. */
export function codeRoots({ stage, parsed, inputs }: GraphNode): readonly string[] {
  const modules = stage.modules?.({ params: parsed, inputs }) ?? [];
  return [stage.module, ...stage.workers ?? [], ...new Set(modules)];
}

/** Collects all that a node is a function of, given the {@linkcode inputDigest} of each input and its code. */
export function componentsOf(
  node: GraphNode,
  digestOf: (input: GraphNode) => string,
  code: CodeClosure,
): KeyComponents {
  return {
    format: 1,
    stage: node.stage.name,
    params: node.params,
    inputs: Object.fromEntries(
      Object.entries(node.inputs).map(([name, list]) => [
        name,
        list.map((input) => ({
          node: input.name,
          digest: digestOf(input),
        })),
      ]),
    ),
    code,
  };
}

/** Computes keys and compares them with those in a store. */
export class Planner {
  readonly #store: Store;
  readonly #code: ReadonlyMap<GraphNode, CodeClosure>;
  #latest: Promise<ReadonlyMap<string, string>> | undefined;
  /** Digests of inputs that many nodes read. */
  readonly #digests = new WeakMap<NodeRecord, { node: GraphNode; digest: string }>();

  /** `code` has the closure of each node that is planned. */
  constructor(store: Store, code: ReadonlyMap<GraphNode, CodeClosure>) {
    this.#store = store;
    this.#code = code;
  }

  /** Collects all that a node is a function of, given the records of its inputs. */
  components(node: GraphNode, inputs: ReadonlyMap<GraphNode, NodeRecord>): KeyComponents {
    const digestOf = (input: GraphNode) => this.#inputDigest(input, inputs.get(input)!);
    return componentsOf(node, digestOf, this.#code.get(node)!);
  }

  #inputDigest(node: GraphNode, record: NodeRecord): string {
    const known = this.#digests.get(record);
    if (known?.node === node) return known.digest;
    const digest = inputDigest(node, record);
    this.#digests.set(record, { node, digest });
    return digest;
  }

  /** Where a node stands whose inputs are all published. */
  async examine(
    node: GraphNode,
    inputs: ReadonlyMap<GraphNode, NodeRecord>,
  ): Promise<PlannedNode & { key: string; components: KeyComponents }> {
    const components = this.components(node, inputs);
    const key = nodeKey(components);
    const record = await this.#store.lookUp(key);
    if (record !== undefined) {
      const anew = measuredAnew(node, record, inputs);
      if (anew.length === 0) return { node, state: "cached", key, components, reasons: [], record };
      const reasons = anew.map((name) => `measured: ${name} was measured anew`);
      return { node, state: "stale", key, components, reasons, replaces: record };
    }
    return { node, key, components, ...await this.#explain(node, key, components) };
  }

  async #explain(
    node: GraphNode,
    key: string,
    components: KeyComponents,
  ): Promise<{ state: PlanState; reasons: string[]; replaces?: NodeRecord }> {
    const damaged = await this.#store.records.readNode(key);
    if (damaged !== undefined) {
      const damage = await this.#store.damage(damaged, { read: false });
      const what = damage === undefined ? "" : `${damage.sha256.slice(0, 12)} is ${damage.problem}`;
      return { state: "damaged", reasons: [`object ${what}`], replaces: damaged };
    }
    const unfinished = await statOrUndefined(this.#store.stateDir(key)) !== undefined
      ? [this.#store.held ? "is under way" : "goes on where an earlier attempt stopped"]
      : [];
    const previous = await this.previous(node.name);
    if (previous === undefined) return { state: "new", reasons: ["never ran", ...unfinished] };
    const reasons = explainDifference(previous.components, components);
    if (reasons.length === 0) reasons.push("its manifest is gone");
    return { state: "stale", reasons: [...reasons, ...unfinished] };
  }

  /** Returns the record that the node published last, whatever its key was then. */
  async previous(name: string): Promise<NodeRecord | undefined> {
    this.#latest ??= this.#readLatest();
    const key = (await this.#latest).get(name);
    return key === undefined ? undefined : await this.#store.records.readNode(key);
  }

  async #readLatest(): Promise<ReadonlyMap<string, string>> {
    const rows = await this.#store.catalogue.rows<{ node: string; key: string }>(`
      SELECT node, arg_max(key, made) AS key FROM (
        SELECT node, key, finished_at AS made FROM nodes
        UNION ALL
        SELECT r.node, r.key, runs.started_at AS made
        FROM run_nodes r JOIN runs USING (run) JOIN nodes n ON n.key = r.key
      ) GROUP BY node`);
    return new Map(rows.map((row) => [row.node, row.key]));
  }

  /** Judges a node whose inputs are not published yet: does it run whatever they publish? */
  async #await(
    node: GraphNode,
    missing: readonly GraphNode[],
    forced: boolean,
  ): Promise<PlannedNode> {
    const waits = `waits for ${missing.map((input) => input.name).join(", ")}`;
    if (forced) return { node, state: "forced", reasons: ["forced", waits] };
    const previous = await this.previous(node.name);
    if (previous === undefined) return { node, state: "new", reasons: ["never ran", waits] };
    const before = previous.components;
    const code = this.#code.get(node)!;
    const reasons = explainDifference(before, { ...before, params: node.params, code });
    return reasons.length > 0
      ? { node, state: "stale", reasons: [...reasons, waits] }
      : { node, state: "waiting", reasons: [waits] };
  }

  /** Where every node of a graph stands. */
  async plan(graph: Graph, force: ReadonlySet<GraphNode> = new Set()): Promise<PlannedNode[]> {
    const plan = new Map<GraphNode, PlannedNode>();
    for (const node of graph.nodes) {
      const missing = node.dependencies.filter((input) => plan.get(input)?.state !== "cached");
      if (missing.length > 0) {
        plan.set(node, await this.#await(node, missing, force.has(node)));
        continue;
      }
      const inputs = new Map(node.dependencies.map((input) => [input, plan.get(input)!.record!]));
      const planned = await this.examine(node, inputs);
      if (!force.has(node)) plan.set(node, planned);
      else {
        const { key, components } = planned;
        plan.set(node, { node, key, components, state: "forced", reasons: ["forced"] });
      }
    }
    return [...plan.values()];
  }
}

/** Digest of all that a reader sees of a node: name, labels, parameters, outputs and metrics, but nothing measured. */
export function inputDigest(
  node: Pick<GraphNode, "name" | "labels" | "params"> & { stage: { name: string } },
  record: NodeRecord,
): string {
  return digestJson({
    name: node.name,
    stage: node.stage.name,
    labels: node.labels as JsonValue,
    params: node.params,
    outputs: record.digest,
  });
}

/** Inputs whose measured values are not those that the record was made from. */
export function measuredAnew(
  node: GraphNode,
  record: NodeRecord,
  inputs: ReadonlyMap<GraphNode, NodeRecord>,
): string[] {
  if (!node.stage.readsMeasured) return [];
  return [...inputs]
    .filter(([input, now]) => (record.readings?.[input.name] ?? "") !== measuredDigest(now))
    .map(([input]) => input.name);
}
