/**
 * The words of a job to its coordinator: one JSON value a line on standard output.
 *
 * @module
 */

import { z } from "zod";
import type { Display, DisplayBar, ShownSample } from "../terminal/progress.ts";

/** Events that a {@linkcode Display} shows. */
export const displayEvents = [
  /** A line for the user. */
  z.strictObject({ type: z.literal("line"), text: z.string() }),
  /** A bar; `id` tells it from others of the job. */
  z.strictObject({
    type: z.literal("bar"),
    id: z.int(),
    node: z.string(),
    total: z.number(),
    unit: z.string(),
  }),
  z.strictObject({
    type: z.literal("progress"),
    id: z.int(),
    done: z.number(),
    remark: z.string().optional(),
  }),
  z.strictObject({ type: z.literal("stop"), id: z.int() }),
  /** A text that a node's model wrote at a step, after a prompt. */
  z.strictObject({
    type: z.literal("sample"),
    node: z.string(),
    step: z.int(),
    prompt: z.string(),
    text: z.string(),
  }),
] as const;

const eventSchema = z.discriminatedUnion("type", [
  ...displayEvents,
  /** The last event of a job that came to its end by itself. */
  z.strictObject({
    type: z.literal("end"),
    state: z.enum(["published", "failed", "refused", "interrupted"]),
    /** Why it failed or refused. */
    message: z.string().optional(),
    /** The system's code of the error: `ENOSPC`. */
    code: z.string().optional(),
    /** Where in the program it arose. */
    trace: z.string().optional(),
  }),
]);

/** One event. */
export type JobEvent = z.infer<typeof eventSchema>;
/** How a job ended. */
export type JobEnd = Extract<JobEvent, { type: "end" }>;

/** An event as a line. */
export function encodeEvent(event: JobEvent): string {
  return `${JSON.stringify(event)}\n`;
}

/** The event of a line; nothing for one that a stage or a library printed. */
export function decodeEvent(line: string): JobEvent | undefined {
  if (!line.startsWith("{")) return undefined;
  try {
    return eventSchema.safeParse(JSON.parse(line)).data;
  } catch {
    return undefined;
  }
}

/** Between two events about one bar; the coordinator draws no faster. */
const PROGRESS_MILLISECONDS = 200;

/** Shows progress by telling the coordinator. */
export class EventDisplay implements Display {
  readonly #send: (event: JobEvent) => void;
  readonly #now: () => number;
  #bars = 0;

  /** `now` gives milliseconds. */
  constructor(send: (event: JobEvent) => void, now: () => number = () => performance.now()) {
    this.#send = send;
    this.#now = now;
  }

  bar(node: string, total: number, unit: string): DisplayBar {
    const id = this.#bars++;
    this.#send({ type: "bar", id, node, total, unit });
    let sent = -Infinity;
    let open = true;
    return {
      update: (done, remark) => {
        const now = this.#now();
        const isLast = total > 0 && done >= total;
        if (!open || (now - sent < PROGRESS_MILLISECONDS && !isLast)) return;
        sent = now;
        this.#send({ type: "progress", id, done, ...remark !== undefined && { remark } });
      },
      stop: () => {
        if (open) this.#send({ type: "stop", id });
        open = false;
      },
    };
  }

  line(text: string): void {
    this.#send({ type: "line", text });
  }

  sample(node: string, { step, prompt, text }: ShownSample): void {
    this.#send({ type: "sample", node, step, prompt, text });
  }

  stop(): void {}
}

/** Shows the events of one job on the coordinator's display. */
export class EventPlayer {
  readonly #display: Display;
  readonly #bars = new Map<number, DisplayBar>();
  #end: JobEnd | undefined;

  /** Takes the display. */
  constructor(display: Display) {
    this.#display = display;
  }

  /** How the job said that it ended. */
  get end(): JobEnd | undefined {
    return this.#end;
  }

  /** Shows one event. */
  play(event: JobEvent): void {
    switch (event.type) {
      case "line":
        return this.#display.line(event.text);
      case "bar":
        this.#bars.get(event.id)?.stop();
        this.#bars.set(event.id, this.#display.bar(event.node, event.total, event.unit));
        return;
      case "progress":
        return this.#bars.get(event.id)?.update(event.done, event.remark);
      case "stop":
        this.#bars.get(event.id)?.stop();
        this.#bars.delete(event.id);
        return;
      case "sample":
        return this.#display.sample(event.node, event);
      case "end":
        this.#end = event;
    }
  }

  /** Removes the bars that the job left. */
  stop(): void {
    for (const bar of this.#bars.values()) bar.stop();
    this.#bars.clear();
  }
}
