/**
 * One training step under the clock: how long it takes as it runs, where the time goes by dispatch, what the host costs, what memory it takes.
 *
 * @module
 */

import type { Architecture } from "../../trunk/architecture.ts";
import { countFlops } from "../../trunk/counts.ts";
import type { Capabilities } from "../../gpu/capabilities.ts";
import type { Gpu } from "../../gpu/device.ts";
import type { Dispatch } from "../../gpu/plan.ts";
import { profilePlan } from "../../gpu/profiler.ts";
import { tokensPerStep, type TrainSection } from "../../training/config.ts";
import type { PlanName, Trainer } from "../../training/trainer.ts";
import { Marks } from "./marks.ts";
import { zipfBatches } from "./synthetic_tokens.ts";
import { median, type Timing, timingOf } from "./timing.ts";
import { withTrainer } from "./with_trainer.ts";

/** Steps that can be timed at once: their records wait in a ring on the device. */
export const MOST_STEPS = 200;

interface StepOptions {
  /** The model's layers. */
  readonly architecture: Architecture;
  /** How it is trained. */
  readonly train: TrainSection;
  /** Chooses weights and tokens. */
  readonly seed: number;
  /** Steps before the clock starts. */
  readonly warmup: number;
  /** Steps that are timed, at most {@linkcode MOST_STEPS}. */
  readonly steps: number;
  /** Steps that are timed dispatch by dispatch by {@linkcode profileStep}, a dispatch's seconds being the median over them; one unless given. */
  readonly profiles?: number;
  readonly signal?: AbortSignal | undefined;
}

/** A phase of a step. */
export type Phase = "forward" | "head" | "backward" | "recompute" | "update";

/** The phases in the order of a step. */
export const PHASES: readonly Phase[] = ["forward", "head", "backward", "recompute", "update"];

/** One dispatch of the step. */
export interface StepDispatch {
  /** Its full label: `layers.3.attn.attention`. */
  readonly label: string;
  /** Name of its kernel. */
  readonly kernel: string;
  readonly phase: Phase;
  readonly flops: number;
  readonly bytes: number;
  /** Seconds after the step began, on the device's clock; absent without timestamps. */
  readonly begin?: number;
  /** Absent without timestamps. */
  readonly seconds?: number;
}

/** How long steps take as they run. */
interface StepTiming {
  /** Tokens of a step. */
  readonly tokens: number;
  /** Seconds of a step, one following the other without a wait; without timestamps each is waited for. */
  readonly step: Timing;
  /** Which clock timed them. */
  readonly clock: "device" | "host";
  /** Seconds that the host takes to write and submit a step. */
  readonly host: Timing;
  /** Seconds from a step's first dispatch to the end of its last when the device never waits; absent without timestamps. */
  readonly busy?: Timing;
  /** Fraction of a step in which the device waits for the host, 0 to 1; absent without timestamps. */
  readonly waiting?: number;
  /** Loss of the first and the last update, nats: whether it learned at all. */
  readonly losses: readonly [number, number];
  /** Updates that were skipped because a number was not finite. */
  readonly skipped: number;
  /** Bytes on the device. */
  readonly memory: Trainer["memory"];
}

/** The dispatches of a step, and their sums. */
export interface StepProfile extends StepTiming {
  /** Whether the device has timestamps, so that the dispatches have times. */
  readonly timed: boolean;
  readonly dispatches: readonly StepDispatch[];
  /** Floating-point operations of a step that the model asks for: three times the products of its forward pass. */
  readonly model_flops: number;
  /** Those of its dispatches, with what is computed again. */
  readonly recorded_flops: number;
}

/** Lines of memory, as {@linkcode StepTiming.memory} has them. */
/** Trains a model on random tokens and says how long the steps take. */
export async function timeSteps(gpu: Gpu, options: StepOptions): Promise<StepTiming> {
  return await stepping(gpu, options, (trainer) => clockSteps(trainer, options));
}

/** Trains a model on random tokens, times its steps, and then one of them dispatch by dispatch. */
export async function profileStep(gpu: Gpu, options: StepOptions): Promise<StepProfile> {
  return await stepping(gpu, options, async (trainer) => {
    const timing = await clockSteps(trainer, options);
    const profiles: StepDispatch[][] = [];
    for (let i = 0; i < (options.profiles ?? 1); i++) {
      options.signal?.throwIfAborted();
      profiles.push(await profileDispatches(trainer));
    }
    const dispatches = medians(profiles);
    return {
      ...timing,
      timed: gpu.capabilities.timestamps,
      dispatches,
      model_flops: modelFlops(options, gpu.capabilities),
      recorded_flops: dispatches.reduce((n, { flops }) => n + flops, 0),
    };
  });
}

async function stepping<T>(
  gpu: Gpu,
  options: StepOptions,
  work: (trainer: Trainer) => Promise<T>,
): Promise<T> {
  if (!(options.steps >= 1 && options.steps <= MOST_STEPS)) {
    throw new RangeError(`${options.steps} steps are to be timed; expected 1 to ${MOST_STEPS}`);
  }
  const { architecture, seed } = options;
  // A step is the device's: groups, whose sums the host adds, are left out.
  const train = { ...options.train, gradient_groups: undefined };
  return await withTrainer(gpu, { architecture, train, seed }, work);
}

