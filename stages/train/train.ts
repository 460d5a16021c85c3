/**
 * Trains one model: the `train` stage.
 *
 * @module
 */

import { join } from "@std/path";
import { z } from "zod";
import { MODEL_FILE, shareCheckpoint } from "../../model/checkpoint/checkpoint.ts";
import { countFlops, countParameters } from "../../model/trunk/counts.ts";
import { acceptedModel, kindModules, loadArchitecture } from "../../model/load.ts";
import { trainingSteps, trainSchema } from "../../model/training/config.ts";
import type { TrainingHooks, TrainingResult } from "../../model/training/training.ts";
import { defineStage, type StageContext } from "../../pipeline/stage.ts";
import { datasetFiles, openDatasetFiles, VOCABULARY_FILE } from "../dataset.ts";
import { chosenRuntime, gpuProvenance, sharedGpu } from "../shared_gpu.ts";
import { chosenRanks } from "./ranks/chosen.ts";
import { RANK_MODULE, trainOnRanks } from "./ranks/launch.ts";
import { type TrainingJob, trainModel } from "./train_model.ts";

const paramsSchema = z.strictObject({
  model: acceptedModel,
  train: trainSchema,
  seed: z.int().min(0).max(2 ** 31 - 1),
});

/** Parameters of the stage. */
export type TrainParams = z.infer<typeof paramsSchema>;

/** The `train` stage: a checkpoint, a summary, and the curve as metrics. */
export const train = defineStage<TrainParams>({
  name: "train",
  description: "Train a model on the tokens; resumes from its last checkpoint",
  module: import.meta.url,
  workers: [RANK_MODULE],
  modules: ({ params }) => kindModules(params.model),
  params: paramsSchema as z.ZodType<TrainParams>,
  outputs: { checkpoint: "directory", summary: "json" },
  resource: "gpu",
  run: runTrain,
});

async function runTrain(context: StageContext<TrainParams>): Promise<void> {
  const { params, stateDir, metrics, log, signal } = context;
  const { train, seed } = params;
  const files = datasetFiles(context);
  using dataset = await openDatasetFiles(files);
  const config = { ...params.model, vocab_size: dataset.vocab_size };
  const architecture = await loadArchitecture(config, { onLoad: context.assertInKey });
  const job = { config, train, seed, dataset: files, folder: join(stateDir, "checkpoints") };
  const progress = context.progress(trainingSteps(train), { unit: "updates" });
  const hooks: TrainingHooks = {
    rewind: (step) => metrics.rewind(step + 1),
    write: (step, values) => metrics.write(step, values),
    measure: (step, values) => metrics.measure(step, values),
    flush: () => metrics.flush(),
    progress: (step, remark) => progress.update(step, remark),
    info: (message) => log.info(message),
    warn: (message) => log.warn(message),
  };
  const ranks = chosenRanks();
  const result = ranks === 1
    ? await trainHere(job, context, hooks)
    : await trainOnRanks({ ...job, runtime: chosenRuntime(), modules: kindModules(params.model) }, {
      ranks,
      stateDir,
      hooks,
      signal,
      provenance: (values) => context.provenance?.({ ...values, ranks }),
    });
  const output = context.output("checkpoint");
  await Deno.mkdir(join(output, "best"), { recursive: true });
  // They stay in the state folder until they are published: a kill in between must find them there.
  await shareCheckpoint(result.lastPath, join(output, "last"));
  await shareCheckpoint(result.bestPath, join(output, "best", MODEL_FILE));
  await Deno.writeTextFile(join(output, VOCABULARY_FILE), dataset.vocabulary);
  const { byRole, ...counts } = countParameters(architecture);
  context.json("summary", {
    config: JSON.parse(JSON.stringify(architecture.config)),
    steps: result.step,
    tokens: result.tokens,
    skipped: result.skipped,
    last: result.last,
    best: result.best,
    parameters: { ...counts, byRole: { ...byRole } },
    flops_per_token: countFlops(architecture, { sequenceLength: train.sequence_length }).total,
  });
}

async function trainHere(
  job: TrainingJob,
  context: StageContext<TrainParams>,
  hooks: TrainingHooks,
): Promise<TrainingResult> {
  const gpu = await sharedGpu();
  context.provenance?.(gpuProvenance(gpu));
  const { signal, assertInKey: onLoad } = context;
  return await trainModel(job, { gpu, hooks, signal, onLoad });
}
