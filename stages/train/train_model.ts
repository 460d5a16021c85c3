/**
 * One training, in whichever process it runs: the stage's own, or one of several ranks.
 *
 * @module
 */

import { loadInitialModel } from "../../model/checkpoint/initial_model.ts";
import type { Gpu } from "../../model/gpu/device.ts";
import { loadArchitecture, type LoadOptions } from "../../model/load.ts";
import type { ModelConfig } from "../../model/section.ts";
import type { InitialSection, TrainSection } from "../../model/training/config.ts";
import type { Ranks } from "../../model/training/groups/ranks.ts";
import { Trainer } from "../../model/training/trainer.ts";
import {
  followTraining,
  runTraining,
  type TrainingHooks,
  type TrainingResult,
} from "../../model/training/training.ts";
import { type DatasetFiles, openDatasetFiles } from "../dataset.ts";
import { assertSameVocabulary, fileDigest, initialModelFile } from "./initial.ts";

/** A training's parameters and files; JSON can hold it. */
export interface TrainingJob {
  /** Sizes of the model, the vocabulary's among them. */
  readonly config: ModelConfig;
  readonly train: TrainSection;
  /** Chooses weights, the order of the data, and what dropout drops. */
  readonly seed: number;
  readonly dataset: DatasetFiles;
  /** Holds checkpoints. */
  readonly folder: string;
}

/** Options of {@linkcode trainModel} and {@linkcode followModel}. */
interface ProcessOptions extends LoadOptions {
  readonly gpu: Gpu;
  readonly ranks?: Ranks;
}

/** Trains a model to the end, from its last checkpoint where there is one, and tells the hooks how it goes. */
export async function trainModel(
  job: TrainingJob,
  options: ProcessOptions & { readonly hooks: TrainingHooks; readonly signal: AbortSignal },
): Promise<TrainingResult> {
  const { hooks, signal } = options;
  using dataset = await openDatasetFiles(job.dataset);
  const trainer = await createTrainer(job, options);
  try {
    const { initial } = job.train;
    if (initial) await start(trainer, initial, dataset.vocabulary);
    return await runTraining(trainer, {
      data: {
        train: dataset.split("train"),
        validation: dataset.split("validation"),
        byteLength: dataset.byteLength,
        endoftext: dataset.tokenizer.endoftext,
      },
      seed: job.seed,
      folder: job.folder,
      signal,
      hooks,
    });
  } finally {
    trainer.destroy();
  }
}

/** Trains along in a rank other than the first, until that one is done or stops. */
export async function followModel(job: TrainingJob, options: ProcessOptions): Promise<void> {
  using dataset = await openDatasetFiles(job.dataset);
  const trainer = await createTrainer(job, options);
  try {
    await followTraining(trainer, {
      data: { train: dataset.split("train"), endoftext: dataset.tokenizer.endoftext },
      seed: job.seed,
    });
  } finally {
    trainer.destroy();
  }
}

async function createTrainer(
  { config, train, seed }: TrainingJob,
  { gpu, ranks, ...load }: ProcessOptions,
): Promise<Trainer> {
  const architecture = await loadArchitecture(config, load);
  return await Trainer.create(gpu, {
    architecture,
    train,
    seed,
    ...(ranks && { ranks }),
  });
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
