/**
 * Timing a plan: how long it takes on the device, again and again.
 *
 * @module
 */

import { buildPlans, type BuiltPlan } from "../../gpu/build.ts";
import type { Gpu } from "../../gpu/device.ts";
import type { Plan } from "../../gpu/plan.ts";
import { Marks } from "./marks.ts";

/** How often something is timed. */
export interface TimingOptions {
  /** Runs before the clock starts. */
  readonly warmup: number;
  /** Samples that the median is over. */
  readonly repeats: number;
  /** Shortest sample in seconds: what is shorter is run several times in one. Defaults to a tenth of a second. */
  readonly minimum?: number;
  /** Stops between samples. */
  readonly signal?: AbortSignal | undefined;
}

/** Seconds of one run, over the samples. */
export interface Timing {
  /** Median, seconds. */
  readonly median: number;
  /** Shortest, seconds. */
  readonly min: number;
  /** Longest, seconds. */
  readonly max: number;
  /** Samples. */
  readonly repeats: number;
}

/** Runs of a short plan in one sample, at most. */
const MOST_RUNS = 4096;
/** Runs in one submission, at most. */
const RUNS_AT_ONCE = 64;

/** Sums up samples, seconds each. */
export function timingOf(seconds: readonly number[]): Timing {
  return {
    median: median(seconds),
    min: seconds.reduce((a, b) => Math.min(a, b), Infinity),
    max: seconds.reduce((a, b) => Math.max(a, b), 0),
    repeats: seconds.length,
  };
}

/** Runs a built plan so many times without a pause, and gives the seconds of one run: by the device's clock where it has one. */
async function sample(gpu: Gpu, built: BuiltPlan, times: number): Promise<number> {
  using marks = gpu.capabilities.timestamps ? new Marks(gpu, 2) : undefined;
  gpu.check();
  const start = performance.now();
  for (let left = times; left > 0; left -= RUNS_AT_ONCE) {
    const encoder = gpu.device.createCommandEncoder({ label: built.plan.label });
    if (left === times) marks?.set(encoder);
    for (let i = 0; i < Math.min(left, RUNS_AT_ONCE); i++) built.encode(encoder);
    if (left <= RUNS_AT_ONCE) marks?.set(encoder);
    gpu.device.queue.submit([encoder.finish()]);
  }
  if (marks) {
    const [, seconds = 0] = await marks.read();
    if (seconds > 0) return seconds / times;
  } else await gpu.guard(gpu.device.queue.onSubmittedWorkDone());
  return (performance.now() - start) / 1000 / times;
}

/** Runs a built plan a few times before the clock starts, and gives the seconds of the fastest run. */
async function warmUp(gpu: Gpu, built: BuiltPlan, options: TimingOptions): Promise<number> {
  let once = Infinity;
  for (let i = 0; i < Math.max(1, options.warmup); i++) {
    options.signal?.throwIfAborted();
    once = Math.min(once, await sample(gpu, built, 1));
  }
  return once;
}

/** How often what takes `once` is run in a sample of so many seconds. */
function runsIn(seconds: number, once: number): number {
  return Math.max(1, Math.min(MOST_RUNS, Math.ceil(seconds / once)));
}

/** Times a plan that was built. */
async function timeBuilt(
  gpu: Gpu,
  built: BuiltPlan,
  options: TimingOptions,
): Promise<Timing> {
  const { repeats, minimum = 0.1, signal } = options;
  const times = runsIn(minimum, await warmUp(gpu, built, options));
  const seconds: number[] = [];
  for (let i = 0; i < repeats; i++) {
    signal?.throwIfAborted();
    seconds.push(await sample(gpu, built, times));
  }
  return timingOf(seconds);
}

/** Builds a plan, times it, and frees it. `bytes` is what its transient tensors took. */
export async function timePlan(
  gpu: Gpu,
  plan: Plan,
  options: TimingOptions,
): Promise<Timing & { readonly bytes: number }> {
  const built = await buildPlans(gpu, [plan]);
  try {
    return { ...await timeBuilt(gpu, built.plans[0]!, options), bytes: built.pool.bytes };
  } finally {
    built.destroy();
  }
}

/** Median of a list that is not empty. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
