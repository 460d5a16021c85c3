/**
 * Whole training steps: by precision and recomputation, and as one size of the model grows.
 *
 * @module
 */

import type { TrainSection } from "../../training/config.ts";
import type { Architecture } from "../../trunk/architecture.ts";
import { timeSteps } from "../measure/step_profile.ts";
import {
  type BenchCase,
  type CaseParams,
  expertBench,
  type SuiteContext,
  type SuiteName,
} from "./suite.ts";

/** A training step of the model in each precision with each way of recomputing. */
export function stepSuite(context: SuiteContext): BenchCase[] {
  const { architecture } = context;
  return (["f32", "mixed"] as const).flatMap((precision) =>
    (["none", "experts", "full"] as const).map((recompute) => {
      const train = { ...context.train, precision, recompute };
      const { micro_batch, sequence_length } = train;
      return stepCase(context, "step", {
        id: `step.${precision}.${recompute}.${micro_batch}x${sequence_length}`,
        params: { precision, recompute, micro_batch, sequence_length },
        architecture,
        train,
      });
    })
  );
}

/** A training step with one size changed and all else as configured; experts in the execution that the configuration says, and fused. */
export function scalingSuite(context: SuiteContext): BenchCase[] {
  const { gpu, architecture, train } = context;
  const { software } = gpu.capabilities;
  const scaled = (
    factor: string,
    value: number,
    change: { architecture?: Architecture; train?: Partial<TrainSection> },
  ) =>
    stepCase(context, "scaling", {
      id: `scaling.${factor}.${value}`,
      params: { factor, value },
      architecture: change.architecture ?? architecture,
      train: { ...train, ...change.train },
    });
  const { micro_batch, sequence_length } = train;
  // Tokens of a step, with sequences as they are; then sequences, with as many tokens as before.
  const tokens = [...new Set([1, 2, 4, 8].filter((n) => n <= 2 * micro_batch))].map((n) =>
    scaled("tokens", n * sequence_length, { train: { micro_batch: n } })
  );
  const perStep = micro_batch * sequence_length;
  const lengths = (software ? [16, 32] : [512, 1024, 2048, 4096, 8192, 16384])
    .filter((length) => length <= perStep)
    .map((length) =>
      scaled("sequence_length", length, {
        train: { sequence_length: length, micro_batch: Math.floor(perStep / length) },
      })
    );
  const sizes = expertBench(architecture)?.scaling({ software }) ?? {};
  const experts = Object.entries(sizes).flatMap(([key, values]) =>
    values.flatMap((value) => {
      const changed = architecture.withFfn({ [key]: value });
      // Generating each kept expert and generating every one cost the more alike the fewer experts there are.
      if (key !== "num_experts") return [scaled(key, value, { architecture: changed })];
      return (["auto", "fused"] as const).map((execution) =>
        stepCase(context, "scaling", {
          id: `scaling.${key}.${value}.${execution}`,
          params: { factor: key, value, execution },
          architecture: changed.withFfn({ execution }),
          train,
        })
      );
    })
  );
  return [...experts, ...tokens, ...lengths];
}

function stepCase(
  { gpu, steps, seed, timing }: SuiteContext,
  suite: SuiteName,
  what: { id: string; params: CaseParams; architecture: Architecture; train: TrainSection },
): BenchCase {
  const { id, params, architecture, train } = what;
  return {
    id,
    suite,
    params,
    async measure() {
      const { step, tokens, memory } = await timeSteps(gpu, {
        architecture,
        train,
        seed,
        warmup: Math.max(1, timing.warmup),
        steps,
        signal: timing.signal,
      });
      return { timing: step, tokens, peak_bytes: memory.total };
    },
  };
}
