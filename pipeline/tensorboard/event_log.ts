/**
 * The event file of one node: rows of metrics in, events out.
 *
 * @module
 */

import { join } from "@std/path";
import type { MetricRow } from "../stage.ts";
import { encodeEvent, FILE_VERSION, type Histogram, type TensorboardEvent } from "./event.ts";
import { frameRecord } from "./record.ts";

/** Files of this form are the log's own, and older ones are removed. */
const OWN = /^events\.out\.tfevents\.\d{10}\.[0-9a-f]{12}\.\d+$/;

/** A metric that is one bucket of a histogram: `expert_use.layer3.le_0.5`. */
const BUCKET = /^(.+)\.le_(\d+(?:\.\d+)?|inf)$/;

/** Whether a metric is one bucket of a histogram. */
export function isBucket(name: string): boolean {
  return BUCKET.test(name);
}

/** How rows get their time. */
export type WallTime = (step: number) => number;

/** Events of rows: one for each step, in the order of steps. */
export function* eventsOf(rows: readonly MetricRow[], time: WallTime): Generator<TensorboardEvent> {
  const steps = Map.groupBy(rows, ({ step }) => step);
  for (const [step, values] of [...steps].sort(([a], [b]) => a - b)) {
    const scalars: Record<string, number> = {};
    const buckets = new Map<string, Map<number, number>>();
    for (const { name, value } of values) {
      // A gap says that a number was not finite.
      if (value === null) continue;
      const [, tag, edge] = BUCKET.exec(name) ?? [];
      if (tag === undefined) scalars[name] = value;
      else {
        const counts = buckets.get(tag) ?? new Map();
        buckets.set(tag, counts.set(edge === "inf" ? Infinity : Number(edge), value));
      }
    }
    const histograms = Object.fromEntries([...buckets].map(([tag, counts]) => {
      const edges = [...counts.keys()].sort((a, b) => a - b);
      const histogram: Histogram = { edges, counts: edges.map((edge) => counts.get(edge)!) };
      return [tag, histogram] as const;
    }));
    yield { wall_time: time(step), step, scalars, histograms };
  }
}

/** An event file that is appended to. */
export class EventLog {
  readonly #folder: string;
  readonly #key: string;
  #path: string | undefined;
  #number = 0;

  /**
   * A log in `folder`, which holds the events of one node.
   *
   * @param key Names the node's version in the name of the file.
   */
  constructor(folder: string, key: string) {
    this.#folder = folder;
    this.#key = key.slice(0, 12);
  }

  /** Forgets what was written: the next rows begin a new file, which says that earlier events are void, in the place of the old ones. */
  restart(): void {
    this.#path = undefined;
  }

  /** Writes rows behind those that are there. */
  async append(rows: readonly MetricRow[], time: WallTime): Promise<void> {
    const events = [...eventsOf(rows, time)];
    if (events.length === 0) return;
    if (this.#path === undefined) events.unshift(...await this.#begin(events[0]!.wall_time));
    const records = events.map((event) => frameRecord(encodeEvent(event)));
    const bytes = new Uint8Array(records.reduce((sum, { length }) => sum + length, 0));
    let at = 0;
    for (const record of records) {
      bytes.set(record, at);
      at += record.length;
    }
    await Deno.writeFile(this.#path!, bytes, { append: true });
  }

  async #begin(wall_time: number): Promise<TensorboardEvent[]> {
    await Deno.mkdir(this.#folder, { recursive: true });
    for await (const { name } of Deno.readDir(this.#folder)) {
      if (!OWN.test(name)) continue;
      // A later file has a later name, by which TensorBoard finds it.
      this.#number = Math.max(this.#number, Number(name.split(".").at(-1)) + 1);
      await Deno.remove(join(this.#folder, name));
    }
    const seconds = String(Math.floor(wall_time)).padStart(10, "0");
    const name = `events.out.tfevents.${seconds}.${this.#key}.${this.#number}`;
    this.#path = join(this.#folder, name);
    return [{ wall_time, file_version: FILE_VERSION }, { wall_time, start: true }];
  }
}
