/**
 * Follows the metrics of nodes into event files, while they run and when they are published.
 *
 * Event files are derived: they are no output of a node and part of no digest, since every event has the time of a clock.
 *
 * @module
 */

import { join } from "@std/path";
import { Claim } from "../store/locks/claim.ts";
import { statOrUndefined } from "../store/files.ts";
import { readStateRows } from "../store/series/metrics.ts";
import type { NodeRecord } from "../store/records/records.ts";
import type { Store } from "../store/store.ts";
import { EventLog } from "./event_log.ts";

/** Milliseconds between two looks. */
const PAUSE = 1000;
/** Metrics file in a state folder. */
const METRICS = "metrics.csv";

/** A node that is followed. */
interface Followed {
  readonly log: EventLog;
  /** Bytes of the metrics file that are in the log, and its inode. */
  read: number;
  inode: number | null;
  /** Whether all of the published rows are in the log. */
  whole: boolean;
}

/** The folder of a node's events: its name, without what a path can't hold. */
export function eventFolder(out: string, node: string): string {
  return join(out, node.replace(/[/\\:]/g, "_"));
}

/** Writes event files of a store's nodes under a folder, one folder a node. */
export class MetricsFollower {
  readonly #store: Pick<Store, "dir" | "stateKeys" | "stateDir" | "metrics">;
  readonly #out: string;
  readonly #nodes = new Map<string, Followed>();

  constructor(
    store: Pick<Store, "dir" | "stateKeys" | "stateDir" | "metrics">,
    options: { readonly out: string },
  ) {
    this.#store = store;
    this.#out = options.out;
  }

  /** Takes over what running nodes have written since the last look. */
  async look(): Promise<void> {
    for (const key of await this.#store.stateKeys()) {
      try {
        await this.#lookAt(key);
      } catch (error) {
        // The node was published meanwhile, and its state removed.
        if (!(error instanceof Deno.errors.NotFound)) throw error;
      }
    }
  }

  async #lookAt(key: string): Promise<void> {
    const path = join(this.#store.stateDir(key), METRICS);
    const stat = await statOrUndefined(path);
    if (stat === undefined) return;
    const known = this.#nodes.get(key);
    if (known?.inode === stat.ino && known.read === stat.size) return;
    const claimant = await Claim.holder(this.#store.dir, key);
    // Nobody runs a node whose state an earlier run left.
    if (known === undefined && claimant === undefined) return;
    const followed = known ?? this.#follow(claimant!.node, key);
    if (followed.inode !== stat.ino || stat.size < followed.read) {
      // A resumed node has forgotten rows; so must who reads them.
      followed.log.restart();
      followed.read = 0;
      followed.inode = stat.ino;
    }
    const { rows, bytes } = await readStateRows(path, followed.read);
    followed.read += bytes;
    const now = Date.now() / 1000;
    await followed.log.append(rows, () => now);
  }

  /** Writes the whole of a published node, unless its rows are there. Times go evenly from its beginning to its end. */
  async publish(record: NodeRecord): Promise<boolean> {
    const rows = await this.#store.metrics(record);
    if (rows.length === 0) return false;
    const followed = this.#nodes.get(record.key) ?? this.#follow(record.node, record.key);
    if (followed.whole) return true;
    followed.whole = true;
    followed.log.restart();
    const [from, to] = [record.provenance.started_at, record.provenance.finished_at]
      .map((time) => Date.parse(time) / 1000) as [number, number];
    const last = rows.reduce((most, { step }) => Math.max(most, step), 1);
    await followed.log.append(rows, (step) => from + (to - from) * step / last);
    return true;
  }

  #follow(node: string, key: string): Followed {
    const log = new EventLog(eventFolder(this.#out, node), key);
    const followed = { log, read: 0, inode: null, whole: false };
    this.#nodes.set(key, followed);
    return followed;
  }
}

/** Looks again and again until it is stopped. */
export class Watch implements AsyncDisposable {
  readonly #stop = new AbortController();
  readonly #done: Promise<void>;

  /** @param failed Told why the watch ended by itself, such as a full disk. */
  constructor(follower: Pick<MetricsFollower, "look">, failed: (error: unknown) => void) {
    this.#done = this.#run(follower).catch(failed);
  }

  async #run(follower: Pick<MetricsFollower, "look">): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      await follower.look();
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, PAUSE);
        signal.addEventListener("abort", () => {
          clearTimeout(timer);
          resolve();
        }, { once: true });
      });
    }
  }

  /** Resolves when the last look is over. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#done;
  }
}
