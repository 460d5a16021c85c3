/**
 * Shows progress while nodes run: bars with an ETA on a terminal, plain lines every few seconds elsewhere. Both go to
 * standard error; standard output is for results.
 *
 * @module
 */

import type { MultiBar, SingleBar } from "cli-progress";
import process from "node:process";

/** Where lines and bars go. */
export interface Display {
  /** Shows a bar until it is stopped. */
  bar(node: string, total: number, unit: string): DisplayBar;
  /** Writes one line. */
  line(text: string): void;
  /** Takes a text that a node's model wrote. Terminals leave it out: pages show it, and files keep it. */
  sample(node: string, sample: ShownSample): void;
  /** Removes all bars. */
  stop(): void;
}

/** A text that a model wrote at a step, after a prompt. */
export interface ShownSample {
  readonly step: number;
  readonly prompt: string;
  readonly text: string;
}

/** One bar. */
export interface DisplayBar {
  update(done: number, remark?: string): void;
  stop(): void;
}

/** Seconds between plain lines about one bar, at first and later, so that logs of hours stay short. */
const PLAIN_SECONDS = { first: 5, last: 60 };

/** Writes a line to standard error; a pipe that is closed at the other end is no reason to stop working. */
function writeError(text: string): void {
  try {
    Deno.stderr.writeSync(new TextEncoder().encode(`${text}\n`));
  } catch (error) {
    if (!(error instanceof Deno.errors.BrokenPipe)) throw error;
  }
}

/** The stream that bars are drawn on, like `process.stderr` on a terminal. */
export interface BarStream {
  /** Whether it is a terminal. */
  readonly isTTY: boolean;
  /** Width of the terminal. */
  readonly columns: number;
  /** Writes text, and how to move the cursor. */
  write(text: string): unknown;
}

/** Options of {@linkcode createDisplay}. */
export interface DisplayOptions {
  /** Whether it is drawn on a terminal that can move its cursor; found out unless given. */
  readonly terminal?: boolean;
  /** Where bars go; standard error unless given. */
  readonly stream?: BarStream;
  /** Takes lines that stand alone; written to standard error unless given. */
  readonly write?: (text: string) => void;
}

/** Bars on a terminal, plain lines elsewhere, and where the terminal is a dumb one. */
export async function createDisplay(options: DisplayOptions = {}): Promise<Display> {
  const write = options.write ?? writeError;
  if (!(options.terminal ?? (Deno.stderr.isTerminal() && !isDumb()))) {
    return new PlainDisplay(write);
  }
  const { MultiBar, Presets } = await import("cli-progress");
  const stream: BarStream = options.stream ?? process.stderr as BarStream;
  return new TerminalDisplay(
    () =>
      new MultiBar({
        format: (_, { value, total }, payload) =>
          barLine({ ...payload as BarPayload, done: value, total }, stream.columns - 1),
        stream,
        fps: 8,
        // Neither hidden nor unwrapped: a terminal that a killed process leaves is as it was.
        hideCursor: false,
        linewrap: true,
        clearOnComplete: true,
        emptyOnZero: true,
        gracefulExit: false,
        // Stages compute without giving way, so a bar can't count on timers.
        forceRedraw: true,
      }, Presets.shades_classic),
    { stream, write },
  );
}

function isDumb(): boolean {
  const { state } = Deno.permissions.querySync({ name: "env", variable: "TERM" });
  return state === "granted" && Deno.env.get("TERM") === "dumb";
}

/** The words and the ETA of a bar. */
interface BarPayload {
  readonly node: string;
  readonly unit: string;
  readonly remark: string;
  readonly eta: string;
}

/**
 * Makes one line of at most `width` columns. Drops parts until the line fits: the count, the remark, the ETA, the bar,
 * the rest of the name.
 */
export function barLine(
  bar: BarPayload & { readonly done: number; readonly total: number },
  width: number,
): string {
  const { node, unit, remark, eta, done, total } = bar;
  const share = total > 0 ? Math.min(1, done / total) : 0;
  const percent = `${Math.floor(100 * share)} %`.padStart(5);
  const count = `${done}/${total} ${unit}`.trim();
  const choices = [[percent, count, eta, remark], [percent, eta, remark], [percent, eta], [
    percent,
  ]];
  for (const parts of choices) {
    const text = parts.filter((part) => part !== "").join("  ");
    const room = Math.min(32, width - node.length - text.length - 2);
    if (room < 8) continue;
    const full = Math.round(room * share);
    return `${node} ${"█".repeat(full)}${"░".repeat(room - full)} ${text}`;
  }
  return `${node} ${percent.trim()}`.slice(0, Math.max(0, width));
}

