/**
 * The seam between the scheduler, which decides when a node runs, and the place where it runs.
 *
 * @module
 */

import type { GraphNode } from "../graph/graph.ts";
import type { KeyComponents } from "../graph/key.ts";
import type { JsonValue } from "../stage.ts";
import type { NodeFiles } from "../store/node_files.ts";
import type { NodeRecord, PublicationId } from "../store/records/records.ts";
import type { Display } from "../terminal/progress.ts";

/** A node that is due: everything that it reads is published. */
export interface Job {
  readonly node: GraphNode;
  readonly key: string;
  readonly components: KeyComponents;
  /** Records of the nodes that it reads. */
  readonly inputs: ReadonlyMap<GraphNode, NodeRecord>;
  /** The publication that this one replaces: the node is forced, its objects are damaged, or it was measured anew. */
  readonly replaces?: PublicationId;
  /** Whether it starts from an empty state folder. */
  readonly fresh: boolean;
  readonly store: NodeFiles;
  /** The project root. */
  readonly root: string;
  /** Name of the run. */
  readonly run: string;
  /** Shows progress. */
  readonly display: Display;
  /** Aborts on the first interrupt; the node may stop at a safe place. */
  readonly signal: AbortSignal;
  /** Whether an error comes with its trace. */
  readonly debug: boolean;
  /** Goes into the provenance: host, versions. */
  readonly host: Readonly<Record<string, JsonValue>>;
}

/** The facts of a run that its executor gets before the first job. */
export interface RunStart {
  /** Name of the run. */
  readonly run: string;
  /** The project root. */
  readonly root: string;
  /** The resolved configuration. */
  readonly configuration: JsonValue;
  /** Goes into the provenance of each node. */
  readonly host: Readonly<Record<string, JsonValue>>;
}

/** Where nodes run. */
export interface Executor {
  /** How many `gpu` nodes it runs at a time; a function is asked once, when the first is due. */
  readonly gpus: number | (() => Promise<number>);
  /** How many `cpu` nodes it runs at a time; unless given, the scheduler's `jobs` says so. */
  readonly cpus?: number;
  /** Called once, before the first job. */
  prepare?(start: RunStart): Promise<void>;
  /**
   * Runs a node's stage and publishes its outputs. If it throws, nothing is published and the node's state folder
   * stays for the next attempt.
   *
   * Whoever runs the stage holds the node's claim. A node that somebody else has published since the scheduler looked
   * is not run.
   */
  run(job: Job): Promise<NodeRecord>;
  /** Ends every job at once. */
  end?(): void;
}

/** Thrown in the place of a record: the node is with a batch system, and nobody waits for it here. */
export class SubmittedError extends Error {
  override readonly name = "SubmittedError";
}

/** A place for one `gpu` node at a time. */
export interface Worker {
  /** Names the device in lines for the user; empty where there is nothing to tell. */
  readonly name: string;
  /** Words before the command of a job. */
  readonly prefix: readonly string[];
  /** Further environment variables of a job. */
  readonly env: Readonly<Record<string, string>>;
}

/** How a program is started again, to run one node. */
export interface JobProgram {
  /** Path of its main module. */
  readonly main: string;
  /** Deno's flags: permissions. */
  readonly flags: readonly string[];
}
