/**
 * `profile`: where the time of one training step goes.
 *
 * @module
 */

import { type Ceilings, measureCeilings } from "../../../model/bench/measure/ceilings.ts";
import { profileStep, type StepProfile } from "../../../model/bench/measure/step_profile.ts";
import {
  addUp,
  type GroupBy,
  rate,
  type RatedLine,
  toTrace,
  type Trace,
} from "../../../model/bench/measure/step_report.ts";
import type { Gpu } from "../../../model/gpu/device.ts";
import { formatTable } from "../../../pipeline/terminal/table.ts";
import type { BaseModel } from "./base_model.ts";
import { type MeasuredOn, measuredOn } from "./measured_on.ts";
import { showBytes, showCount, showSeconds, showShare, threeDigits } from "./quantities.ts";

/** Options of {@linkcode profile}. */
export interface ProfileOptions {
  readonly model: BaseModel;
  /** Folder of the project. */
  readonly root: string;
  /** Chooses weights and tokens. */
  readonly seed: number;
  /** Steps before the clock starts. */
  readonly warmup: number;
  /** Steps that are timed, before one is profiled. */
  readonly steps: number;
  /** Opens the device, once the rest is known to be right. */
  gpu(): Promise<Gpu>;
  /** Reports progress. */
  progress(line: string): void;
  readonly signal?: AbortSignal;
}

/** A profile, as JSON. */
export interface ProfileResult {
  readonly measured_on: MeasuredOn;
  readonly config: string;
  readonly model: BaseModel["config"];
  readonly train: BaseModel["train"];
  readonly ceilings: Ceilings;
  readonly tokens_per_second: number;
  /** Fraction of the measured peak that the model's own operations reach, without recomputation. */
  readonly mfu: number;
  /** Likewise with every operation that runs. */
  readonly hfu: number;
  readonly step: Omit<StepProfile, "dispatches">;
  /** Seconds of the profiled step's dispatches; absent without timestamps. */
  readonly dispatch_seconds?: number;
  readonly groups: Readonly<Record<GroupBy, readonly RatedLine[]>>;
}

/** A profile with its trace, when the device has timestamps. */
export interface Profiled {
  readonly result: ProfileResult;
  readonly trace?: Trace;
}

/** Trains the base model on random tokens and profiles one step. */
export async function profile(options: ProfileOptions): Promise<Profiled> {
  const { model, root, seed, warmup, steps, progress, signal } = options;
  const gpu = await options.gpu();
  const measured_on = await measuredOn(gpu, root);
  progress(`Measuring the ceilings of ${gpu.adapter.description}`);
  const ceilings = await measureCeilings(gpu, {
    dtype: model.train.precision === "mixed" ? "f16" : "f32",
    warmup: 1,
    repeats: 3,
    minimum: gpu.capabilities.software ? 0.01 : 0.1,
    signal,
  });
  progress(`Building ${model.name} and running ${warmup} + ${steps} steps`);
  const profiled = await profileStep(gpu, { ...model, seed, warmup, steps, signal });
  const { dispatches, ...step } = profiled;
  const group = (by: GroupBy) => rate(addUp(dispatches, by), ceilings);
  const peak = step.step.median * ceilings.flops_per_second;
  const result: ProfileResult = {
    measured_on,
    config: model.path,
    model: model.config,
    train: model.train,
    ceilings,
    tokens_per_second: step.tokens / step.step.median,
    mfu: step.model_flops / peak,
    hfu: step.recorded_flops / peak,
    step,
    ...step.timed && {
      dispatch_seconds: dispatches.reduce((n, { seconds = 0 }) => n + seconds, 0),
    },
    groups: {
      phase: group("phase"),
      part: group("part"),
      kernel: group("kernel"),
      label: group("label"),
    },
  };
  if (!step.timed) return { result };
  const about = {
    config: model.path,
    adapter: measured_on.adapter,
    runtime: measured_on.runtime,
    date: measured_on.date,
  };
  return { result, trace: toTrace(dispatches, about) };
}

