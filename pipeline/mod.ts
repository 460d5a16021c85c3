/**
 * The pipeline engine: stages, graphs, keys, a store with a catalogue, and the command line over them.
 *
 * It knows nothing of what the stages do. A program declares stages (`defineStage`), wires them to nodes in a function of
 * its configuration, and hands that to {@linkcode runCommandLine}.
 *
 * @module
 */

export type { Catalogue, Publication, QueryResult, SqlValue } from "./catalogue.ts";
export type { CodeClosure } from "./code.ts";
export * from "./command.ts";
export { runCommandLine } from "./command_line.ts";
export * from "./config.ts";
export { EXIT, explain, UserError } from "./errors.ts";
export { buildGraph, Graph, type GraphNode, type GraphResult, nodeName } from "./graph.ts";
export type { InputComponent, KeyComponents } from "./key.ts";
export type { ObjectOrigin, ObjectRef, ObjectStat, ObjectStore } from "./objects.ts";
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
} from "./records.ts";
export * from "./stage.ts";
export type { Damage, Store } from "./store.ts";
export { suggestion } from "./suggest.ts";
