/**
 * Curves of a store's nodes: those of a published node from its record, those of a running one from its state folder,
 * where its metrics arrive within two seconds.
 *
 * @module
 */

import { join } from "@std/path";
import { METRICS } from "../executors/inline.ts";
import { statOrUndefined } from "../store/files.ts";
import type { ObjectStore } from "../store/objects.ts";
import type { NodeRecord, Records } from "../store/records/records.ts";
import { accumulate, downsample, interpolate, Series, smooth, type Window } from "./series.ts";

/** Quantities that curves can be drawn over. */
export type Axis = "step" | "tokens" | "time";

/** Metrics that other axes than steps are made of. */
export interface AxisMetrics {
  /** Name of the metric that counts tokens from the start. */
  readonly tokens?: string;
  /** Name of the metric that says how many seconds a step takes. */
  readonly step_seconds?: string;
}

/** The curves of one node, by the names of its metrics. */
export type NodeCurves = ReadonlyMap<string, Series>;

/** How a curve is looked at. */
export interface CurveView extends Window {
  readonly axis: Axis;
  /** Weight of the moving average, from 0 to below 1. */
  readonly smoothing: number;
}

/** Numbers kept in memory, of nodes that were looked at last: 256 MiB. */
const KEPT_NUMBERS = 1 << 24;
const NEWLINE = 10;

interface Source {
  /** Names the source that was read: the record's objects, or a file by its inode. */
  readonly id: string;
  readonly curves: Map<string, Series>;
  /** Bytes of the state file that were read. */
  position: number;
  rows: number;
  /** Rows of one file are read by one reader at a time. */
  turn: Promise<void>;
}

/** Reads curves, and keeps those that were read. */
export class Curves {
  readonly #dir: string;
  readonly #parts: { readonly records: Records; readonly objects: ObjectStore };
  /** In the order of their last use. */
  readonly #sources = new Map<string, Source>();

  /** `dir` is the store. */
  constructor(dir: string, parts: { records: Records; objects: ObjectStore }) {
    this.#dir = dir;
    this.#parts = parts;
  }

  /** Path of a running node's metrics. */
  statePath(key: string): string {
    return join(this.#dir, "state", key, METRICS);
  }

  /** The curves of a node; none where nothing was written yet. */
  async read(key: string): Promise<NodeCurves> {
    const record = await this.#parts.records.readNode(key);
    const stat = record === undefined ? await statOrUndefined(this.statePath(key)) : undefined;
    const id = record === undefined
      ? `state ${stat?.ino ?? 0}`
      : `${record.metrics?.sha256} ${record.measured?.sha256}`;
    let source = this.#sources.get(key);
    // A rewind puts another file in the place of the one that was read.
    if (source?.id !== id || (stat !== undefined && stat.size < source.position)) {
      source = { id, curves: new Map(), position: 0, rows: 0, turn: Promise.resolve() };
      if (record !== undefined) source.turn = this.#readRecord(record, source);
    }
    this.#sources.delete(key);
    this.#sources.set(key, source);
    if (record === undefined && stat !== undefined) {
      source.turn = source.turn.then(() => readMore(this.statePath(key), source));
    }
    try {
      await source.turn;
    } catch (error) {
      this.#sources.delete(key);
      // The node has been published meanwhile, or its objects were removed.
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
    this.#forget();
    return source.curves;
  }

  async #readRecord(record: NodeRecord, source: Source): Promise<void> {
    for (const ref of [record.metrics, record.measured]) {
      if (ref === undefined) continue;
      const text = await Deno.readTextFile(this.#parts.objects.path(ref.sha256));
      addLines(text, text.indexOf("\n") + 1, source);
    }
  }

  #forget(): void {
    let rows = 0;
    for (const source of this.#sources.values()) rows += source.rows;
    for (const [key, source] of this.#sources) {
      if (rows <= KEPT_NUMBERS || this.#sources.size === 1) return;
      rows -= source.rows;
      this.#sources.delete(key);
    }
  }
}

/** Reads the whole lines that were added to a state file. */
async function readMore(path: string, source: Source): Promise<void> {
  using file = await Deno.open(path);
  await file.seek(source.position, Deno.SeekMode.Start);
  const { size } = await file.stat();
  const bytes = new Uint8Array(Math.max(0, size - source.position));
  let length = 0;
  while (length < bytes.length) {
    const n = await file.read(bytes.subarray(length));
    if (n === null) break;
    length += n;
  }
  const end = bytes.subarray(0, length).lastIndexOf(NEWLINE) + 1;
  addLines(new TextDecoder().decode(bytes.subarray(0, end)), 0, source);
  source.position += end;
}

/** Adds lines `step,name,value`, with or without the letter of their kind before them. */
function addLines(text: string, from: number, source: Source): void {
  for (let at = from; at < text.length;) {
    let end = text.indexOf("\n", at);
    if (end < 0) end = text.length;
    const words = text.slice(at, end).split(",");
    at = end + 1;
    if (words.length === 4) words.shift();
    const [step, name, value] = words;
    if (words.length !== 3 || step === "" || !Number.isSafeInteger(Number(step))) continue;
    let series = source.curves.get(name!);
    if (series === undefined) source.curves.set(name!, series = new Series());
    series.push(Number(step), value === "" ? NaN : Number(value));
    source.rows++;
  }
}

/** The points of one curve that a window shows; none where the axis has no numbers. */
export function viewCurve(
  curves: NodeCurves,
  name: string,
  { axis, smoothing, ...window }: CurveView,
  metrics: AxisMetrics = {},
): { x: number[]; y: number[] } {
  const series = curves.get(name);
  const by = axis === "step" ? undefined : axisSeries(curves, axis, metrics);
  if (series === undefined || (axis !== "step" && by === undefined)) return { x: [], y: [] };
  const x = by === undefined ? series.steps : interpolate(by, series.steps);
  return downsample(x, smooth(series.values, smoothing), window);
}

/** The axes that a node's metrics allow. */
export function axesOf(curves: NodeCurves, metrics: AxisMetrics): Axis[] {
  const others = (["tokens", "time"] as const).filter((axis) =>
    axisSeries(curves, axis, metrics) !== undefined
  );
  return ["step", ...others];
}

function axisSeries(
  curves: NodeCurves,
  axis: "tokens" | "time",
  { tokens, step_seconds }: AxisMetrics,
): Series | undefined {
  if (axis === "tokens") return curves.get(tokens ?? "");
  const each = curves.get(step_seconds ?? "");
  return each && accumulate(each);
}
