/**
 * Server-sent events: what happens in runs, as it happens.
 *
 * The id of an event is how far the file of each run had been read, `812,0`. A page that lost its connection sends the
 * last one back (`Last-Event-ID`), and is told what it missed.
 *
 * @module
 */

import { statOrUndefined } from "../store/files.ts";
import type { Records } from "../store/records/records.ts";
import type { Curves } from "./curves.ts";
import { compact, eventsOfRecord, type Liveness, readEvents } from "./run_log.ts";

/** The sources of a stream. */
export interface StreamSources {
  readonly records: Records;
  readonly curves: Curves;
  readonly liveness: Liveness;
}

/** How a stream goes on. */
export interface StreamOptions {
  /** Runs, in the order of the id's numbers. */
  readonly runs: readonly string[];
  /** The id of the last event that the page has. */
  readonly last?: string;
  /** Ends the stream. */
  readonly signal: AbortSignal;
  /** Between two looks at the files, milliseconds. */
  readonly poll?: number;
}

const POLL_MILLISECONDS = 500;
/** A comment is sent so often, so that either side notices that the other is gone. */
const PING_MILLISECONDS = 15_000;

interface Followed {
  readonly run: string;
  position: number;
  /** Whether its record was sent in the place of events. */
  recorded: boolean;
  /** Its state, as it was sent last. */
  state: string;
  /** Keys of nodes that run, and the sizes of their metrics. */
  readonly running: Map<string, string>;
}

/** Positions of an id; nothing for one that no stream of these runs has sent. */
function positionsOf(last: string | undefined, count: number): number[] | undefined {
  if (last === undefined || !/^\d{1,15}(,\d{1,15})*$/.test(last)) return undefined;
  const positions = last.split(",").map(Number);
  return positions.length === count ? positions : undefined;
}

/** Makes the stream. It ends when all runs have ended, with the event `over`, after which a page comes no more. */
export async function* streamEvents(
  sources: StreamSources,
  options: StreamOptions,
): AsyncGenerator<string> {
  const { signal, poll = POLL_MILLISECONDS } = options;
  const given = positionsOf(options.last, options.runs.length);
  const followed = options.runs.map((run, i): Followed => ({
    run,
    position: given?.[i] ?? 0,
    recorded: false,
    state: "",
    running: new Map(),
  }));
  const id = () => followed.map(({ position }) => position).join(",");
  yield "retry: 1000\n\n";
  if (given === undefined) yield message({ event: "reset", data: {} });
  let pinged = performance.now();
  while (!signal.aborted) {
    for (const one of followed) {
      for await (const part of news(one, sources, id)) yield part;
    }
    if (followed.every(({ state }) => state !== "running")) {
      yield message({ event: "over", data: {}, id: id() });
      return;
    }
    if (performance.now() - pinged > PING_MILLISECONDS) {
      pinged = performance.now();
      yield ": still here\n\n";
    }
    await pause(poll, signal);
  }
}

/** News of one run. */
async function* news(
  one: Followed,
  { records, curves, liveness }: StreamSources,
  id: () => string,
): AsyncGenerator<string> {
  const { run } = one;
  // Before the events: those of a run that ends now are read once more.
  const record = await records.readRun(run);
  const state = record === undefined ? "gone" : await liveness.stateOf(record);
  let found = await readEvents(records.eventsPath(run), one.position);
  if (found === undefined && one.position > 0) {
    // Another file than the one that the page knows.
    one.position = 0;
    yield message({ event: "reset", data: { run } });
    found = await readEvents(records.eventsPath(run), 0);
  }
  const events = found === undefined
    ? one.recorded || record === undefined ? [] : await eventsOfRecord(record, records)
    : one.position === 0
    ? compact(found.events)
    : found.events;
  one.recorded = true;
  for (const { event, end } of events) {
    one.position = end;
    if (event.type === "node" && event.key !== undefined) {
      if (event.state === "running") one.running.set(event.key, "");
      else if (one.running.delete(event.key)) {
        yield message({ event: "metrics", data: { run, key: event.key } });
      }
    }
    yield message({ data: { run, ...event }, id: id() });
  }
  if (found !== undefined) one.position = found.position;
  for (const [key, before] of one.running) {
    const stat = await statOrUndefined(curves.statePath(key));
    const now = stat === undefined ? "" : `${stat.ino} ${stat.size}`;
    if (now === before) continue;
    one.running.set(key, now);
    yield message({ event: "metrics", data: { run, key } });
  }
  if (state !== one.state) {
    one.state = state;
    yield message({ event: "state", data: { run, state } });
  }
}

function message({ event, data, id }: { event?: string; data: unknown; id?: string }): string {
  const head = `${event === undefined ? "" : `event: ${event}\n`}${
    id === undefined ? "" : `id: ${id}\n`
  }`;
  return `${head}data: ${JSON.stringify(data)}\n\n`;
}

async function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, milliseconds);
  const end = () => resolve();
  signal.addEventListener("abort", end, { once: true });
  await promise;
  clearTimeout(timer);
  signal.removeEventListener("abort", end);
}
