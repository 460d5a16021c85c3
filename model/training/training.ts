/**
 * A training run: data in, checkpoints and numbers out, from wherever an earlier attempt stopped.
 *
 * @module
 */

import { dirname } from "@std/path";
import { replaceFile } from "../checkpoint/atomic.ts";
import {
  type BestModel,
  bestModelPath,
  checkpointPath,
  listCheckpoints,
  loadCheckpoint,
  pruneCheckpoints,
  readCheckpointState,
  removeCheckpoint,
  saveBestModel,
  saveCheckpoint,
  shareCheckpoint,
  verifyCheckpoint,
} from "../checkpoint/checkpoint.ts";
import { bitsPerByte } from "../inference/evaluator.ts";
import { Documents } from "../text/documents.ts";
import type { TextSample } from "../inference/text_samples.ts";
import type { TokenSource } from "../text/token_source.ts";
import {
  batchesOfUpdate,
  type BatchSource,
  DocumentSampler,
  Sampler,
  type TokenBatch,
} from "./sampler.ts";
import { agree, shareState } from "./groups/agreement.ts";
import type { StepRecord, Trainer } from "./trainer.ts";
import {
  layerStatistics,
  usageHistograms,
  usageStatistics,
} from "../inference/usage_statistics.ts";

/** The data that a run reads. */
export interface TrainingData {
  /** Tokens to train on. */
  readonly train: TokenSource;
  /** Tokens that evaluations during training score. */
  readonly validation: TokenSource;
  /** UTF-8 bytes that a token stands for; 0 for the one between documents. */
  byteLength(token: number): number;
  /** The token that documents end in. */
  readonly endoftext: number;
}

/** Callbacks through which a run reports its progress. A step is the number of updates done. */
export interface TrainingHooks {
  /** A resumed run repeats the steps after `step`: rows beyond it are void. */
  rewind(step: number): void;
  /** Numbers that follow from configuration and adapter; null for one that is beyond float64. */
  write(step: number, values: Readonly<Record<string, number | null>>): void;
  /** Numbers that a clock or an allocator said. */
  measure(step: number, values: Readonly<Record<string, number>>): void;
  /** Texts that the model wrote after an update; on disk when this returns. */
  sample(step: number, samples: readonly TextSample[]): void;
  /** Called before each checkpoint: what was written so far must survive with it. */
  flush(): void | Promise<void>;
  /** How far it is, with a remark such as the latest loss. */
  progress(step: number, remark: string): void;
  /** Something worth knowing. */
  info(message: string): void;
  /** Something that may be wrong. */
  warn(message: string): void;
}

interface TrainingOptions {
  /** Tokens to train and to evaluate on. */
  readonly data: TrainingData;
  /** Chooses the order of the data. */
  readonly seed: number;
  /** Holds checkpoints; found again by a later attempt. */
  readonly folder: string;
  /** Told what happens. */
  readonly hooks: TrainingHooks;
  /** Goes on from its end. */
  readonly from?: FinishedTraining;
  /** Writes texts after each `every` updates, and after the last. */
  readonly samples?: TrainingSamples;
  /** When aborted, the run writes a checkpoint at the next safe place and throws. */
  readonly signal?: AbortSignal;
}

/** Samples of text during a training. */
export interface TrainingSamples {
  /** Updates between two times. */
  readonly every: number;
  /** Texts with the weights as they are, which it leaves so. */
  take(step: number): Promise<readonly TextSample[]>;
}

/** A finished training to go on from. */
export interface FinishedTraining {
  /** Folder of its last checkpoint. */
  readonly checkpoint: string;
  /** File of its best model. */
  readonly best: string;
}

/** How a run ended. */
export interface TrainingResult {
  /** Updates done. */
  readonly step: number;
  /** Predictions learned from, padding aside. */
  readonly tokens: number;
  /** The last evaluation: update, held-out nats a token, and bits per byte of UTF-8 (null when the text has none). */
  readonly last: {
    readonly step: number;
    readonly nats: number;
    readonly bits_per_byte: number | null;
  };
  /** The evaluation with the lowest loss, among those that `train.best_of` admits. */
  readonly best: { readonly step: number; readonly nats: number };
  /** Skipped updates. */
  readonly skipped: number;
  /** Folder of the last checkpoint. */
  readonly lastPath: string;
  /** File of the best model. */
  readonly bestPath: string;
}

/** Training stopped because update after update was not finite. */
export class DivergedError extends Error {
  /** Name of the class, as printed. */
  override name = "DivergedError";
}