async function clockSteps(trainer: Trainer, options: StepOptions): Promise<StepTiming> {
  const { gpu, train, config } = trainer;
  const { seed, warmup, steps, signal } = options;
  const perBatch = train.micro_batch * train.sequence_length;
  // A few batches in turn: what is timed is no step that has seen its batch before, and the host draws none meanwhile.
  const batches = Array.from({ length: 4 }, (_, i) =>
    zipfBatches({
      vocabulary: config.vocab_size,
      tokens: perBatch,
      count: train.gradient_accumulation,
      seed: seed + i,
    }));
  const update = () => void trainer.update(batches[trainer.step % batches.length]!);
  const wait = () => gpu.guard(gpu.device.queue.onSubmittedWorkDone());
  let first: number | undefined;
  let skipped = 0;
  for (let i = 0; i < warmup; i++) {
    signal?.throwIfAborted();
    update();
    const [record] = await trainer.records();
    first ??= record!.loss;
    skipped = record!.skipped;
  }
  const host: number[] = [];
  const step: number[] = [];
  const clocked = (work: () => void) => {
    signal?.throwIfAborted();
    const start = performance.now();
    work();
    host.push((performance.now() - start) / 1000);
  };
  if (gpu.capabilities.timestamps) {
    using marks = new Marks(gpu, steps + 1);
    marks.set();
    for (let i = 0; i < steps; i++) {
      clocked(update);
      marks.set();
    }
    const times = await marks.read();
    for (let i = 0; i < steps; i++) step.push(times[i + 1]! - times[i]!);
  } else {
    for (let i = 0; i < steps; i++) {
      const start = performance.now();
      clocked(update);
      await wait();
      step.push((performance.now() - start) / 1000);
    }
  }
  const records = await trainer.records();
  first ??= records[0]!.loss;
  skipped = records.at(-1)!.skipped;
  const timing = timingOf(step);
  const busy = gpu.capabilities.timestamps ? await busySeconds(trainer) : undefined;
  return {
    tokens: tokensPerStep(train),
    step: timing,
    clock: gpu.capabilities.timestamps ? "device" : "host",
    host: timingOf(host),
    ...busy && { busy, waiting: Math.max(0, 1 - busy.median / timing.median) },
    losses: [first, records.at(-1)!.loss],
    skipped,
    memory: trainer.memory,
  };
}

/** Plans of one step, in order. */
function plansOf({ train }: Trainer): PlanName[] {
  const next = Array.from({ length: train.gradient_accumulation - 1 }, () => "next" as const);
  return ["first", ...next, "update"];
}

/** A step's time between two marks of one submission, in which the host has no part. */
async function busySeconds(trainer: Trainer): Promise<Timing> {
  const { gpu } = trainer;
  using marks = new Marks(gpu, 2);
  const seconds: number[] = [];
  for (let i = 0; i < 3; i++) {
    const encoder = gpu.device.createCommandEncoder({ label: "step" });
    marks.set(encoder);
    for (const name of plansOf(trainer)) trainer.plan(name).encode(encoder);
    marks.set(encoder);
    gpu.device.queue.submit([encoder.finish()]);
    seconds.push((await marks.read())[1]!);
  }
  return timingOf(seconds);
}

/** Every dispatch of a step, with its time where the device has timestamps. */
async function profileDispatches(trainer: Trainer): Promise<StepDispatch[]> {
  const { gpu } = trainer;
  const dispatches: StepDispatch[] = [];
  let offset = 0;
  for (const name of plansOf(trainer)) {
    const built = trainer.plan(name);
    const phase = phases(name);
    const describe = (call: Dispatch) => ({
      label: call.label,
      kernel: call.name,
      phase: phase(call.label),
      flops: call.flops,
      bytes: call.bytes,
    });
    if (!gpu.capabilities.timestamps) {
      for (const step of built.plan.steps) {
        if (step.kind === "dispatch") dispatches.push(describe(step.call));
      }
      continue;
    }
    let end = offset;
    for (const { call, begin, seconds } of await profilePlan(gpu, built)) {
      dispatches.push({ ...describe(call), begin: offset + begin, seconds });
      end = Math.max(end, offset + begin + seconds);
    }
    offset = end;
  }
  return dispatches;
}

/** The dispatches of the first profile with their median seconds over all; they begin when they did in the first. */
function medians(profiles: readonly (readonly StepDispatch[])[]): StepDispatch[] {
  return profiles[0]!.map((dispatch, i) =>
    dispatch.seconds === undefined
      ? dispatch
      : { ...dispatch, seconds: median(profiles.map((profile) => profile[i]!.seconds!)) }
  );
}

/** Tells the phase of the dispatches of a plan, one after the other: what comes after the head is on its way back. */
function phases(plan: PlanName): (label: string) => Phase {
  if (plan === "update") return () => "update";
  let back = false;
  return (label) => {
    if (label.startsWith("recompute.")) return "recompute";
    if (/^(head|final_norm|loss|balance)\b/.test(label)) {
      back = true;
      return "head";
    }
    return back ? "backward" : "forward";
  };
}

/** Three times the forward pass: once forward, and twice as much back. Recomputation does not count. */
function modelFlops({ architecture, train }: StepOptions, { software }: Capabilities): number {
  const { total } = countFlops(architecture, {
    sequenceLength: train.sequence_length,
    generation: "as_run",
    tokensPerStep: train.micro_batch * train.sequence_length,
    software,
  });
  return 3 * total * tokensPerStep(train);
}
