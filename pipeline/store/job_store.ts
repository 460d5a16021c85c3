/**
 * A store as a job sees it: it reads manifests and objects, and publishes its node by writing a manifest. The catalogue
 * is the coordinator's.
 *
 * @module
 */

import { join } from "@std/path";
import type { Publication } from "./catalogue/catalogue.ts";
import type { ClaimOptions } from "./locks/claim.ts";
import { remove } from "./files.ts";
import { NodeFiles } from "./node_files.ts";
import { ObjectStore } from "./objects.ts";
import { type NodeRecord, objectsOf, Records } from "./records/records.ts";

/** The files of a store for the job of one node. */
export class JobStore extends NodeFiles {
  override readonly temporary: string;
  override readonly outputs: string;

  /** `dir` is the store, `key` that of the job's node. */
  constructor(dir: string, key: string) {
    const temporary = join(dir, "tmp", `job-${key}-${crypto.randomUUID()}`);
    super(dir, {
      objects: new ObjectStore(join(dir, "objects"), temporary),
      records: new Records(dir, temporary),
    });
    this.temporary = temporary;
    this.outputs = temporary;
  }

  override async claim(key: string, options: ClaimOptions): Promise<AsyncDisposable> {
    const claim = await super.claim(key, options);
    // Only now: the folder of a job without a claim is a leftover to whoever opens the store.
    await Deno.mkdir(this.temporary, { recursive: true });
    return {
      [Symbol.asyncDispose]: async () => {
        await remove(this.temporary);
        await claim[Symbol.asyncDispose]();
      },
    };
  }

  /** Writes the manifest; the coordinator enters it into the catalogue. */
  override async publish(publication: Publication): Promise<void> {
    await this.records.writeNode(publication.record);
  }

  override async takeIn(key: string): Promise<NodeRecord | undefined> {
    const record = await this.records.readNode(key);
    if (record === undefined) return undefined;
    for (const object of objectsOf(record)) {
      if (!await this.objects.verify(object)) return undefined;
    }
    return record;
  }
}
