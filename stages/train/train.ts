/**
 * Trains one model: the `train` stage.
 *
 * @module
 */

import { join } from "@std/path";
import { z } from "zod";
import { listCheckpoints, MODEL_FILE, shareCheckpoint } from "../../model/checkpoint/checkpoint.ts";
import { countFlops, countParameters } from "../../model/trunk/counts.ts";
import { acceptedModel, kindModules, loadArchitecture } from "../../model/load.ts";
import { lastStep, sampleSection, trainSchema } from "../../model/training/config.ts";
import type { TrainingHooks, TrainingResult } from "../../model/training/training.ts";
import { defineStage, SAMPLES_FILE, type StageContext } from "../../pipeline/stage.ts";
import { type Dataset, datasetFiles, openDatasetFiles, VOCABULARY_FILE } from "../dataset.ts";
import { chosenRuntime, gpuProvenance, sharesProcessor, takeGpu } from "../shared_gpu.ts";
import { chosenRanks } from "./ranks/chosen.ts";
import { PARTS } from "./registry.ts";
import { RANK_MODULE, trainOnRanks } from "./ranks/launch.ts";
import {
  copyRows,
  copySamples,
  FINISHED,
  INITIAL,
  linkFinished,
  locateStart,
  publishedStartModules,
  summarizeStart,
} from "./start.ts";
import { THREAD_MODULE, trainInThread } from "./thread/launch.ts";
import { type TrainingJob, trainModel } from "./train_model.ts";

const paramsSchema = z.strictObject({
  model: acceptedModel,
  train: trainSchema,
  seed: z.int().min(0).max(2 ** 31 - 1),
});

/** Parameters of the stage. */
export type TrainParams = z.infer<typeof paramsSchema>;

/** The `train` stage: a checkpoint with the samples of text beside it, a summary, and the curve as metrics. */
export const train = defineStage<TrainParams>({
  name: "train",
  description: "Train a model on the tokens; resumes from its last checkpoint",
  module: import.meta.url,
  workers: [RANK_MODULE, THREAD_MODULE],
  modules: ({ params, inputs }) => modulesOf(params, inputs[INITIAL] !== undefined),
  params: paramsSchema as z.ZodType<TrainParams>,
  outputs: { checkpoint: "directory", summary: "json" },
  resource: "gpu",
  run: runTrain,
});

function modulesOf({ model, train }: TrainParams, published: boolean): string[] {
  return [
    ...kindModules(model),
    ...published ? publishedStartModules() : [],
    ...sampleSection(train) ? [PARTS.samples.module] : [],
  ];
}

async function runTrain(context: StageContext<TrainParams>): Promise<void> {
  const { params, stateDir, metrics, samples, log, signal } = context;
  const { train, seed } = params;
  const files = datasetFiles(context);
  using dataset = await openDatasetFiles(files);
  const config = { ...params.model, vocab_size: dataset.vocab_size };
  const architecture = await loadArchitecture(config, { onLoad: context.assertInKey });
  const begun = await begin(context, dataset);
  const job = { config, train, seed, dataset: files, folder: checkpointsIn(stateDir), ...begun };
  const { initial } = train;
  const started = begun.start && initial && await summarizeStart(begun.start, architecture, {
    initial,
    onLoad: context.assertInKey,
    tell: (line) => log.info(line),
  });
  const progress = context.progress(lastStep(train), { unit: "updates" });
  const hooks: TrainingHooks = {
    rewind(step) {
      metrics.rewind(step + 1);
      samples.rewind(step + 1);
    },
    write: (step, values) => metrics.write(step, values),
    measure: (step, values) => metrics.measure(step, values),
    sample: (step, texts) => samples.write(step, texts),
    flush: () => metrics.flush(),
    progress: (step, remark) => progress.update(step, remark),
    info: (message) => log.info(message),
    warn: (message) => log.warn(message),
  };
  const ranks = chosenRanks();
  const elsewhere = {
    ...job,
    runtime: chosenRuntime(),
    modules: modulesOf(params, begun.start?.published === true),
  };
  const result = ranks > 1
    ? await trainOnRanks(elsewhere, {
      ranks,
      stateDir,
      hooks,
      signal,
      provenance: (values) => context.provenance?.({ ...values, ranks }),
    })
    : sharesProcessor()
    ? await trainInThread(elsewhere, {
      hooks,
      signal,
      // Speeds that are measured are those of a training that shares the cores.
      provenance: (values) => context.provenance?.({ ...values, beside: "another node" }),
    })
    : await trainHere(job, context, hooks);
  const output = context.output("checkpoint");
  await Deno.mkdir(join(output, "best"), { recursive: true });
  // They stay in the state folder until they are published: a kill in between must find them there.
  await shareCheckpoint(result.lastPath, join(output, "last"));
  await shareCheckpoint(result.bestPath, join(output, "best", MODEL_FILE));
  await Deno.writeTextFile(join(output, VOCABULARY_FILE), dataset.vocabulary);
  if (sampleSection(train)) await Deno.writeTextFile(join(output, SAMPLES_FILE), samples.text());
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
    ...started !== undefined && { initial: started },
  });
}

async function trainHere(
  job: TrainingJob,
  context: StageContext<TrainParams>,
  hooks: TrainingHooks,
): Promise<TrainingResult> {
  using taken = await takeGpu();
  const { gpu } = taken;
  context.provenance?.(gpuProvenance(gpu));
  const { signal, assertInKey: onLoad } = context;
  return await trainModel(job, { gpu, hooks, signal, onLoad });
}

function checkpointsIn(stateDir: string): string {
  return join(stateDir, "checkpoints");
}

/** The weights that the training starts from, or the finished training that it extends. */
async function begin(
  context: StageContext<TrainParams>,
  dataset: Dataset,
): Promise<Pick<TrainingJob, "start" | "from">> {
  const { params: { train }, inputs, stateDir, metrics, samples } = context;
  const [finished] = inputs[FINISHED] ?? [];
  if (train.extend !== undefined && finished === undefined) {
    throw new Error(`${context.node.name} has no input named ${FINISHED} to extend`);
  }
  if (finished === undefined) {
    return train.initial ? { start: await locateStart(train.initial, context, dataset) } : {};
  }
  const attempts = await listCheckpoints(checkpointsIn(stateDir));
  if (attempts.length === 0) {
    await copyRows(finished, metrics);
    await copySamples(finished, samples);
  }
  return { from: await linkFinished(finished, join(stateDir, FINISHED)) };
}
