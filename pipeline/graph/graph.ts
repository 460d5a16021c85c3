/**
 * From the nodes that an experiment wires together to a checked graph in topological order.
 *
 * @module
 */

import { UserError } from "../errors.ts";
import { canonicalJson, toJson } from "./key.ts";
import type { JsonValue, NodeSpec, ResultSpec, Stage } from "../stage.ts";
import { suggestion } from "../terminal/suggest.ts";

/** A checked node. */
export interface GraphNode {
  /** `stage` or `stage[label]`. */
  readonly name: string;
  /** Its stage. */
  // deno-lint-ignore no-explicit-any -- nodes of different stages share one list
  readonly stage: Stage<any>;
  /** Labels for readers. */
  readonly labels: Readonly<Record<string, JsonValue>>;
  /** The parameters that the stage's schema kept, as plain JSON; part of the key. */
  readonly params: JsonValue;
  /** The value that the stage's schema returned; the stage gets it. */
  readonly parsed: unknown;
  /** The nodes that it reads, by the names that the experiment gave. */
  readonly inputs: Readonly<Record<string, readonly GraphNode[]>>;
  /** Inputs without their names, each once. */
  readonly dependencies: readonly GraphNode[];
}

/** A result to copy, checked. */
export interface GraphResult {
  /** The node. */
  readonly node: GraphNode;
  /** Name of its output. */
  readonly output: string;
  /** Folder, relative to the project root. */
  readonly to: string;
}

/** A directed acyclic graph of nodes. */
export class Graph {
  /** All nodes, each after what it depends on. */
  readonly nodes: readonly GraphNode[];
  /** Outputs that are copied for people to look at. */
  readonly results: readonly GraphResult[];
  readonly #byName: ReadonlyMap<string, GraphNode>;
  #dependents: Map<GraphNode, GraphNode[]> | undefined;

  /** Takes checked nodes in topological order; see {@linkcode buildGraph}. */
  constructor(nodes: readonly GraphNode[], results: readonly GraphResult[] = []) {
    this.nodes = nodes;
    this.results = results;
    this.#byName = new Map(nodes.map((node) => [node.name, node]));
  }

  /** Returns the node of that name; an unknown name is an error with a suggestion. */
  get(name: string): GraphNode {
    const node = this.#byName.get(name);
    if (node === undefined) {
      throw new UserError(
        `No node is named \`${name}\`.${suggestion(name, [...this.#byName.keys()])}`,
      );
    }
    return node;
  }

  /** Returns the node of that name, if any. */
  find(name: string): GraphNode | undefined {
    return this.#byName.get(name);
  }

  /** Returns the nodes of a stage or the node of that name; an unknown name is an error with a suggestion. */
  select(stageOrNode: string): readonly GraphNode[] {
    const node = this.#byName.get(stageOrNode);
    if (node !== undefined) return [node];
    const found = this.nodes.filter((node) => node.stage.name === stageOrNode);
    if (found.length > 0) return found;
    const known = new Set(this.nodes.flatMap((node) => [node.stage.name, node.name]));
    const stages = [...new Set(this.nodes.map((node) => node.stage.name))].join(", ");
    throw new UserError(
      `No stage or node is named \`${stageOrNode}\`.${suggestion(stageOrNode, [...known])} ` +
        `The stages are ${stages}.`,
    );
  }

  /** The nodes and everything that they depend on, as a graph. */
  restrict(targets: Iterable<GraphNode>): Graph {
    const keep = new Set<GraphNode>();
    const queue = [...targets];
    for (let node = queue.pop(); node !== undefined; node = queue.pop()) {
      if (keep.has(node)) continue;
      keep.add(node);
      queue.push(...node.dependencies);
    }
    return new Graph(
      this.nodes.filter((node) => keep.has(node)),
      this.results.filter((result) => keep.has(result.node)),
    );
  }

  /** Nodes that read the node. */
  dependents(node: GraphNode): readonly GraphNode[] {
    if (this.#dependents === undefined) {
      this.#dependents = new Map();
      for (const reader of this.nodes) {
        for (const dependency of reader.dependencies) {
          const list = this.#dependents.get(dependency);
          if (list === undefined) this.#dependents.set(dependency, [reader]);
          else list.push(reader);
        }
      }
    }
    return this.#dependents.get(node) ?? [];
  }
}

const STAGE_NAME = /^[a-z][a-z0-9_-]*$/;
const LABEL = /^[^\[\]\n\r\t,"][^\[\]\n\r\t"]*$/;

