/**
 * One training, in whichever process it runs: the stage's own, or one of several ranks.
 *
 * @module
 */

import { loadInitialModel } from "../../model/checkpoint/initial_model.ts";
import type { Gpu } from "../../model/gpu/device.ts";
import { loadArchitecture, type LoadOptions } from "../../model/load.ts";
import type { ModelConfig } from "../../model/section.ts";
import type { TextSampler } from "../../model/inference/text_samples.ts";
import { sampleSection, type TrainSection } from "../../model/training/config.ts";
import type { Ranks } from "../../model/training/groups/ranks.ts";
import { Trainer } from "../../model/training/trainer.ts";
import {
  type FinishedTraining,
  followTraining,
  runTraining,
  type TrainingHooks,
  type TrainingResult,
} from "../../model/training/training.ts";
import { type Dataset, type DatasetFiles, openDatasetFiles } from "../dataset.ts";
import type { StartFiles } from "./initial.ts";
import { PARTS } from "./registry.ts";
import { openStart } from "./start.ts";

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
  /** Weights to start from, which a checkpoint in the folder replaces. */
  readonly start?: StartFiles;
  /** A finished training to go on from, unless there is a checkpoint in the folder. */
  readonly from?: FinishedTraining;
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
    const { start, from, train: { initial } } = job;
    if (start && initial) {
      using opened = await openStart(start, options);
      await loadInitialModel(opened.source, trainer, initial);
    }
    using sampler = await createSampler(job, trainer, { ...options, dataset });
    const every = sampleSection(job.train)?.every;
    return await runTraining(trainer, {
      data: {
        train: dataset.split("train"),
        validation: dataset.split("validation"),
        byteLength: dataset.byteLength,
        endoftext: dataset.tokenizer.endoftext,
      },
      seed: job.seed,
      folder: job.folder,
      ...(from && { from }),
      ...(sampler && every && { samples: { every, take: (step) => sampler.take(step) } }),
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

/** Writes texts during the training, where the configuration asks for them. */
async function createSampler(
  { train, seed }: TrainingJob,
  trainer: Trainer,
  { dataset, onLoad }: LoadOptions & { readonly dataset: Dataset },
): Promise<TextSampler | undefined> {
  const section = sampleSection(train);
  if (section === undefined) return undefined;
  onLoad?.(PARTS.samples.module);
  const { TextSampler } = await PARTS.samples.load();
  const { tokenizer } = dataset;
  return await TextSampler.create(trainer, { ...section, tokenizer, seed });
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
