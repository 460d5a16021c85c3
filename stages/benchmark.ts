/**
 * Times the ways to run the experts on one layer of the base model: the `benchmark` stage.
 *
 * @module
 */

import { z } from "zod";
import { modelSchema } from "../model/config.ts";
import { timeExecution } from "../model/execution_benchmark.ts";
import { trainSchema } from "../model/train_config.ts";
import { defineStage, type StageContext } from "../pipeline/stage.ts";
import { benchmarkSchema } from "./benchmark_config.ts";
import { benchmarkMetric, type BenchmarkResult, QUANTITIES } from "./benchmark_result.ts";
import { openDataset } from "./dataset.ts";
import { gpuProvenance, sharedGpu } from "./shared_gpu.ts";

const paramsSchema = z.strictObject({
  model: modelSchema,
  train: trainSchema,
  benchmark: benchmarkSchema,
  seed: z.int().min(0),
});

/** Parameters of the stage. */
export type BenchmarkParams = z.infer<typeof paramsSchema>;

/** The `benchmark` stage: what was timed as JSON, the times as measured metrics. */
export const benchmark = defineStage<BenchmarkParams>({
  name: "benchmark",
  description: "Time naive and reordered execution of the experts",
  module: import.meta.url,
  params: paramsSchema as z.ZodType<BenchmarkParams>,
  outputs: { benchmark: "json" },
  resource: "gpu",
  run: runBenchmark,
});

async function runBenchmark(context: StageContext<BenchmarkParams>): Promise<void> {
  const { model, train, benchmark } = context.params;
  using dataset = await openDataset(context);
  const tokens = train.micro_batch * train.sequence_length;
  const executions = model.kind === "ethos" ? benchmark.executions : [];
  const result: BenchmarkResult = {
    scope: "layer",
    executions,
    tokens: executions.length > 0 ? [tokens] : [],
    repetitions: benchmark.steps,
  };
  context.json("benchmark", result);
  if (executions.length === 0) return;
  const gpu = await sharedGpu();
  context.provenance?.(gpuProvenance(gpu));
  const progress = context.progress(executions.length, { unit: "executions" });
  for (const [i, execution] of executions.entries()) {
    const timing = await timeExecution(gpu, {
      config: { ...model, vocab_size: dataset.vocab_size },
      execution,
      tokens,
      precision: train.precision,
      warmup: benchmark.warmup_steps,
      repetitions: benchmark.steps,
      signal: context.signal,
    });
    for (const quantity of QUANTITIES) {
      context.metrics.measure(tokens, { [benchmarkMetric(execution, quantity)]: timing[quantity] });
    }
    progress.update(i + 1, execution);
  }
}
