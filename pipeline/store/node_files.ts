/**
 * The files of a store that a node needs while it runs: what both the store's owner and a job of its run work with.
 *
 * @module
 */

import { join } from "@std/path";
import type { Publication } from "./catalogue/catalogue.ts";
import { Claim, type ClaimOptions } from "./locks/claim.ts";
import { readTextOrUndefined, removeThrough } from "./files.ts";
import type { ObjectStore } from "./objects.ts";
import { readMetrics } from "./records/publication.ts";
import type { NodeRecord, Records } from "./records/records.ts";
import type { MetricRow } from "../stage.ts";

/** Objects, manifests and states of nodes, without the catalogue over them. */
export abstract class NodeFiles {
  /** The store's folder. */
  readonly dir: string;
  /** Files by content. */
  readonly objects: ObjectStore;
  /** Manifests. */
  readonly records: Records;

  /** Takes the parts of a store. */
  constructor(dir: string, parts: { objects: ObjectStore; records: Records }) {
    this.dir = dir;
    this.objects = parts.objects;
    this.records = parts.records;
  }

  /** Folder out of which all is published by a rename. */
  abstract readonly temporary: string;
  /** Folder for outputs that stages are writing. */
  abstract readonly outputs: string;

  /** Takes the claim on a node, once whoever has it is gone. Nothing of the node is written without. */
  async claim(key: string, options: ClaimOptions): Promise<AsyncDisposable> {
    return await Claim.take(this.dir, key, options);
  }

  /** Publishes a node: from here on it is finished. */
  abstract publish(publication: Publication): Promise<void>;

  /**
   * Takes in a node whose manifest another process has written: reads every byte of its objects. Returns nothing when
   * there is no manifest, or an object is not what it says.
   */
  abstract takeIn(key: string): Promise<NodeRecord | undefined>;

  /** Returns the folder where an unfinished node keeps its state. */
  stateDir(key: string): string {
    return join(this.dir, "state", key);
  }

  /** Removes the state of an unfinished node at once, so that a kill never leaves a part of it. */
  async discardState(key: string): Promise<void> {
    await removeThrough(this.temporary, this.stateDir(key));
  }

  /** Keys that have a state folder. */
  async stateKeys(): Promise<string[]> {
    try {
      return (await Array.fromAsync(Deno.readDir(join(this.dir, "state")), (e) => e.name)).sort();
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return [];
      throw error;
    }
  }

  /** Text of a state file, for a node that starts again. */
  async readState(key: string, name: string): Promise<string | undefined> {
    return await readTextOrUndefined(join(this.stateDir(key), name));
  }

  /** Metrics of a record, ordered by step then name. */
  async metrics(record: NodeRecord): Promise<MetricRow[]> {
    return await readMetrics(this.objects, record);
  }
}