/** Updates between two looks at the device, when nothing else asks for one. */
const LOOK_EVERY = 32;

/** Seconds from one look to the next up to which the device goes on in between. */
const FREQUENT = 1;

/**
 * Trains to the end, from the last checkpoint in `folder` that is whole, if there is one. A damaged one is warned of and removed.
 *
 * The order of the data depends on the seed and the position only, and a checkpoint holds everything else that a step reads, so
 * a run that was killed ends in the bits of one that was not.
 *
 * @throws {DivergedError} When `max_non_finite_steps` updates in a row were not finite.
 */
export async function runTraining(
  trainer: Trainer,
  options: TrainingOptions,
): Promise<TrainingResult> {
  return await new Run(trainer, options).run();
}

/**
 * Trains along in a rank other than the first, which does all that is neither a gradient nor an update: it finds the checkpoint, evaluates, saves
 * and reports.
 *
 * @returns When the training is at its end, or the first rank was asked to stop.
 */
export async function followTraining(
  trainer: Trainer,
  options: SamplerOptions,
): Promise<void> {
  const sampler = samplerOf(trainer, options);
  await shareState(trainer);
  while (trainer.step < trainer.steps) {
    if (await agree(trainer.ranks, false)) return;
    await trainer.update(ownBatches(trainer, sampler));
    // They are the first rank's records; room in the ring is all that they are read for.
    if (trainer.step % LOOK_EVERY === 0) await trainer.records();
  }
}

/** The text that batches come from, and the seed of their order. */
interface SamplerOptions {
  readonly data: Pick<TrainingData, "train" | "endoftext">;
  readonly seed: number;
}

function samplerOf({ train }: Trainer, { data, seed }: SamplerOptions): BatchSource {
  const { sequence_length: length, documents } = train;
  const { endoftext } = data;
  return documents === "single"
    ? new DocumentSampler(Documents.scan(data.train, { endoftext }), { length, seed, endoftext })
    : new Sampler(data.train, { length, seed });
}

/** The batches of the next update that this process computes. */
function ownBatches({ step, train, microBatches }: Trainer, sampler: BatchSource): TokenBatch[] {
  return batchesOfUpdate(sampler, step, { ...train, ...microBatches });
}

class Run {
  readonly #trainer: Trainer;
  readonly #options: TrainingOptions;
  readonly #sampler: BatchSource;
  /** Predictions of the first updates. */
  #seen = { step: 0, tokens: 0 };
  #best: BestModel | null = null;
  #last: TrainingResult["last"] | undefined;
  #skipped = 0;
  /** Updates that the last checkpoint holds. */
  #saved = 0;
  /** Records that are being read. */
  #read: Promise<readonly StepRecord[]> | undefined;
  /** Seconds between the last two looks. */
  #between = Infinity;
  #mark = performance.now();
  #markStep = 0;
  #markTokens = 0;

  constructor(trainer: Trainer, options: TrainingOptions) {
    this.#trainer = trainer;
    this.#options = options;
    this.#sampler = samplerOf(trainer, options);
  }