/** `stage` or `stage[label]`. */
function nodeName(spec: NodeSpec): string {
  return spec.label ? `${spec.stage.name}[${spec.label}]` : spec.stage.name;
}

/**
 * Checks the target nodes of an experiment and all nodes that they read. Sorts them topologically; the experiment's
 * order decides between nodes that are free.
 *
 * @throws UserError on two nodes of one name, a cycle, parameters that the stage refuses, or a result that names an
 * output that its stage doesn't have.
 */
export function buildGraph(
  targets: readonly NodeSpec[],
  results: readonly ResultSpec[] = [],
): Graph {
  const done = new Map<NodeSpec, GraphNode>();
  const open = new Set<NodeSpec>();
  const names = new Map<string, NodeSpec>();
  const nodes: GraphNode[] = [];
  // The nodes that are being visited, each read by the one before. A list and no recursion: a chain may be long.
  const path: { spec: NodeSpec; name: string; rest: NodeSpec[] }[] = [];

  const enter = (spec: NodeSpec) => {
    const name = nodeName(spec);
    if (open.has(spec)) {
      const cycle = [...path.slice(path.findIndex((step) => step.spec === spec)), { name }];
      throw new UserError(
        `The nodes form a cycle: ${cycle.map((step) => step.name).join(" → ")}.`,
      );
    }
    checkNames(spec, name);
    const other = names.get(name);
    if (other !== undefined && other !== spec) {
      throw new UserError(
        `Two nodes are named \`${name}\`; give them labels that tell them apart.`,
      );
    }
    names.set(name, spec);
    open.add(spec);
    path.push({ spec, name, rest: Object.values(spec.inputs ?? {}).flat().reverse() });
  };

  const leave = (spec: NodeSpec, name: string) => {
    open.delete(spec);
    const inputs = Object.fromEntries(
      Object.entries(spec.inputs ?? {}).map((
        [input, list],
      ) => [input, list.map((item) => done.get(item)!)]),
    );
    const node: GraphNode = {
      name,
      stage: spec.stage,
      labels: toJson(spec.labels ?? {}, `labels of ${name}`) as Record<string, JsonValue>,
      ...parseParams(spec, name),
      inputs,
      dependencies: [...new Set(Object.values(inputs).flat())],
    };
    done.set(spec, node);
    nodes.push(node);
  };

  for (const target of [...targets, ...results.map((result) => result.node)]) {
    if (!done.has(target)) enter(target);
    for (let step = path.at(-1); step !== undefined; step = path.at(-1)) {
      const next = step.rest.pop();
      if (next === undefined) {
        path.pop();
        leave(step.spec, step.name);
      } else if (!done.has(next)) enter(next);
    }
  }
  return new Graph(nodes, results.map((result) => checkResult(result, done.get(result.node)!)));
}

function checkNames(spec: NodeSpec, name: string): void {
  if (!STAGE_NAME.test(spec.stage.name)) {
    throw new UserError(
      `The stage's name \`${spec.stage.name}\` is not lower-case letters, digits, "-" and "_".`,
    );
  }
  if (spec.label && !LABEL.test(spec.label)) {
    throw new UserError(`The label of \`${name}\` holds brackets, quotes or line breaks.`);
  }
}

function parseParams(spec: NodeSpec, name: string): { params: JsonValue; parsed: unknown } {
  const result = spec.stage.params.safeParse(spec.params);
  if (!result.success) {
    const issues = result.error.issues.map((issue) => {
      const path = ["params", ...issue.path.map(String)].join(".");
      return `  ${path}: ${issue.message}`;
    });
    throw new UserError(`Parameters of node \`${name}\` are not valid:\n${issues.join("\n")}`);
  }
  const params = toJson(result.data, `params of ${name}`);
  canonicalJson(params);
  return { params, parsed: result.data };
}

function checkResult(result: ResultSpec, node: GraphNode): GraphResult {
  const kind = node.stage.outputs[result.output];
  if (kind === undefined) {
    const known = Object.keys(node.stage.outputs);
    throw new UserError(
      `Node \`${node.name}\` has no output \`${result.output}\`.` +
        `${suggestion(result.output, known)} It has ${known.join(", ") || "none"}.`,
    );
  }
  if (kind === "json" || kind === "measured") {
    throw new UserError(
      `Output \`${result.output}\` of \`${node.name}\` is JSON; only a file or a directory can be a result.`,
    );
  }
  return { node, output: result.output, to: result.to };
}
