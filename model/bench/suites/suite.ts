/**
 * A suite of benchmarks: a list of cases, each of which can be measured by itself.
 *
 * @module
 */

import type { Gpu } from "../../gpu/device.ts";
import type { ExpertBench } from "../../layer/kind.ts";
import type { TrainSection } from "../../training/config.ts";
import type { Architecture } from "../../trunk/architecture.ts";
import { median, type Timing, type TimingOptions } from "../measure/timing.ts";

/** Names of the suites, from the smallest thing that is measured to the largest. */
export const SUITES = [
  "copy",
  "gemm",
  "grouped",
  "pruning",
  "attention",
  "layer",
  "experts",
  "step",
  "scaling",
  "cost",
  "inference",
  "model",
] as const;

/** One of {@linkcode SUITES}. */
export type SuiteName = (typeof SUITES)[number];

/** The device and the sizes of a measurement, and its repetitions. */
export interface SuiteContext {
  readonly gpu: Gpu;
  /** The model whose sizes are measured. */
  readonly architecture: Architecture;
  /** Its dense equivalent, where the suite `model` is to measure it beside the model. */
  readonly dense?: Architecture | undefined;
  /** Its batches and its precision. */
  readonly train: TrainSection;
  /** Repetitions of what takes one plan. */
  readonly timing: TimingOptions;
  /** Bytes of device memory that a step may take, where the suite looks before it allocates; no limit unless given. */
  readonly memory?: number | undefined;
  /** Training steps that are timed, where whole steps are. */
  readonly steps: number;
  /** Chooses weights and tokens. */
  readonly seed: number;
}

/** The parameters of a case: the same parameters are the same case. */
export type CaseParams = Readonly<Record<string, string | number>>;

/** The measurements of a case. */
export interface Measured {
  /** Seconds of one run. */
  readonly timing: Timing;
  /** Floating-point operations of one run. */
  readonly flops?: number;
  /** Bytes that one run moves. */
  readonly bytes?: number;
  /** Tokens that one run computes. */
  readonly tokens?: number;
  /** Device memory: of a training step and of inference all of it, of a layer what it takes beside its weights. */
  readonly peak_bytes?: number;
  /** Seconds of its parts, each measured by itself. */
  readonly parts?: PartSeconds;
}

/** Seconds of the parts of a run, by how it is divided: `phase` (of a step), `part` (of a model). */
export type PartSeconds = Readonly<Record<"phase" | "part", Readonly<Record<string, number>>>>;

/** A case that a device can't hold or that has no sizes that can be: it is listed with its reason and is no failure. */
export class LeftOut extends Error {
  override readonly name = "LeftOut";
}

/** One thing to measure. */
export interface BenchCase {
  /** Names the case from one run to the next: `gemm.4096x4096x4096.nn.f16`. */
  readonly id: string;
  readonly suite: SuiteName;
  readonly params: CaseParams;
  /** Measures it, and frees its allocations. @throws {LeftOut} If it can't be measured here. */
  measure(): Promise<Measured>;
}

/** A suite: its cases for a context. */
export type Suite = (context: SuiteContext) => BenchCase[];

/** A case that was measured. */
export interface BenchEntry {
  readonly id: string;
  readonly suite: SuiteName;
  readonly params: CaseParams;
  /** Seconds of one run: median, shortest, longest. */
  readonly median: number;
  readonly min: number;
  readonly max: number;
  /** Samples that the median is over. */
  readonly repeats: number;
  /** 10¹² floating-point operations a second, by the median. */
  readonly tflop_per_second?: number;
  /** 10⁹ bytes a second, by the median. */
  readonly gb_per_second?: number;
  readonly tokens_per_second?: number;
  readonly peak_bytes?: number;
  /** Floating-point operations of one run, as dispatched. */
  readonly flops?: number;
  /** Seconds of its parts, each measured by itself. */
  readonly parts?: PartSeconds;
}

/** Measures a case. */
export async function measureCase(benchCase: BenchCase): Promise<BenchEntry> {
  const { id, suite, params } = benchCase;
  const { timing, flops, bytes, tokens, peak_bytes, parts } = await benchCase.measure();
  const { median, min, max, repeats } = timing;
  return {
    id,
    suite,
    params,
    median,
    min,
    max,
    repeats,
    ...flops !== undefined && { tflop_per_second: flops / median / 1e12 },
    ...bytes !== undefined && { gb_per_second: bytes / median / 1e9 },
    ...tokens !== undefined && { tokens_per_second: tokens / median },
    ...peak_bytes !== undefined && { peak_bytes },
    ...flops !== undefined && { flops },
    ...parts && { parts },
  };
}

/** A case that was measured in several rounds, with other cases in between: the median of its medians and the range of all samples. */
export function overRounds(rounds: readonly BenchEntry[]): BenchEntry {
  const first = rounds[0]!;
  const middle = median(rounds.map((entry) => entry.median));
  const slower = middle / first.median;
  const { tflop_per_second, gb_per_second, tokens_per_second, parts } = first;
  const medians = (by: keyof PartSeconds) =>
    Object.fromEntries(
      Object.keys(parts![by]).map((name) => [
        name,
        median(rounds.map((entry) => entry.parts![by][name]!)),
      ]),
    );
  return {
    ...first,
    median: middle,
    min: Math.min(...rounds.map(({ min }) => min)),
    max: Math.max(...rounds.map(({ max }) => max)),
    repeats: rounds.reduce((sum, { repeats }) => sum + repeats, 0),
    ...tflop_per_second !== undefined && { tflop_per_second: tflop_per_second / slower },
    ...gb_per_second !== undefined && { gb_per_second: gb_per_second / slower },
    ...tokens_per_second !== undefined && { tokens_per_second: tokens_per_second / slower },
    ...parts && { parts: { phase: medians("phase"), part: medians("part") } },
  };
}

/** How the experts of a model are measured; undefined for a model without. */
export function expertBench(architecture: Architecture): ExpertBench | undefined {
  return architecture.feedForward(architecture.config.num_layers - 1).bench;
}

/** Tokens of a micro-batch. */
export function tokensAtOnce(train: TrainSection): number {
  return train.micro_batch * train.sequence_length;
}