  async run(): Promise<TrainingResult> {
    const { signal, folder, hooks } = this.#options;
    const { train, steps } = this.#trainer;
    await Deno.mkdir(folder, { recursive: true });
    await this.#resume();
    await shareState(this.#trainer);
    this.#restartClock();
    while (this.#trainer.step < steps) {
      if (await agree(this.#trainer.ranks, signal?.aborted ?? false)) await this.#stop(signal!);
      await this.#trainer.update(ownBatches(this.#trainer, this.#sampler));
      const step = this.#trainer.step;
      const end = step === steps;
      const evaluate = end || (train.evaluate_every > 0 && step % train.evaluate_every === 0);
      const save = end || step % train.checkpoint_every === 0;
      const look = step % Math.min(train.log_every, LOOK_EVERY) === 0;
      // Waiting leaves the device idle, which weighs where looks are frequent; where they are not, nobody wants to wait for the next one.
      const wait = this.#between > FREQUENT;
      if (evaluate || save || this.#samplesAt(step) || look && wait) await this.#look();
      else if (look) await this.#lookAhead();
      if (this.#samplesAt(step)) await this.#sample();
      if (evaluate) await this.#evaluate({ compete: save || train.best_of === "evaluations" });
      if (save) await this.#save();
    }
    this.#tellExchange();
    await hooks.flush();
    // A run that was resumed after its last update evaluated before it saved.
    const last = this.#last ?? await this.#evaluate({ compete: true });
    const { step, nats } = this.#best!;
    return {
      step: this.#trainer.step,
      tokens: this.#tokensAt(this.#trainer.step),
      last,
      best: { step, nats },
      skipped: this.#skipped,
      lastPath: checkpointPath(folder, steps),
      bestPath: bestModelPath(folder, step),
    };
  }

  /** Says where the time of updates by groups went. */
  #tellExchange(): void {
    const times = this.#trainer.exchange;
    if (!times || times.updates < 1) return;
    const of = (seconds: number) => `${(seconds / times.updates).toFixed(3)} s`;
    this.#options.hooks.info(
      `an update by groups: ${of(times.whole)}, of which ${
        of(times.after)
      } after its gradients were read back; the host copied for ${of(times.copied)}, added for ${
        of(times.added)
      } and wrote for ${of(times.written)}`,
    );
  }

  #samplesAt(step: number): boolean {
    const { samples } = this.#options;
    return samples !== undefined &&
      (step % samples.every === 0 || step === this.#trainer.steps);
  }

  /** Has the model write texts. */
  async #sample(): Promise<void> {
    const { hooks, samples } = this.#options;
    const { step } = this.#trainer;
    const texts = await samples!.take(step);
    const broken = texts.filter(({ finish }) => finish === "not_finite").length;
    if (broken > 0) {
      hooks.warn(
        `update ${step}: ${broken} of ${texts.length} samples met logits that are not finite`,
      );
    }
    hooks.sample(step, texts);
    this.#restartClock();
  }

  /** Predictions of the first `step` updates, which follow from the seed; `step` never falls. */
  #tokensAt(step: number): number {
    const { gradient_accumulation, micro_batch } = this.#trainer.train;
    const count = gradient_accumulation * micro_batch;
    for (; this.#seen.step < step; this.#seen.step++) {
      this.#seen.tokens += this.#sampler.predictions(this.#seen.step * count, count);
    }
    return this.#seen.tokens;
  }

  /** Keeps what was done since the last checkpoint, and leaves. */
  async #stop(signal: AbortSignal): Promise<void> {
    const { step } = this.#trainer;
    if (step > this.#saved) {
      await this.#look();
      await this.#save();
      this.#options.hooks.info(`saved after update ${step} of ${this.#trainer.steps}`);
    }
    signal.throwIfAborted();
  }

  async #resume(): Promise<void> {
    const { hooks } = this.#options;
    const checkpoint = await this.#lastWhole() ?? await this.#finished();
    if (!checkpoint) {
      hooks.rewind(0);
      return;
    }
    const state = await loadCheckpoint(checkpoint, this.#trainer);
    this.#best = state.best;
    this.#skipped = state.control.skipped;
    this.#saved = state.step;
    hooks.rewind(state.step);
    hooks.info(`resumed after update ${state.step} of ${this.#trainer.steps}`);
  }

