/**
 * The cost of a training step as work grows along one axis: experts, length of a sequence, width of the model, sequences of a micro-batch.
 *
 * @module
 */

import { z } from "zod";
import { loadArchitecture } from "../../load.ts";
import type { ModelConfig } from "../../section.ts";
import type { TrainSection } from "../../training/config.ts";
import { Trainer } from "../../training/trainer.ts";
import type { Architecture } from "../../trunk/architecture.ts";
import { profileStep } from "../measure/step_profile.ts";
import { addUp, type GroupBy } from "../measure/step_report.ts";
import {
  type BenchCase,
  LeftOut,
  type Measured,
  type SuiteContext,
  tokensAtOnce,
} from "./suite.ts";

/**
 * The axes, by the key that grows, with the multiples of the configuration's value. A product-key router wants square numbers of experts: powers of four
 * keep one square. At the paper's sizes these are 4,096 to 1,048,576 experts, 1,024 to 32,768 tokens, widths of 256 to 2,048, and 1 to 16 sequences.
 */
const AXES = {
  num_experts: [1 / 64, 1 / 16, 1 / 4, 1, 4],
  sequence_length: [1 / 4, 1 / 2, 1, 2, 4, 8],
  d_model: [1 / 4, 1 / 2, 1, 2],
  micro_batch: [1 / 8, 1 / 4, 1 / 2, 1, 2],
} as const;

/** One of the axes. */
export type CostAxis = keyof typeof AXES;

/** The axes in their order. */
export const COST_AXES = Object.keys(AXES) as readonly CostAxis[];

/** A model and its training with one size changed, not yet known to be possible. */
interface Point {
  readonly config: ModelConfig;
  readonly train: TrainSection;
}

/** A step at each point of each axis, in ascending order. The axis of experts is that of kinds which count them. */
export function costSuite(context: SuiteContext): BenchCase[] {
  const { architecture: { config }, train } = context;
  const { ffn } = config;
  const base: Readonly<Record<CostAxis, number | undefined>> = {
    num_experts: "num_experts" in ffn ? ffn.num_experts : undefined,
    sequence_length: train.sequence_length,
    d_model: config.d_model,
    micro_batch: train.micro_batch,
  };
  return COST_AXES.flatMap((axis) =>
    AXES[axis].map((factor) => factor * (base[axis] ?? NaN)).filter(Number.isInteger)
      .map((value): BenchCase => ({
        id: `cost.${axis}.${value}`,
        suite: "cost",
        params: { axis, value },
        measure: () => measure(context, resized({ config, train }, axis, value)),
      }))
  );
}

/** The point of an axis at a value. Longer sequences are fewer, so that a micro-batch keeps its tokens. */
function resized({ config, train }: Point, axis: CostAxis, value: number): Point {
  switch (axis) {
    case "num_experts":
      return {
        config: { ...config, ffn: { ...config.ffn, num_experts: value } } as ModelConfig,
        train,
      };
    case "d_model":
      return { config: { ...config, d_model: value }, train };
    case "micro_batch":
      return { config, train: { ...train, micro_batch: value } };
    case "sequence_length": {
      const micro_batch = tokensAtOnce(train) / value;
      return { config, train: { ...train, sequence_length: value, micro_batch } };
    }
  }
}

async function measure(context: SuiteContext, point: Point): Promise<Measured> {
  const { gpu, seed, steps, timing } = context;
  const architecture = await possible(context, point);
  const { step, tokens, memory, timed, dispatches, recorded_flops } = await profileStep(gpu, {
    architecture,
    train: point.train,
    seed,
    warmup: Math.max(1, timing.warmup),
    steps,
    profiles: timing.repeats,
    signal: timing.signal,
  });
  const seconds = (by: GroupBy) =>
    Object.fromEntries(addUp(dispatches, by).map(({ name, seconds = 0 }) => [name, seconds]));
  return {
    timing: step,
    tokens,
    flops: recorded_flops,
    peak_bytes: memory.total,
    ...timed && { parts: { phase: seconds("phase"), part: seconds("part") } },
  };
}

/**
 * The layers of a point that can be trained on this device.
 *
 * @throws {LeftOut} If its sizes are none that a model can have, or the device can't hold it.
 */
async function possible({ gpu, memory, seed }: SuiteContext, point: Point): Promise<Architecture> {
  const { config, train } = point;
  const { micro_batch, sequence_length } = train;
  if (!Number.isInteger(micro_batch)) {
    throw new LeftOut(
      `a micro-batch has ${
        tokensAtOnce(train)
      } tokens, no whole number of sequences of ${sequence_length}`,
    );
  }
  let architecture: Architecture;
  try {
    architecture = await loadArchitecture(config);
  } catch (error) {
    if (!(error instanceof z.ZodError)) throw error;
    throw new LeftOut(
      error.issues.map(({ path, message }) => `${path.join(".")}: ${message}`).join("; "),
    );
  }
  if (sequence_length > architecture.longest) {
    throw new LeftOut(`the model has ${architecture.longest} positions`);
  }
  const [problem] = architecture.feedForward(config.num_layers - 1).problems(tokensAtOnce(train));
  if (problem !== undefined) throw new LeftOut(problem);
  let bytes: number;
  try {
    bytes = Trainer.bytesOf(gpu, {
      architecture,
      train: { ...train, gradient_groups: undefined },
      seed,
    });
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new LeftOut(error.message);
  }
  if (memory === undefined || bytes <= memory) return architecture;
  const gib = (bytes: number) => (bytes / 2 ** 30).toPrecision(3);
  throw new LeftOut(`it takes ${gib(bytes)} GiB of the ${gib(memory)} GiB that there are`);
}
