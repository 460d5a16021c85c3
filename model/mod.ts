/**
 * ETHOS and its dense baseline: configuration, parameters, training, checkpoints, and the float64 reference.
 *
 * ```ts ignore
 * import { modelSchema, openGpu, runTraining, Trainer, trainSchema } from "@ethos/pipeline/model";
 *
 * const gpu = await openGpu();
 * const trainer = await Trainer.create(gpu, {
 *   config: { ...modelSchema.parse({ d_model: 64, num_experts: 1024 }), vocab_size: 4096 },
 *   train: trainSchema.parse({ steps: 100, sequence_length: 128 }),
 *   seed: 1,
 * });
 * await runTraining(trainer, { data, seed: 1, folder: "checkpoints", hooks });
 * ```
 *
 * @module
 */

export * from "./checkpoint/checkpoint.ts";
export * from "./config.ts";
export * from "./trunk/counts.ts";
export type { EvaluationOptions, EvaluationResult, LayerUsage } from "./inference/evaluator.ts";
export * from "./golden/golden.ts";
export * from "./golden/compare.ts";
export * from "./golden/file.ts";
export * from "./golden/gpu.ts";
export type { BuiltPlan } from "./gpu/build.ts";
export * from "./gpu/device.ts";
export type { Binding, Call, Constants, Float, Params } from "./gpu/kernel.ts";
export type { MemoryLine } from "./gpu/memory.ts";
export type {
  AskedQuestion,
  Dispatch,
  Plan,
  PlanOptions,
  Step,
  TensorOptions,
} from "./gpu/plan.ts";
export type { Choices, MakeTensor, Question } from "./gpu/question.ts";
export type { DType, Memory, Tensor } from "./gpu/tensor.ts";
export type { Execution } from "./ffn/ethos/ethos.ts";
export type { OptimizerGroup } from "./ops/optimizer/optimizer.ts";
export * from "./trunk/parameters.ts";
export * from "./golden/reference.ts";
export * from "./training/sampler.ts";
export * from "./training/schedule.ts";
export * from "./training/config.ts";
export * from "./training/trainer.ts";
export * from "./training/training.ts";
export * from "./training/tuning.ts";
export * from "./inference/usage_statistics.ts";
export type { Table, Weights, WeightsOptions, WeightSpec } from "./layer/weights.ts";
