/**
 * The remote store of a run: what a node would compute is fetched where somebody else has computed it.
 *
 * A remote never stops a run. One that can't be used is warned about once and asked no more; one that gives a damaged
 * node is named, and the node runs here.
 *
 * @module
 */

import { messageOf } from "../errors.ts";
import type { GraphNode } from "../graph/graph.ts";
import type { Remote } from "../remote/remote.ts";
import { RemoteError } from "../remote/error.ts";
import { formatBytes } from "../store/files.ts";
import { type NodeRecord, objectsOf } from "../store/records/records.ts";
import type { Store } from "../store/store.ts";
import { type Display, formatSeconds } from "../terminal/progress.ts";
import { measuredAnew } from "./plan.ts";

/** A node to ask for, and whom it is for. */
export interface RemoteQuestion {
  readonly node: GraphNode;
  readonly key: string;
  /** Records of the nodes that it reads. */
  readonly inputs: ReadonlyMap<GraphNode, NodeRecord>;
  readonly store: Store;
  readonly display: Display;
  readonly signal: AbortSignal;
  /** Name of the run. */
  readonly run: string;
}

/** Asks a remote store for nodes as long as it can be used. */
export class RemoteSource {
  readonly #remote: Remote;
  #usable = true;

  constructor(remote: Remote) {
    this.#remote = remote;
  }

  /** The remote's name, without credentials. */
  get name(): string {
    return this.#remote.name;
  }

  /** Whether it is worth asking. */
  get usable(): boolean {
    return this.#usable;
  }

  /**
   * Fetches a node and publishes it in the store. Returns nothing when the remote doesn't have it, or can't be used.
   * Throws only what is wrong with this machine, such as a full disk, and the reason of an abort.
   */
  async fetch(question: RemoteQuestion): Promise<NodeRecord | undefined> {
    const { node, key, inputs, store, display, signal, run } = question;
    if (!this.#usable) return undefined;
    const start = performance.now();
    try {
      const found = await this.#remote.manifest(key, signal);
      // It shows what was measured elsewhere; ours differs, so it is to be made anew.
      if (found === undefined || measuredAnew(node, found, inputs).length > 0) return undefined;
      const bytes = objectsOf(found).reduce((sum, { size }) => sum + size, 0);
      const { record } = await this.#remote.pull(found, { store, signal, display }, run);
      const seconds = formatSeconds((performance.now() - start) / 1000);
      display.line(`${node.name}: from ${this.name}, ${formatBytes(bytes)} in ${seconds}`);
      return record;
    } catch (error) {
      if (!(error instanceof RemoteError)) throw error;
      if (error.fault === "damaged") {
        display.line(`${node.name}: warning: ${messageOf(error)}; the node runs here`);
      } else if (this.#usable) {
        this.#usable = false;
        display.line(`warning: ${messageOf(error)}; the run goes on without the remote store`);
      }
      return undefined;
    }
  }
}
