/**
 * The pipeline engine: stages, graphs, keys, a store with a catalogue, and the command line over them.
 *
 * It knows nothing of what the stages do. A program declares stages (`defineStage`), wires them to nodes in a function of
 * its configuration, and hands that to {@linkcode runCommandLine}.
 *
 * @module
 */

export type { Catalogue, Publication, QueryResult, SqlValue } from "./store/catalogue.ts";
export type { CodeClosure } from "./graph/code.ts";
export * from "./command.ts";
export { runCommandLine } from "./command_line.ts";
export * from "./config/config.ts";
export { EXIT, explain, UserError } from "./errors.ts";
export { buildGraph, Graph, type GraphNode, type GraphResult, nodeName } from "./graph/graph.ts";
export type { InputComponent, KeyComponents } from "./graph/key.ts";
export type { ObjectOrigin, ObjectRef, ObjectStat, ObjectStore } from "./store/objects.ts";
export type {
  MetricsRef,
  NodeRecord,
  NodeState,
  PublishedOutput,
  Records,
  RunNode,
  RunRecord,
  RunState,
  TreeEntry,
} from "./store/records.ts";
export * from "./stage.ts";
export type { Damage, Store } from "./store/store.ts";
export { suggestion } from "./terminal/suggest.ts";
