/**
 * Metrics of one node: numbers by step and name, in two kinds. Those that are a function of the node's key are
 * part of its digest; those that were measured are not.
 *
 * A number that is not finite is null, in every table and file.
 *
 * On disk a table is CSV, `step,name,value` (with a leading `d` or `m` in the state folder, where both kinds are in
 * one file that is only appended to).
 *
 * @module
 */

import type { MetricRow, MetricSink, MetricValues } from "../../stage.ts";

const NAME = /^[^,"\r\n]+$/;
/** Rows wait no longer for the disk: whoever looks at a running node sees them within two seconds. */
export const FLUSH_MILLISECONDS = 1000;

/** Collects rows, and keeps them across a kill once flushed. */
export class MetricTable implements MetricSink {
  readonly #path: () => string;
  readonly #now: () => number;
  #flushedAt: number;
  #rows: MetricRow[] = [];
  /** How many rows are in the file already. */
  #flushed = 0;
  /** True when the file holds rows that were forgotten. */
  #rewrite = false;

  /**
   * `path` gives the file that `flush` appends to; it is asked for only when there is something to flush. `now` gives
   * milliseconds.
   */
  constructor(path: () => string, now: () => number = () => performance.now()) {
    this.#path = path;
    this.#now = now;
    this.#flushedAt = now();
  }

  /** Reads what an earlier attempt flushed; a line that a kill cut short is dropped. */
  load(text: string): void {
    const end = text.lastIndexOf("\n") + 1;
    for (const row of stateRows(text.slice(0, end))) this.#rows.push(row);
    this.#flushed = this.#rows.length;
    this.#rewrite = end !== text.length;
  }

  /** Numbers that are a function of the node's key. */
  write(step: number, values: MetricValues): void {
    this.#add(step, values, false);
  }

  /** Numbers that a clock or an allocator said. */
  measure(step: number, values: MetricValues): void {
    this.#add(step, values, true);
  }

  #add(step: number, values: MetricValues, measured: boolean): void {
    if (!Number.isSafeInteger(step) || step < 0) {
      throw new RangeError(`Step ${step} of a metric is not a non-negative integer.`);
    }
    for (const [name, value] of Object.entries(values)) {
      if (!NAME.test(name)) {
        throw new TypeError(`Metric ${JSON.stringify(name)} has a comma, quote or line break.`);
      }
      if (typeof value !== "number" && value !== null) {
        throw new TypeError(`Metric ${name} is of type ${typeof value}; expected a number.`);
      }
      this.#rows.push({ step, name, value: finite(value), measured });
    }
    this.flushOld();
  }

  /**
   * Flushes when the last time is a second ago. A stage that computes gives no timer its turn, so every row asks; a
   * stage that waits writes no row, so a timer asks too.
   */
  flushOld(): void {
    if (this.#now() - this.#flushedAt < FLUSH_MILLISECONDS) return;
    try {
      this.flush();
    } catch {
      // A full disk fails the node where the stage itself flushes, or publishes.
    }
  }

  /** Forgets rows from `step` on. */
  rewind(step: number): void {
    const kept = this.#rows.filter((row) => row.step < step);
    if (kept.length === this.#rows.length) return;
    // Flushed rows are a prefix; only losing one of them makes the file wrong.
    const flushedKept = this.#rows.slice(0, this.#flushed).filter((row) => row.step < step).length;
    if (flushedKept !== this.#flushed) this.#rewrite = true;
    this.#rows = kept;
    this.#flushed = flushedKept;
  }

  /** Writes buffered rows to the state folder. */
  flush(): void {
    this.#flushedAt = this.#now();
    if (!this.#rewrite && this.#flushed === this.#rows.length) return;
    const from = this.#rewrite ? 0 : this.#flushed;
    const text = this.#rows.slice(from).map(stateLine).join("");
    const path = this.#path();
    if (this.#rewrite) {
      const temporary = `${path}.new`;
      Deno.writeTextFileSync(temporary, text);
      sync(temporary);
      Deno.renameSync(temporary, path);
    } else {
      try {
        Deno.writeTextFileSync(path, text, { append: true });
        sync(path);
      } catch (error) {
        // The disk may have taken a part.
        this.#rewrite = true;
        throw error;
      }
    }
    this.#rewrite = false;
    this.#flushed = this.#rows.length;
  }

  /** Rows of one kind, each (step, name) once (the last one said wins), ordered by step then name. */
  rows(measured: boolean): MetricRow[] {
    const last = new Map<string, MetricRow>();
    for (const row of this.#rows) {
      if (row.measured === measured) last.set(`${row.step},${row.name}`, row);
    }
    return [...last.values()].sort(byStepThenName);
  }
}

/** Rows of whole lines of a state file. */
function* stateRows(text: string): Generator<MetricRow> {
  for (const line of text.split("\n")) {
    if (line === "") continue;
    const row = parseLine(line.slice(2), line.startsWith("m,"));
    if (row !== undefined) yield row;
  }
}

/**
 * Reads the rows that a running node has flushed to its state file.
 *
 * @param from Bytes that are read already.
 * @returns The rows behind them, and their bytes; a line that is being written is left for the next time.
 */
export async function readStateRows(
  path: string,
  from: number,
): Promise<{ readonly rows: MetricRow[]; readonly bytes: number }> {
  using file = await Deno.open(path);
  await file.seek(from, Deno.SeekMode.Start);
  const chunks: Uint8Array[] = [];
  const buffer = new Uint8Array(2 ** 16);
  for (let count; (count = await file.read(buffer)) !== null;) {
    chunks.push(buffer.slice(0, count));
  }
  const whole = new Uint8Array(chunks.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const chunk of chunks) {
    whole.set(chunk, at);
    at += chunk.length;
  }
  const bytes = whole.lastIndexOf(10) + 1;
  return { rows: [...stateRows(new TextDecoder().decode(whole.subarray(0, bytes)))], bytes };
}

function sync(path: string): void {
  using file = Deno.openSync(path, { read: true, write: true });
  file.syncDataSync();
}

function stateLine(row: MetricRow): string {
  return `${row.measured ? "m" : "d"},${row.step},${row.name},${row.value ?? ""}\n`;
}

/** Orders rows by step, then by name. */
export function byStepThenName(a: MetricRow, b: MetricRow): number {
  return a.step - b.step || (a.name < b.name ? -1 : a.name > b.name ? 1 : 0);
}

/** CSV of rows of one kind, as it is stored: the shortest digits that give the same float64, none for null. */
export function encodeMetrics(rows: readonly MetricRow[]): string {
  return "step,name,value\n" +
    rows.map((row) => `${row.step},${row.name},${row.value ?? ""}\n`).join("");
}

/** Rows of a stored CSV. */
export function decodeMetrics(text: string, measured: boolean): MetricRow[] {
  const rows: MetricRow[] = [];
  for (const line of text.split("\n").slice(1)) {
    if (line === "") continue;
    const row = parseLine(line, measured);
    if (row === undefined) throw new Error(`Not a line of metrics: ${line}`);
    rows.push(row);
  }
  return rows;
}

function parseLine(line: string, measured: boolean): MetricRow | undefined {
  const [step, name, value] = line.split(",");
  if (step === undefined || name === undefined || value === undefined) return undefined;
  const number = value === "" ? null : Number(value);
  // A changed byte must not become a number, nor a number null.
  const isNumber = number === null || !Number.isNaN(number) || value === "NaN";
  if (!/^-?\d+$/.test(step) || !Number.isSafeInteger(Number(step)) || !isNumber) return undefined;
  return { step: Number(step), name, value: finite(number), measured };
}

/** Earlier versions stored `NaN` and `Infinity`. */
function finite(value: number | null): number | null {
  return Number.isFinite(value) ? value : null;
}