  /** The checkpoint of the training that this one goes on from, if there is one, with its best model put where those of this one are. */
  async #finished(): Promise<string | undefined> {
    const { from, folder } = this.#options;
    if (from === undefined) return undefined;
    const { best } = await readCheckpointState(from.checkpoint);
    if (best) {
      const path = bestModelPath(folder, best.step);
      await Deno.mkdir(dirname(path), { recursive: true });
      await replaceFile(path, (partial) => shareCheckpoint(from.best, partial));
    }
    return from.checkpoint;
  }

  /** The last checkpoint that is as it was written. Removes later ones, which would count as newer than those that the run writes next. */
  async #lastWhole(): Promise<string | undefined> {
    const { folder, hooks } = this.#options;
    const beginning = this.#options.from ? "finished training" : "beginning";
    const checkpoints = await listCheckpoints(folder);
    for (let checkpoint; (checkpoint = checkpoints.pop());) {
      try {
        await verifyCheckpoint(checkpoint.path);
        return checkpoint.path;
      } catch (error) {
        const what = error instanceof Error ? error.message : error;
        const next = checkpoints.at(-1);
        hooks.warn(
          `the checkpoint after update ${checkpoint.step} is damaged and is left out: ${what}; ` +
            (next ? `trying that after update ${next.step}` : `starting from the ${beginning}`),
        );
        await removeCheckpoint(checkpoint.path);
      }
    }
  }

  /** Reads what the device recorded so far, and writes the rows that are due. */
  async #look(): Promise<void> {
    await this.#lookAhead();
    const last = this.#read;
    this.#read = undefined;
    await this.#tell(last);
  }

  /** Has the device's records read while further updates are submitted, so that it has work; writes those of the time before. */
  async #lookAhead(): Promise<void> {
    const before = this.#read;
    this.#read = this.#trainer.records();
    // A failure is met where they are awaited.
    this.#read.catch(() => {});
    await this.#tell(before);
  }

  /** Writes the rows of records that are due. */
  async #tell(read: Promise<readonly StepRecord[]> | undefined): Promise<void> {
    const { hooks } = this.#options;
    const { train, steps } = this.#trainer;
    const records = await read ?? [];
    let latest: StepRecord | undefined;
    for (const record of records) {
      const step = record.step + 1;
      if (!record.applied) {
        hooks.warn(
          `update ${step} was not finite and was skipped (loss scale ${record.loss_scale})`,
        );
      }
      if (record.skipped_in_row >= train.max_non_finite_steps) {
        throw new DivergedError(
          `${record.skipped_in_row} updates in a row were not finite, the last being update ${step}: ` +
            "lower train.learning_rate.peak, or look at the data",
        );
      }
      if (step % train.log_every === 0 || step === 1 || step === steps) {
        hooks.write(step, {
          tokens: this.#tokensAt(step),
          loss: record.loss,
          ...(this.#trainer.auxiliary ? { balance: record.balance } : {}),
          lr: record.lr,
          grad_norm: record.grad_norm,
          loss_scale: record.loss_scale,
          skipped: record.skipped,
        });
      }
      latest = record;
    }
    if (!latest) return;
    this.#skipped = latest.skipped;
    const step = latest.step + 1;
    const seconds = (performance.now() - this.#mark) / 1000;
    this.#between = seconds;
    const updates = step - this.#markStep;
    const rate = (this.#tokensAt(step) - this.#markTokens) / seconds;
    hooks.measure(step, {
      tokens_per_second: rate,
      step_seconds: seconds / updates,
      memory_bytes: this.#trainer.memory.total,
    });
    hooks.progress(step, `loss ${latest.loss.toFixed(3)}  ${Math.round(rate)} tokens/s`);
    this.#restartClock(step);
  }

  /** Scores held-out text; the model is kept as the best so far when it `compete`s and is. */
  async #evaluate({ compete }: { compete: boolean }): Promise<TrainingResult["last"]> {
    const { hooks, data } = this.#options;
    const { train } = this.#trainer;
    const step = this.#trainer.step;
    const result = await this.#trainer.evaluate(data.validation, {
      tokens: train.evaluate_tokens,
      documents: train.documents === "single" ? { endoftext: data.endoftext } : undefined,
      byteLength: (token) => data.byteLength(token),
    });
    const bits = bitsPerByte(result);
    hooks.write(step, {
      validation_nats: result.nats,
      validation_perplexity: result.perplexity,
      validation_bits_per_byte: bits,
      ...usageStatistics(result.usage),
      ...usageHistograms(result.usage),
    });
    // For whoever watches. As measured numbers they are part of no digest, whatever is added to them.
    if (result.usage.length > 0) hooks.measure(step, layerStatistics(result.usage));
    hooks.info(
      `update ${step}: validation ${result.nats.toFixed(4)} nats` +
        (bits === null ? "" : `, ${bits.toFixed(3)} bits/byte`),
    );
    if (compete && (this.#best === null || result.nats < this.#best.nats)) {
      const measured = { step, nats: result.nats };
      this.#best = await saveBestModel(this.#options.folder, this.#trainer, measured);
    }
    this.#last = { step, nats: result.nats, bits_per_byte: bits };
    this.#restartClock();
    return this.#last;
  }

  async #save(): Promise<void> {
    const { folder, hooks } = this.#options;
    const { step, train } = this.#trainer;
    // First the numbers: a resumed run forgets those beyond its checkpoint, and can't find again those before it.
    await hooks.flush();
    await saveCheckpoint(checkpointPath(folder, step), this.#trainer, { step, best: this.#best });
    this.#saved = step;
    await pruneCheckpoints(folder, train.keep_checkpoints);
    this.#restartClock();
  }

  /** Evaluations and checkpoints are no part of a step's time. */
  #restartClock(step: number = this.#trainer.step): void {
    this.#mark = performance.now();
    this.#markStep = step;
    this.#markTokens = this.#tokensAt(this.#markStep);
  }
}