/** A profile as text: the step, memory, and tables by phase, part of the model, kernel and label of at most `rows` lines each. */
export function renderProfile(result: ProfileResult, rows: number): string {
  const { step, ceilings, model, train, measured_on } = result;
  const { memory } = step;
  const facts: [string, string][] = [
    ["device", `${measured_on.adapter} (${measured_on.runtime})`],
    [
      "training",
      `${train.micro_batch} × ${train.sequence_length} tokens × ${train.gradient_accumulation}, ` +
      `${train.precision}, recompute ${train.recompute}, vocabulary ${model.vocab_size}`,
    ],
    [
      "step",
      `${showSeconds(step.step.median)} (median of ${step.step.repeats}, ${
        showSeconds(step.step.min)
      } to ${showSeconds(step.step.max)}, ${step.clock}'s clock)`,
    ],
    ["tokens/s", showCount(result.tokens_per_second)],
    [
      "ceilings",
      `${threeDigits(ceilings.flops_per_second / 1e12)} TFLOP/s (${ceilings.product}), ${
        threeDigits(ceilings.bytes_per_second / 1e9)
      } GB/s (${ceilings.copy})`,
    ],
    [
      "of ceiling",
      `${showShare(result.mfu)} by the model's operations (MFU), ${
        showShare(result.hfu)
      } by all that run`,
    ],
    ["host", hostLine(result)],
    ["memory", showBytes(memory.total)],
    ["loss", `${step.losses.map((loss) => loss.toFixed(3)).join(" → ")}, ${step.skipped} skipped`],
  ];
  const width = Math.max(...facts.map(([name]) => name.length));
  const parts = [
    facts.map(([name, value]) => `${name.padEnd(width)}  ${value}`).join("\n"),
    formatTable(
      ["memory", "bytes", "share"],
      memory.lines.map(({ owner, bytes }) => [
        owner,
        showBytes(bytes),
        showShare(bytes / memory.total),
      ]),
    ),
  ];
  if (memory.activations.length > 1) {
    parts.push(formatTable(
      ["activations at their peak", "bytes"],
      memory.activations.map(({ owner, bytes }) => [owner, showBytes(bytes)]),
    ));
  }
  if (!step.timed) {
    parts.push(
      `${measured_on.adapter} has no timestamp queries: what follows counts operations and bytes, and times nothing.`,
    );
  } else {
    const sum = result.dispatch_seconds!;
    parts.push(
      `One step, dispatch by dispatch: ${showSeconds(sum)}, ${
        showShare(sum / step.step.median)
      } of the step as it runs (apart from each other, dispatches cannot overlap).`,
    );
  }
  for (const by of ["phase", "part", "kernel", "label"] as const) {
    const lines = result.groups[by];
    parts.push(linesTable(by, lines.slice(0, rows)));
    if (lines.length > rows) parts.push(`… and ${lines.length - rows} more.`);
  }
  return parts.join("\n\n");
}

function hostLine({ step }: ProfileResult): string {
  const encode = `${showSeconds(step.host.median)} to encode and submit a step, ${
    showShare(step.host.median / step.step.median)
  } of it`;
  return step.waiting === undefined
    ? `${encode}; how much of that the device waits for is not known without timestamps`
    : `${encode}; the device waits ${showShare(step.waiting)} of the time`;
}

function linesTable(by: GroupBy, lines: readonly RatedLine[]): string {
  const show = (value: number | undefined, text: (value: number) => string) =>
    value === undefined ? "–" : text(value);
  return formatTable(
    [by, "calls", "ms", "% of step", "TFLOP/s", "GB/s", "% of ceiling", "bound", "GFLOP", "MB"],
    lines.map((line) => [
      line.name,
      String(line.calls),
      show(line.seconds, (s) => (s * 1e3).toFixed(3)),
      show(line.share, (share) => (100 * share).toFixed(1)),
      show(line.flops_per_second, (f) => threeDigits(f / 1e12)),
      show(line.bytes_per_second, (b) => threeDigits(b / 1e9)),
      show(line.of_ceiling, (share) => (100 * share).toFixed(1)),
      line.bound ?? "–",
      threeDigits(line.flops / 1e9),
      threeDigits(line.bytes / 1e6),
    ]),
  );
}
