/**
 * The seam between the scheduler, which decides when a node runs, and the place where it runs.
 *
 * @module
 */

import type { GraphNode } from "../graph/graph.ts";
import type { KeyComponents } from "../graph/key.ts";
import type { JsonValue } from "../stage.ts";
import type { NodeRecord } from "../store/records.ts";
import type { Store } from "../store/store.ts";
import type { Display } from "../terminal/progress.ts";

/** A node that is due: everything that it reads is published. */
export interface Job {
  readonly node: GraphNode;
  readonly key: string;
  readonly components: KeyComponents;
  /** Records of the nodes that it reads. */
  readonly inputs: ReadonlyMap<GraphNode, NodeRecord>;
  readonly store: Store;
  /** The project root. */
  readonly root: string;
  /** Name of the run. */
  readonly run: string;
  /** Shows progress. */
  readonly display: Display;
  /** Aborts on the first interrupt; the node may stop at a safe place. */
  readonly signal: AbortSignal;
  /** Goes into the provenance: host, versions. */
  readonly host: Readonly<Record<string, JsonValue>>;
}

/**
 * Runs a node's stage and publishes its outputs. If it throws, nothing is published and the node's state folder
 * stays for the next attempt.
 */
export type Executor = (job: Job) => Promise<NodeRecord>;
