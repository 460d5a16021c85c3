/**
 * The events of a run as the dashboard sends them: from the run's file, or made of its record where it has none.
 *
 * @module
 */

import { decodeRunEvent, type TimedEvent } from "../executors/run_events.ts";
import { HeldError, StoreLock } from "../store/locks/lock.ts";
import type { Records, RunRecord } from "../store/records/records.ts";

/** An event, and how far its file had been read behind it, bytes. */
export interface PlacedEvent {
  readonly event: TimedEvent;
  readonly end: number;
}

/** Lines for the user that a page begins with. */
const LINES = 200;
/** A file is read in pieces of this many bytes. */
const PIECE = 1 << 22;
const NEWLINE = 10;

/**
 * Reads the whole lines from a position on.
 *
 * @returns The events and the position to go on from; nothing when the file is not there or shorter than that.
 */
export async function readEvents(
  path: string,
  from: number,
): Promise<{ events: PlacedEvent[]; position: number } | undefined> {
  let file: Deno.FsFile;
  try {
    file = await Deno.open(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
  using _ = file;
  const { size } = await file.stat();
  if (size < from) return undefined;
  await file.seek(from, Deno.SeekMode.Start);
  const events: PlacedEvent[] = [];
  const decoder = new TextDecoder();
  let position = from;
  let rest = new Uint8Array(0);
  for (let left = size - from; left > 0;) {
    const piece = new Uint8Array(rest.length + Math.min(PIECE, left));
    piece.set(rest);
    const n = await file.read(piece.subarray(rest.length));
    if (n === null) break;
    left -= n;
    const bytes = piece.subarray(0, rest.length + n);
    let start = 0;
    for (let end; (end = bytes.indexOf(NEWLINE, start)) >= 0; start = end + 1) {
      const event = decodeRunEvent(decoder.decode(bytes.subarray(start, end)));
      position += end + 1 - start;
      if (event !== undefined) events.push({ event, end: position });
    }
    rest = bytes.slice(start);
  }
  return { events, position };
}

/** Leaves out what later events make superfluous: earlier counts of a bar, bars that are gone, lines long past, earlier samples. */
export function compact(events: readonly PlacedEvent[]): PlacedEvent[] {
  const gone = new Set<number>();
  const counted = new Set<number>();
  const written = new Set<string>();
  let lines = 0;
  return events.toReversed().filter(({ event }) => {
    switch (event.type) {
      case "line":
        return ++lines <= LINES;
      case "stop":
        gone.add(event.id);
        return false;
      case "bar":
        return !gone.has(event.id);
      case "progress": {
        const late = gone.has(event.id) || counted.has(event.id);
        counted.add(event.id);
        return !late;
      }
      case "sample": {
        // Texts are in files; the last event of a node says that there are some.
        const late = written.has(event.node);
        written.add(event.node);
        return !late;
      }
      default:
        return true;
    }
  }).reverse();
}

/** Events that say what a run's record does; all of them have the same place. */
export async function eventsOfRecord(run: RunRecord, records: Records): Promise<PlacedEvent[]> {
  const nodes = await Promise.all(run.nodes.map(async ({ node, stage, key }) => {
    const record = key === undefined ? undefined : await records.readNode(key);
    const inputs = Object.values(record?.components.inputs ?? {}).flat().map((input) => input.node);
    return {
      node,
      stage,
      resource: record?.resource ?? "cpu" as const,
      inputs: [...new Set(inputs)],
      params: record?.components.params ?? null,
      labels: record?.labels ?? {},
    };
  }));
  const at = Date.parse(run.finished_at ?? run.started_at);
  const events: TimedEvent[] = [{
    at: Date.parse(run.started_at),
    type: "graph",
    run: run.run,
    command: run.command,
    config_path: run.config_path,
    nodes,
  }];
  for (const { stage: _, ...node } of run.nodes) events.push({ at, type: "node", ...node });
  if (run.state !== "running") {
    events.push({ at, type: "finish", state: run.state, results: [], files: [], problems: [] });
  }
  return events.map((event) => ({ event, end: 0 }));
}

/** For so long it is believed who has the store. */
const HELD_MILLISECONDS = 3000;

/** Tells runs that are under way from those whose process is gone. */
export class Liveness {
  readonly #lock: string;
  #held: { readonly at: number; readonly answer: Promise<boolean> } | undefined;

  /** `lock` is the path of the store's lock. */
  constructor(lock: string) {
    this.#lock = lock;
  }

  /** The state of a run: `killed` when it says that it runs and nobody has the store. */
  async stateOf(run: RunRecord): Promise<RunRecord["state"]> {
    if (run.state !== "running") return run.state;
    const now = performance.now();
    if (this.#held === undefined || now - this.#held.at > HELD_MILLISECONDS) {
      this.#held = { at: now, answer: this.#ask() };
    }
    return await this.#held.answer ? "running" : "killed";
  }

  async #ask(): Promise<boolean> {
    try {
      await (await StoreLock.share(this.#lock))?.[Symbol.asyncDispose]();
      return false;
    } catch (error) {
      return error instanceof HeldError;
    }
  }
}
