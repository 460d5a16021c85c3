/**
 * Trains one model: the `train` stage.
 *
 * @module
 */

import { join } from "@std/path";
import { z } from "zod";
import { MODEL_FILE, shareCheckpoint } from "../../model/checkpoint/checkpoint.ts";
import { loadInitialModel } from "../../model/checkpoint/initial_model.ts";
import { countFlops, countParameters } from "../../model/trunk/counts.ts";
import { acceptedModel, kindModules, loadArchitecture } from "../../model/load.ts";
import { type InitialSection, trainSchema } from "../../model/training/config.ts";
import { Trainer } from "../../model/training/trainer.ts";
import { runTraining } from "../../model/training/training.ts";
import { defineStage, type StageContext } from "../../pipeline/stage.ts";
import { openDataset, VOCABULARY_FILE } from "../dataset.ts";
import { gpuProvenance, sharedGpu } from "../shared_gpu.ts";
import { assertSameVocabulary, fileDigest, initialModelFile } from "./initial.ts";

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
  modules: ({ params }) => kindModules(params.model),
  params: paramsSchema as z.ZodType<TrainParams>,
  outputs: { checkpoint: "directory", summary: "json" },
  resource: "gpu",
  run: runTrain,
});

async function runTrain(context: StageContext<TrainParams>): Promise<void> {
  const { params, stateDir, metrics, log, signal } = context;
  const gpu = await sharedGpu();
  context.provenance?.(gpuProvenance(gpu));
  using dataset = await openDataset(context);
  const { train, seed } = params;
  const config = { ...params.model, vocab_size: dataset.vocab_size };
  const architecture = await loadArchitecture(config, { onLoad: context.assertInKey });
  const trainer = await Trainer.create(gpu, { architecture, train, seed });
  try {
    if (train.initial) await start(trainer, train.initial, dataset.vocabulary);
    const progress = context.progress(trainer.steps, { unit: "updates" });
    const result = await runTraining(trainer, {
      data: {
        train: dataset.split("train"),
        validation: dataset.split("validation"),
        byteLength: dataset.byteLength,
        endoftext: dataset.tokenizer.endoftext,
      },
      seed,
      folder: join(stateDir, "checkpoints"),
      signal,
      hooks: {
        rewind: (step) => metrics.rewind(step + 1),
        write: (step, values) => metrics.write(step, values),
        measure: (step, values) => metrics.measure(step, values),
        flush: () => metrics.flush(),
        progress: (step, remark) => progress.update(step, remark),
        info: (message) => log.info(message),
        warn: (message) => log.warn(message),
      },
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
  } finally {
    trainer.destroy();
  }
}

/** Gives a trainer the weights that the section names. Where there is a checkpoint of this training, it replaces them afterwards. */
async function start(trainer: Trainer, initial: InitialSection, vocabulary: string): Promise<void> {
  const path = await initialModelFile(initial.checkpoint);
  if (initial.fingerprint !== undefined && initial.fingerprint !== await fileDigest(path)) {
    throw new Error(
      `train.initial.checkpoint ${path} changed after the experiment was planned; run it again`,
    );
  }
  await assertSameVocabulary(path, vocabulary);
  await loadInitialModel(path, trainer, initial);
}
