/**
 * Times the ways to run the experts on one layer of the base model, and the suites that the configuration lists: the `benchmark` stage.
 *
 * @module
 */

import { z } from "zod";
import { MOST_STEPS } from "../../model/bench/measure/step_profile.ts";
import {
  type BenchEntry,
  expertBench,
  LeftOut,
  measureCase,
} from "../../model/bench/suites/suite.ts";
import { casesOf } from "../../model/bench/suites/suites.ts";
import { timeExecution } from "../../model/bench/measure/layer.ts";
import { acceptedModel, kindModules, loadArchitecture } from "../../model/load.ts";
import { trainSchema } from "../../model/training/config.ts";
import { defineStage, type StageContext } from "../../pipeline/stage.ts";
import { benchmarkSchema } from "./config.ts";
import type { BenchmarkResult, TimingRow } from "./result.ts";
import { openDataset } from "../dataset.ts";
import { gpuProvenance, takeGpu } from "../shared_gpu.ts";

const paramsSchema = z.strictObject({
  model: acceptedModel,
  train: trainSchema,
  benchmark: benchmarkSchema,
  seed: z.int().min(0).max(2 ** 31 - 1),
});

/** Parameters of the stage. */
export type BenchmarkParams = z.infer<typeof paramsSchema>;

/** The `benchmark` stage: what was timed, and apart from it the times. */
export const benchmark = defineStage<BenchmarkParams>({
  name: "benchmark",
  description: "Time naive and reordered execution of the experts",
  module: import.meta.url,
  modules: ({ params }) => kindModules(params.model),
  params: paramsSchema as z.ZodType<BenchmarkParams>,
  outputs: { benchmark: "json", timings: "measured" },
  resource: "gpu",
  alone: true,
  run: runBenchmark,
});

async function runBenchmark(context: StageContext<BenchmarkParams>): Promise<void> {
  const { model, train, benchmark, seed } = context.params;
  using dataset = await openDataset(context);
  const architecture = await loadArchitecture(
    { ...model, vocab_size: dataset.vocab_size },
    { onLoad: context.assertInKey },
  );
  const tokens = train.micro_batch * train.sequence_length;
  const offered = expertBench(architecture)?.executions ?? [];
  const executions = benchmark.executions.filter((execution) => offered.includes(execution));
  const result: BenchmarkResult = {
    scope: "layer",
    executions,
    tokens: executions.length > 0 ? [tokens] : [],
    repetitions: benchmark.steps,
    cases: [],
  };
  const timings: TimingRow[] = [];
  if (executions.length + benchmark.suites.length === 0) {
    context.json("benchmark", result);
    return context.measured("timings", timings);
  }
  using taken = await takeGpu();
  const { gpu } = taken;
  context.provenance?.(gpuProvenance(gpu));
  const cases = casesOf(benchmark.suites, {
    gpu,
    architecture,
    train,
    timing: {
      warmup: benchmark.warmup_steps,
      repeats: benchmark.steps,
      minimum: gpu.capabilities.software ? 0.005 : 0.1,
      signal: context.signal,
    },
    steps: Math.min(benchmark.steps, MOST_STEPS),
    seed,
  });
  context.json("benchmark", { ...result, cases: cases.map(({ id, suite }) => ({ id, suite })) });
  const progress = context.progress(executions.length + cases.length, { unit: "measurements" });
  for (const [i, execution] of executions.entries()) {
    const timing = await timeExecution(gpu, {
      architecture,
      execution,
      tokens,
      precision: train.precision,
      warmup: benchmark.warmup_steps,
      repetitions: benchmark.steps,
      signal: context.signal,
    });
    timings.push({ execution, tokens, ...timing });
    progress.update(i + 1, execution);
  }
  for (const [i, each] of cases.entries()) {
    context.signal.throwIfAborted();
    try {
      timings.push(caseRow(await measureCase(each)));
    } catch (error) {
      if (!(error instanceof LeftOut)) throw error;
      context.log.warn(`${each.id} is left out: ${error.message}`);
    }
    progress.update(executions.length + i + 1, each.id);
  }
  context.measured("timings", timings);
}

/** A case as it is published: its parameters are a function of the configuration. */
function caseRow({ params: _, repeats: __, parts: ___, ...row }: BenchEntry): TimingRow {
  return row;
}
