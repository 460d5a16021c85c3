/**
 * The events of a run, one JSON value a line in `runs/<run>.jsonl` of the store. The terminal and the dashboard are
 * told the same: a run's {@linkcode Display} sends events, and those that a terminal can draw are played on it.
 *
 * Numbers of a curve are not among them: they are in the metrics of a node's state folder, and then in its record.
 *
 * @module
 */

import { z } from "zod";
import type { JsonValue } from "../stage.ts";
import type { Display } from "../terminal/progress.ts";
import { displayEvents, EventDisplay, EventPlayer } from "./events.ts";

const json = z.json() as z.ZodType<JsonValue>;

const nodeEvent = z.strictObject({
  type: z.literal("node"),
  node: z.string(),
  state: z.enum([
    "running",
    "cached",
    "done",
    "failed",
    "blocked",
    "interrupted",
    "submitted",
    "waiting",
  ]),
  key: z.string().optional(),
  reason: z.string().optional(),
  seconds: z.number().optional(),
  error: z.string().optional(),
});

const eventSchema = z.discriminatedUnion("type", [
  ...displayEvents,
  /** The first event of a run: its nodes, before the nodes that read them. */
  z.strictObject({
    type: z.literal("graph"),
    run: z.string(),
    command: z.string(),
    config_path: z.string(),
    nodes: z.array(z.strictObject({
      node: z.string(),
      stage: z.string(),
      resource: z.enum(["cpu", "gpu"]),
      /** Names of the nodes that it reads. */
      inputs: z.array(z.string()),
      params: json,
      labels: z.record(z.string(), json),
    })),
  }),
  /** A node runs or has come to its end. */
  nodeEvent,
  /** The last event of a run that came to its end by itself. */
  z.strictObject({
    type: z.literal("finish"),
    state: z.enum(["running", "done", "failed", "interrupted", "killed", "submitted"]),
    results: z.array(z.string()),
    files: z.array(z.string()),
    problems: z.array(z.string()),
  }),
]);
const timed = z.object({ at: z.number() });

/** One event. */
export type RunEvent = z.infer<typeof eventSchema>;
/** A node's new state. */
export type NodeEvent = z.infer<typeof nodeEvent>;
/** An event with its time, milliseconds since 1970. */
export type TimedEvent = RunEvent & { readonly at: number };

/** The event of a line; nothing for one that a kill or a full disk cut short, or that a later program wrote. */
export function decodeRunEvent(line: string): TimedEvent | undefined {
  try {
    const { at, ...event } = JSON.parse(line);
    if (!timed.safeParse({ at }).success) return undefined;
    const { data } = eventSchema.safeParse(event);
    return data && { ...data, at };
  } catch {
    return undefined;
  }
}

/** Between two lines about one bar: a run of days has a file of megabytes. */
const PROGRESS_MILLISECONDS = 1000;

/** Writes a run's events, and plays them on a display. A disk that refuses loses events, but no run. */
export class RunEvents implements Disposable {
  /** Takes the lines and bars of the run. */
  readonly display: Display;
  readonly #file: Deno.FsFile | undefined;
  readonly #player: EventPlayer;
  readonly #now: () => number;
  /** Whether the file may end within a line. */
  #torn = false;
  /** When a bar's last count was written, by its id. */
  readonly #written = new Map<number, number>();
  /** Totals of bars, by id. */
  readonly #totals = new Map<number, number>();

  private constructor(file: Deno.FsFile | undefined, display: Display, now: () => number) {
    this.#file = file;
    this.#player = new EventPlayer(display);
    this.#now = now;
    this.display = new EventDisplay((event) => {
      if (event.type !== "end") this.send(event);
    });
  }

  /** Begins the file `path`; `terminal` is where people look. */
  static open(path: string, terminal: Display, now: () => number = Date.now): RunEvents {
    let file: Deno.FsFile | undefined;
    try {
      file = Deno.openSync(path, { append: true, create: true });
    } catch {
      // Whoever writes something that matters says that the disk refuses.
    }
    return new RunEvents(file, terminal, now);
  }

  /** Tells everybody. */
  send(event: RunEvent): void {
    if (event.type !== "graph" && event.type !== "node" && event.type !== "finish") {
      this.#player.play(event);
    }
    if (this.#isDue(event)) this.#write(event);
  }

  #isDue(event: RunEvent): boolean {
    if (event.type === "bar") this.#totals.set(event.id, event.total);
    if (event.type === "stop") {
      this.#totals.delete(event.id);
      this.#written.delete(event.id);
    }
    if (event.type !== "progress") return true;
    const { id, done } = event;
    const now = this.#now();
    const due = now - (this.#written.get(id) ?? -Infinity) >= PROGRESS_MILLISECONDS ||
      done >= (this.#totals.get(id) ?? Infinity);
    if (due) this.#written.set(id, now);
    return due;
  }

  #write(event: RunEvent): void {
    if (this.#file === undefined) return;
    const text = `${this.#torn ? "\n" : ""}${JSON.stringify({ at: this.#now(), ...event })}\n`;
    const bytes = new TextEncoder().encode(text);
    let at = 0;
    try {
      while (at < bytes.length) at += this.#file.writeSync(bytes.subarray(at));
      this.#torn = false;
    } catch {
      this.#torn ||= at > 0;
    }
  }

  /** Closes the file and removes bars that were left. */
  [Symbol.dispose](): void {
    this.#player.stop();
    this.#file?.close();
  }
}
