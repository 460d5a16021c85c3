/**
 * Whole training steps: by precision and recomputation, and as one size of the model grows.
 *
 * @module
 */

import { type ModelConfig, subKeys } from "../config.ts";
import type { TrainSection } from "../training/config.ts";
import { timeSteps } from "./step_profile.ts";
import { type BenchCase, type CaseParams, type SuiteContext, type SuiteName } from "./suite.ts";

/** A training step of the model in each precision with each way of recomputing. */
export function stepSuite(context: SuiteContext): BenchCase[] {
  const { config } = context;
  return (["f32", "mixed"] as const).flatMap((precision) =>
    (["none", "experts", "full"] as const).map((recompute) => {
      const train = { ...context.train, precision, recompute };
      const { micro_batch, sequence_length } = train;
      return stepCase(context, "step", {
        id: `step.${precision}.${recompute}.${micro_batch}x${sequence_length}`,
        params: { precision, recompute, micro_batch, sequence_length },
        config,
        train,
      });
    })
  );
}

/** A training step with one size changed and all else as configured; experts in the execution that the configuration says, and fused. */
export function scalingSuite(context: SuiteContext): BenchCase[] {
  const { gpu, config, train } = context;
  const { software } = gpu.capabilities;
  const scaled = (
    factor: string,
    value: number,
    change: { config?: Partial<ModelConfig>; train?: Partial<TrainSection> },
  ) =>
    stepCase(context, "scaling", {
      id: `scaling.${factor}.${value}`,
      params: { factor, value },
      config: { ...config, ...change.config },
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
  if (config.kind === "dense") return [...tokens, ...lengths];
  const executions = [...new Set([config.execution, "fused" as const])];
  const experts = (software ? [64, 256] : [64 ** 2, 128 ** 2, 256 ** 2, 512 ** 2, 1024 ** 2])
    .filter((count) => Math.sqrt(count) >= config.top_k)
    .flatMap((num_experts) =>
      executions.map((execution) =>
        stepCase(context, "scaling", {
          id: `scaling.num_experts.${num_experts}.${execution}`,
          params: { factor: "num_experts", value: num_experts, execution },
          config: { ...config, num_experts, execution },
          train,
        })
      )
    );
  const heads = (software ? [1, 2] : [2, 4, 8, 16]).map((routing_heads) =>
    scaled("routing_heads", routing_heads, { config: { routing_heads } })
  );
  const kept = (software ? [2, 4] : [4, 8, 16, 32])
    .filter((top_k) => top_k <= subKeys(config))
    .map((top_k) => scaled("top_k", top_k, { config: { top_k } }));
  return [...experts, ...tokens, ...heads, ...kept, ...lengths];
}

function stepCase(
  { gpu, steps, seed, timing }: SuiteContext,
  suite: SuiteName,
  what: { id: string; params: CaseParams; config: ModelConfig; train: TrainSection },
): BenchCase {
  const { id, params, config, train } = what;
  return {
    id,
    suite,
    params,
    async measure() {
      const { step, tokens, memory } = await timeSteps(gpu, {
        config,
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
