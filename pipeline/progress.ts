/**
 * What a user sees while nodes run: bars with an ETA on a terminal, plain lines every few seconds elsewhere. Both go to
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
  /** Removes all bars. */
  stop(): void;
}

/** One bar. */
export interface DisplayBar {
  update(done: number, remark?: string): void;
  stop(): void;
}

/** How often a plain display speaks of one bar: at first, and at most, since a log of hours need not grow by the second. */
const PLAIN_SECONDS = { first: 5, last: 60 };

/** Writes a line to standard error; a pipe that is closed at the other end is no reason to stop working. */
export function writeError(text: string): void {
  try {
    Deno.stderr.writeSync(new TextEncoder().encode(`${text}\n`));
  } catch (error) {
    if (!(error instanceof Deno.errors.BrokenPipe)) throw error;
  }
}

/** Bars on a terminal, plain lines elsewhere. */
export async function createDisplay(
  options: { terminal?: boolean; write?: (text: string) => void } = {},
): Promise<Display> {
  if (options.terminal ?? Deno.stderr.isTerminal()) {
    const { MultiBar, Presets } = await import("cli-progress");
    const bars = new MultiBar({
      format: "{node} [{bar}] {percentage}% {value}/{total} {unit} ETA {eta_formatted} {remark}",
      stream: process.stderr,
      fps: 8,
      hideCursor: true,
      clearOnComplete: true,
      emptyOnZero: true,
      gracefulExit: false,
      // Stages compute without giving way, so a bar can't count on timers.
      forceRedraw: true,
    }, Presets.shades_classic);
    return new TerminalDisplay(bars);
  }
  return new PlainDisplay(options.write ?? writeError);
}

class TerminalDisplay implements Display {
  readonly #bars: MultiBar;
  #open = 0;

  constructor(bars: MultiBar) {
    this.#bars = bars;
  }

  bar(node: string, total: number, unit: string): DisplayBar {
    const bar: SingleBar = this.#bars.create(total, 0, { node, unit, remark: "" });
    this.#open++;
    let open = true;
    let drawn = 0;
    return {
      update: (done, remark) => {
        bar.update(done, remark === undefined ? {} : { remark });
        if (performance.now() - drawn > 125) {
          drawn = performance.now();
          this.#bars.update();
        }
      },
      stop: () => {
        if (!open) return;
        open = false;
        this.#open--;
        this.#bars.remove(bar);
      },
    };
  }

  line(text: string): void {
    if (this.#open > 0) this.#bars.log(`${text}\n`);
    else writeError(text);
  }

  stop(): void {
    this.#bars.stop();
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
    let first: { done: number; at: number } | undefined;
    return {
      update: (done, remark) => {
        const now = this.#now();
        // A node that resumes starts at some count that this attempt hasn't worked for.
        first ??= { done, at: now };
        const seconds = Math.max(PLAIN_SECONDS.first, (now - start) / 10_000);
        if (now - last < 1000 * Math.min(PLAIN_SECONDS.last, seconds)) return;
        last = now;
        const rate = (done - first.done) / (now - first.at);
        const eta = rate > 0 ? `, ETA ${formatSeconds((total - done) / rate / 1000)}` : "";
        const percent = total > 0 ? ` (${Math.floor((100 * done) / total)} %)` : "";
        const unitText = unit === "" ? "" : ` ${unit}`;
        const remarkText = remark ? `, ${remark}` : "";
        this.#write(`${node}: ${done}/${total}${unitText}${percent}${eta}${remarkText}`);
      },
      stop: () => {},
    };
  }

  line(text: string): void {
    this.#write(text);
  }

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