class TerminalDisplay implements Display {
  readonly #create: () => MultiBar;
  readonly #stream: BarStream;
  readonly #write: (text: string) => void;
  /** Exists only while a bar does, so that a new one remembers no old line to go back to. */
  #bars: MultiBar | undefined;
  #open = 0;

  constructor(
    create: () => MultiBar,
    to: { stream: BarStream; write: (text: string) => void },
  ) {
    this.#create = create;
    this.#stream = to.stream;
    this.#write = to.write;
  }

  bar(node: string, total: number, unit: string): DisplayBar {
    const bars = this.#bars ??= this.#create();
    const bar: SingleBar = bars.create(total, 0, { node, unit, remark: "", eta: "" });
    const rate = new Rate(() => performance.now());
    this.#open++;
    let open = true;
    let drawn = 0;
    return {
      update: (done, remark) => {
        if (!open) return;
        const eta = rate.eta(done, total);
        bar.update(done, { eta, ...remark === undefined ? {} : { remark } });
        if (performance.now() - drawn > 125) {
          drawn = performance.now();
          bars.update();
        }
      },
      stop: () => {
        if (!open) return;
        open = false;
        if (--this.#open === 0) this.stop();
        else bars.remove(bar);
      },
    };
  }

  line(text: string): void {
    const bars = this.#bars;
    if (bars === undefined) return this.#write(text);
    // The line may be longer than the bars that were there.
    bars.once("redraw-pre", () => this.#stream.write("\x1b[J"));
    bars.log(`${text}\n`);
    bars.update();
  }

  sample(): void {}

  stop(): void {
    this.#bars?.stop();
    this.#bars = undefined;
    this.#open = 0;
  }
}

/** Foresees the end from this attempt's own rate. */
class Rate {
  readonly #now: () => number;
  #first: { done: number; at: number } | undefined;

  constructor(now: () => number) {
    this.#now = now;
  }

  /** `ETA 3 min 20 s`, or nothing while it can't be told. */
  eta(done: number, total: number): string {
    const at = this.#now();
    // A node that resumes starts at some count that this attempt hasn't worked for.
    this.#first ??= { done, at };
    const rate = (done - this.#first.done) / (at - this.#first.at);
    return rate > 0 ? `ETA ${formatSeconds((total - done) / rate / 1000)}` : "";
  }
}

/** Lines for logs and pipes. */
export class PlainDisplay implements Display {
  readonly #write: (text: string) => void;
  readonly #now: () => number;

  /** `now` gives milliseconds. */
  constructor(write: (text: string) => void, now: () => number = () => performance.now()) {
    this.#write = write;
    this.#now = now;
  }

  bar(node: string, total: number, unit: string): DisplayBar {
    const start = this.#now();
    let last = start;
    const rate = new Rate(this.#now);
    return {
      update: (done, remark) => {
        const now = this.#now();
        const eta = rate.eta(done, total);
        const seconds = Math.max(PLAIN_SECONDS.first, (now - start) / 10_000);
        if (now - last < 1000 * Math.min(PLAIN_SECONDS.last, seconds)) return;
        last = now;
        const percent = total > 0 ? ` (${Math.floor((100 * done) / total)} %)` : "";
        const unitText = unit === "" ? "" : ` ${unit}`;
        const remarkText = remark ? `, ${remark}` : "";
        const etaText = eta === "" ? "" : `, ${eta}`;
        this.#write(`${node}: ${done}/${total}${unitText}${percent}${etaText}${remarkText}`);
      },
      stop: () => {},
    };
  }

  line(text: string): void {
    this.#write(text);
  }

  sample(): void {}

  stop(): void {}
}

/** `0.3 s`, `12 s`, `3 min 20 s`, `2 h 05 min`. */
export function formatSeconds(seconds: number): string {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  const two = (n: number) => String(n).padStart(2, "0");
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  const minutes = Math.round(whole / 60);
  return `${Math.floor(minutes / 60)} h ${two(minutes % 60)} min`;
}
