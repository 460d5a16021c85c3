/**
 * Fetches nodes of a graph from a remote store without running any.
 *
 * A key holds digests of what the inputs published, so the walk reads the manifests of all that a wanted node reads; it
 * fetches objects of wanted nodes alone.
 *
 * @module
 */

import type { Graph, GraphNode } from "../graph/graph.ts";
import { nodeKey } from "../graph/key.ts";
import { RemoteError } from "../remote/error.ts";
import type { NodeTransfer, Remote } from "../remote/remote.ts";
import type { NodeRecord } from "../store/records/records.ts";
import { measuredAnew, Planner, readNodeCode } from "./plan.ts";

/** Fetches nodes and counts them. */
export class Puller {
  readonly #remote: Remote;
  readonly #to: NodeTransfer;
  /** Nodes that were fetched. */
  readonly pulled: { node: string; key: string; bytes: number }[] = [];
  /** Names of nodes that the remote lacks, or whose key can't be known as it lacks what they read. */
  readonly missing: string[] = [];
  /** Nodes of which the remote holds damaged bytes. */
  readonly failed: { node: string; error: string }[] = [];
  /** How many wanted nodes the store had. */
  here = 0;

  constructor(remote: Remote, to: NodeTransfer) {
    this.#remote = remote;
    this.#to = to;
  }

  /** Fetches the node of a key, whatever the configuration. */
  async pullKey(key: string): Promise<void> {
    const { store, signal } = this.#to;
    if (await store.lookUp(key) !== undefined) {
      this.here++;
      return;
    }
    await this.#try(key, async () => {
      const record = await this.#remote.manifest(key, signal);
      if (record === undefined) this.missing.push(key);
      else await this.#pull(record);
    });
  }

  /**
   * Fetches wanted nodes of a graph.
   *
   * @param root The project root.
   */
  async pullGraph(graph: Graph, wanted: ReadonlySet<GraphNode>, root: string): Promise<void> {
    const { store, signal } = this.#to;
    const planner = new Planner(store, await readNodeCode(graph, root));
    const records = new Map<GraphNode, NodeRecord>();
    for (const node of graph.nodes) {
      const inputs = new Map(
        node.dependencies.flatMap((input) => {
          const record = records.get(input);
          return record === undefined ? [] : [[input, record] as const];
        }),
      );
      if (inputs.size < node.dependencies.length) {
        if (wanted.has(node)) this.missing.push(node.name);
        continue;
      }
      const key = nodeKey(planner.components(node, inputs));
      const local = await store.lookUp(key);
      if (local !== undefined && measuredAnew(node, local, inputs).length === 0) {
        records.set(node, local);
        if (wanted.has(node)) this.here++;
        continue;
      }
      await this.#try(node.name, async () => {
        const found = await this.#remote.manifest(key, signal);
        if (found === undefined || measuredAnew(node, found, inputs).length > 0) {
          if (wanted.has(node)) this.missing.push(node.name);
        } else records.set(node, wanted.has(node) ? await this.#pull(found) : found);
      });
    }
    await store.flush();
  }

  async #pull(found: NodeRecord): Promise<NodeRecord> {
    const { record, bytes } = await this.#remote.pull(found, this.#to);
    await this.#to.store.flushSome();
    this.pulled.push({ node: record.node, key: record.key, bytes });
    return record;
  }

  /** Damage is one node's; a remote that can't be used is everybody's. */
  async #try(node: string, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (!(error instanceof RemoteError) || error.fault !== "damaged") throw error;
      this.failed.push({ node, error: `${node}: ${error.message}` });
    }
  }
}
