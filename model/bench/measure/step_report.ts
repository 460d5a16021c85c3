/**
 * A step's dispatches added up, and as a trace that Perfetto and `chrome://tracing` open.
 *
 * @module
 */

import type { Ceilings } from "./ceilings.ts";
import { type Phase, PHASES, type StepDispatch } from "./step_profile.ts";

/** Dispatches added up under one name. */
interface StepLine {
  readonly name: string;
  readonly calls: number;
  /** Absent without timestamps. */
  readonly seconds?: number;
  readonly flops: number;
  readonly bytes: number;
}

/** A line held against the device's roofs. */
export interface RatedLine extends StepLine {
  /** Fraction of the seconds of all lines, 0 to 1. */
  readonly share?: number;
  /** Floating-point operations a second. */
  readonly flops_per_second?: number;
  /** Bytes a second. */
  readonly bytes_per_second?: number;
  /** How near the nearer of the two roofs, 0 to 1: the time that it would take there over the time that it took. */
  readonly of_ceiling?: number;
  /** Which roof that is. */
  readonly bound?: "compute" | "memory";
}

/** The key by which dispatches are added up: kernel, label without the number of a layer, phase of the step, or {@linkcode partOf} the model. */
export type GroupBy = "kernel" | "label" | "phase" | "part";

/**
 * A label without the numbers of layers and of a recomputation: what is one thing in every layer gets one name.
 *
 * @example
 * ```ts
 * import { foldLabel } from "./step_report.ts";
 * console.assert(foldLabel("layers.3.attn.attention") === "layers.*.attn.attention");
 * ```
 */
export function foldLabel(label: string): string {
  return label.replace(/\.\d+(?=\.|$)/g, ".*");
}

/** The parts of a model, and the optimiser's update, in the order of a step. */
export const PARTS = ["attention", "router", "feed-forward", "head", "update", "rest"] as const;

/**
 * The part of the model that a dispatch belongs to, forward, backward or computed again. A norm belongs to what is behind it, the embedding
 * to the head, whose table it may share, and a kind's experts and dense layers are its feed-forward.
 *
 * @example
 * ```ts
 * import { partOf } from "./step_report.ts";
 * console.assert(partOf("recompute.layers.3.ffn.router.s1") === "router");
 * ```
 */
export function partOf(label: string): (typeof PARTS)[number] {
  const bare = label.replace(/^recompute\./, "");
  const layer = bare.match(/^layers\.\d+\.(.*)/)?.[1];
  if (layer !== undefined) {
    if (layer.startsWith("attn")) return "attention";
    return /\brouter\b/.test(layer) ? "router" : "feed-forward";
  }
  if (bare.startsWith("update.")) return "update";
  return /^(embed|position|head|final_norm|loss)\b/.test(bare) ? "head" : "rest";
}

/** Adds dispatches up, the longest first; without times those with the most operations. */
export function addUp(dispatches: readonly StepDispatch[], by: GroupBy): StepLine[] {
  const lines = new Map<string, { -readonly [K in keyof StepLine]: StepLine[K] }>();
  for (const dispatch of dispatches) {
    const { label } = dispatch;
    const name = by === "label" ? foldLabel(label) : by === "part" ? partOf(label) : dispatch[by];
    let line = lines.get(name);
    if (!line) lines.set(name, line = { name, calls: 0, flops: 0, bytes: 0 });
    line.calls++;
    line.flops += dispatch.flops;
    line.bytes += dispatch.bytes;
    if (dispatch.seconds !== undefined) line.seconds = (line.seconds ?? 0) + dispatch.seconds;
  }
  const weight = (line: StepLine) => line.seconds ?? line.flops;
  return [...lines.values()].sort((a, b) => weight(b) - weight(a));
}

/** Holds lines against the roofs. Without roofs, or times, there is nothing to hold against them. */
export function rate(lines: readonly StepLine[], ceilings: Ceilings): RatedLine[] {
  const total = lines.reduce((n, { seconds = 0 }) => n + seconds, 0);
  return lines.map((line): RatedLine => {
    const { seconds, flops, bytes } = line;
    if (seconds === undefined || seconds <= 0) return line;
    const compute = flops / ceilings.flops_per_second;
    const memory = bytes / ceilings.bytes_per_second;
    return {
      ...line,
      share: seconds / total,
      flops_per_second: flops / seconds,
      bytes_per_second: bytes / seconds,
      of_ceiling: Math.max(compute, memory) / seconds,
      bound: compute > memory ? "compute" : "memory",
    };
  });
}

/** A trace in the format of Chrome's trace viewer. */
export interface Trace {
  readonly displayTimeUnit: "ms";
  readonly otherData: Readonly<Record<string, string>>;
  readonly traceEvents: readonly TraceEvent[];
}

/** An event of a {@linkcode Trace}. */
type TraceEvent =
  | {
    readonly ph: "M";
    readonly name: string;
    readonly pid: number;
    readonly tid: number;
    readonly args: Readonly<Record<string, string | number>>;
  }
  | {
    readonly ph: "X";
    readonly name: string;
    readonly cat: string;
    readonly pid: number;
    readonly tid: number;
    /** Microseconds. */
    readonly ts: number;
    /** Microseconds. */
    readonly dur: number;
    readonly args: Readonly<Record<string, string | number>>;
  };

/**
 * A step's dispatches as a trace: a group of tracks for each phase, in it a track for each layer and one for what is in no layer.
 *
 * @throws {RangeError} If the dispatches have no times.
 */
export function toTrace(
  dispatches: readonly StepDispatch[],
  about: Readonly<Record<string, string>> = {},
): Trace {
  const tracks = new Map<string, { phase: Phase; layer: number }>();
  const events: TraceEvent[] = dispatches.map((dispatch) => {
    const { label, kernel, phase, begin, seconds, flops, bytes } = dispatch;
    if (begin === undefined || seconds === undefined) {
      throw new RangeError(`${label} has no time; a trace needs a device with timestamps`);
    }
    const layer = Number(label.match(/layers\.(\d+)\./)?.[1] ?? -1);
    tracks.set(`${phase} ${layer}`, { phase, layer });
    return {
      ph: "X",
      name: label,
      cat: kernel,
      pid: PHASES.indexOf(phase) + 1,
      tid: layer + 2,
      ts: begin * 1e6,
      dur: seconds * 1e6,
      args: {
        kernel,
        flops,
        bytes,
        ...seconds > 0 && { "TFLOP/s": flops / seconds / 1e12, "GB/s": bytes / seconds / 1e9 },
      },
    };
  });
  const names = [...tracks.values()].flatMap(({ phase, layer }): TraceEvent[] => {
    const pid = PHASES.indexOf(phase) + 1;
    const tid = layer + 2;
    const meta = (name: string, args: Record<string, string | number>): TraceEvent => ({
      ph: "M",
      name,
      pid,
      tid,
      args,
    });
    return [
      meta("process_name", { name: phase }),
      meta("process_sort_index", { sort_index: pid }),
      meta("thread_name", { name: layer < 0 ? phase : `${phase} layer ${layer}` }),
      meta("thread_sort_index", { sort_index: tid }),
    ];
  });
  return { displayTimeUnit: "ms", otherData: { ...about }, traceEvents: [...names, ...events] };
}
