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

export * from "./checkpoint.ts";
export * from "./config.ts";
export * from "./counts.ts";
export type { EvaluationOptions, EvaluationResult, LayerUsage } from "./evaluator.ts";
export * from "./golden.ts";
export * from "./golden_compare.ts";
export * from "./golden_file.ts";
export * from "./gpu_golden.ts";
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
export type { Execution } from "./layers/ethos.ts";
export type { OptimizerGroup } from "./ops/optimizer.ts";
export * from "./parameters.ts";
export * from "./reference/golden.ts";
export * from "./sampler.ts";
export * from "./schedule.ts";
export * from "./train_config.ts";
export * from "./trainer.ts";
export * from "./training.ts";
export * from "./tuning.ts";
export * from "./usage_statistics.ts";
export type { Table, Weights, WeightsOptions, WeightSpec } from "./weights.ts";
