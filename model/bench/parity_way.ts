/**
 * One way of training, measured: its curve, its speed, and whether it gives the same bits twice and after a stop.
 *
 * @module
 */

import { loadCheckpoint, saveCheckpoint } from "../checkpoint/checkpoint.ts";
import type { ModelConfig } from "../config.ts";
import type { Gpu, Runtime } from "../gpu/device.ts";
import type { MemoryLine } from "../gpu/memory.ts";
import { batchesOfUpdate, type Sampler } from "../training/sampler.ts";
import { tokensPerStep, type TrainSection } from "../training/config.ts";
import type { StepRecord, Trainer } from "../training/trainer.ts";
import { weightsDigest } from "../training/weights_digest.ts";
import type { GradientParity } from "./gradient_parity.ts";
import { Marks } from "./marks.ts";
import { roundWeights } from "./round_weights.ts";
import { type Timing, timingOf } from "./timing.ts";
import { withTrainer } from "./with_trainer.ts";

/** A runtime and a precision. */
export interface Way {
  /** Whose WebGPU. */
  readonly runtime: Runtime;
  /** What matrix products compute with. */
  readonly precision: TrainSection["precision"];
  /**
   * Starts from weights rounded to halves, once, and trains in f32: how far the model goes from itself after so small a change is what the
   * difference of mixed precision is to be measured by.
   */
  readonly rounded?: true | undefined;
}

/** What a way is called: `dawn:mixed`, `deno:f32:rounded`. */
export function wayName({ runtime, precision, rounded }: Way): string {
  return `${runtime}:${precision}${rounded ? ":rounded" : ""}`;
}

/** What is asked for beside the curve. */
export interface IdentityOptions {
  /** Updates after which bits are compared; all of the run's unless given, at least 2. */
  readonly steps?: number;
  /** Train a second time. */
  readonly twice: boolean;
  /** Stop at half, and go on from a checkpoint in a new trainer. */
  readonly resume: boolean;
}

/** Updates after which bits are compared; nothing when that is not asked for. */
export function comparedSteps(
  { identity, steps }: { identity?: IdentityOptions | undefined; steps: number },
): number | undefined {
  return identity?.twice || identity?.resume ? Math.min(identity.steps ?? steps, steps) : undefined;
}

/** A second training held against the first. */
export interface SameBits {
  /** Whether every loss that both have is the same number. */
  readonly same_losses: boolean;
  /** Whether all weights are the same bits. */
  readonly same_weights: boolean;
  /** SHA-256 of the second's weights. */
  readonly weights_sha256: string;
}

/** Whether a way gives the same bits again. */
export interface Identity {
  /** Updates after which weights are compared. */
  readonly steps: number;
  /** SHA-256 of the first run's weights then. */
  readonly weights_sha256: string;
  /** A second run from the beginning. */
  readonly twice?: SameBits;
  /** A run that was stopped and went on. */
  readonly resumed?: SameBits & {
    /** Updates in the checkpoint that it went on from. */
    readonly stopped_at: number;
  };
}

/** What one way gave. */
export interface WayResult extends Way {
  /** Its name: `deno:f32`. */
  readonly way: string;
  /** Name of the adapter. */
  readonly adapter: string;
  /** Whether a processor plays GPU. */
  readonly software: boolean;
  /** When it was begun, ISO 8601. */
  readonly date: string;
  /** Mean cross-entropy of each update, nats; null where it was not finite. */
  readonly losses: readonly (number | null)[];
  /** Norm of each update's gradient before clipping; null where it was not finite. */
  readonly gradient_norms: readonly (number | null)[];
  /** Loss scale of each update; 1 in f32. */
  readonly loss_scales: readonly number[];
  /** Updates that were skipped as something was not finite, by number from 0. */
  readonly skipped: readonly number[];
  /** Tokens of an update over the median of its seconds. */
  readonly tokens_per_second: number;
  /** Seconds of an update. */
  readonly step: Timing;
  /** Which clock timed them. */
  readonly clock: "device" | "host";
  /** Bytes on the device, all that the trainer takes. */
  readonly peak_bytes: number;
  /** Those bytes by owner. */
  readonly memory: readonly MemoryLine[];
  /** SHA-256 of weights and running statistics after the last update. */
  readonly weights_sha256: string;
  /** There when it was interrupted: what was asked for is there as far as it went. */
  readonly stopped?: true;
  /** Absent when it was not asked for. */
  readonly identity?: Identity;
  /** Absent when it was not asked for, and for the way that is the reference itself. */
  readonly gradients?: GradientParity;
  /** Of the way that is the reference: how far its gradient is from itself when the weights are rounded to halves. */
  readonly rounding?: GradientParity;
}

/** What is trained, alike in every way. */
export interface WayOptions {
  /** Sizes of the model. */
  readonly config: ModelConfig;
  /** How it is trained, but for the precision. */
  readonly train: TrainSection;
  /** Chooses the weights. */
  readonly seed: number;
  /** Gives the text. */
  readonly sampler: Sampler;
  /** Updates. */
  readonly steps: number;
  /** What is compared with itself. */
  readonly identity?: IdentityOptions | undefined;
  /** Folder for a checkpoint; only its own is removed from it. */
  readonly folder: string;
  /** Says what is being done. */
  progress(line: string): void;
  /** Stops between updates; the curve up to there is kept. */
  readonly signal?: AbortSignal | undefined;
}

/** Updates between two looks at the device: as many records as wait at once, and steps that are timed without a pause. */
const LOOK_EVERY = 20;

/**
 * Trains one way on an open device, again where bits are to be compared, and frees all that it took.
 *
 * @throws What the signal was aborted with, if that was before there was anything to keep.
 */
export async function measureWay(
  gpu: Gpu,
  options: WayOptions & Omit<Way, "runtime">,
): Promise<WayResult> {
  return await new WayRun(gpu, options).measure();
}

/** What a stretch of training recorded. */
interface Stretch {
  readonly records: readonly StepRecord[];
  readonly seconds: readonly number[];
}

class WayRun {
  readonly #gpu: Gpu;
  readonly #options: WayOptions;
  readonly #train: TrainSection;
  readonly #rounded: boolean;
  readonly #way: string;

  constructor(gpu: Gpu, options: WayOptions & Omit<Way, "runtime">) {
    const { precision, rounded, train } = options;
    this.#gpu = gpu;
    this.#options = options;
    this.#train = { ...train, precision };
    this.#rounded = rounded === true;
    this.#way = wayName({ runtime: gpu.runtime, precision, rounded });
  }

  async measure(): Promise<WayResult> {
    const { steps, signal } = this.#options;
    const date = new Date().toISOString();
    const compared = comparedSteps(this.#options);
    const first = await this.#curve(compared);
    const { records, seconds, memory, digest } = first;
    if (records.length === 0) signal?.throwIfAborted();
    const identity = compared === undefined ? undefined : await this.#identity(compared, first);
    const stopped = records.length < steps || (compared !== undefined && identity === undefined);
    const step = timingOf(seconds);
    const finite = (value: number) => Number.isFinite(value) ? value : null;
    return {
      way: this.#way,
      runtime: this.#gpu.runtime,
      precision: this.#train.precision,
      ...this.#rounded && { rounded: true },
      adapter: this.#gpu.adapter.description,
      software: this.#gpu.adapter.software,
      date,
      losses: records.map(({ loss }) => finite(loss)),
      gradient_norms: records.map(({ grad_norm }) => finite(grad_norm)),
      loss_scales: records.map(({ loss_scale }) => loss_scale),
      skipped: records.filter(({ applied }) => !applied).map(({ step }) => step),
      tokens_per_second: tokensPerStep(this.#train) / step.median,
      step,
      clock: this.#gpu.capabilities.timestamps ? "device" : "host",
      peak_bytes: memory.total,
      memory: memory.lines,
      weights_sha256: digest,
      ...stopped && { stopped },
      ...identity && { identity },
    };
  }

  /** The run that is shown; `compared` is where its weights are hashed on the way. */
  async #curve(compared: number | undefined) {
    const { steps } = this.#options;
    return await this.#withTrainer(async (trainer) => {
      const begin = await this.#trainUntil(trainer, compared ?? steps, "training");
      const digestThen = await weightsDigest(trainer);
      const rest = await this.#trainUntil(trainer, steps, "training");
      return {
        records: [...begin.records, ...rest.records],
        seconds: [...begin.seconds, ...rest.seconds],
        memory: trainer.memory,
        digestThen,
        digest: rest.records.length === 0 ? digestThen : await weightsDigest(trainer),
      };
    });
  }

  /** Trains again: once with a checkpoint written at half, and once from that checkpoint. Nothing when that was interrupted. */
  async #identity(
    steps: number,
    first: { records: readonly StepRecord[]; digestThen: string },
  ): Promise<Identity | undefined> {
    const { signal } = this.#options;
    const { twice, resume } = this.#options.identity!;
    const half = Math.floor(steps / 2);
    const checkpoint = `${this.#options.folder}/${this.#way.replaceAll(":", "-")}-checkpoint`;
    const compare = async (trainer: Trainer, records: readonly StepRecord[]): Promise<SameBits> => {
      const weights_sha256 = await weightsDigest(trainer);
      return {
        same_losses: records.every(({ step, loss }) => Object.is(loss, first.records[step]?.loss)),
        same_weights: weights_sha256 === first.digestThen,
        weights_sha256,
      };
    };
    const trainUntil = async (trainer: Trainer, until: number, what: string) => {
      const { records } = await this.#trainUntil(trainer, until, what);
      signal?.throwIfAborted();
      return records;
    };
    try {
      signal?.throwIfAborted();
      const again = await this.#withTrainer(async (trainer) => {
        const records = await trainUntil(trainer, resume ? half : steps, "second run");
        if (resume) {
          this.#say(`writing a checkpoint after update ${half}`);
          await saveCheckpoint(checkpoint, trainer, { step: half, best: null });
        }
        if (!twice) return undefined;
        const rest = await trainUntil(trainer, steps, "second run");
        return await compare(trainer, [...records, ...rest]);
      });
      // Other weights at first: what the checkpoint does not bring would show.
      const resumed = resume && await this.#withTrainer(async (trainer) => {
        await loadCheckpoint(checkpoint, trainer);
        const records = await trainUntil(trainer, steps, "resumed run");
        return { stopped_at: half, ...await compare(trainer, records) };
      }, this.#options.seed + 1);
      return {
        steps,
        weights_sha256: first.digestThen,
        ...again && { twice: again },
        ...resumed && { resumed },
      };
    } catch (error) {
      if (signal?.aborted && error === signal.reason) return undefined;
      throw error;
    } finally {
      await Deno.remove(checkpoint, { recursive: true }).catch(() => {});
    }
  }

  #withTrainer<T>(work: (trainer: Trainer) => Promise<T>, seed?: number): Promise<T> {
    const options = {
      config: this.#options.config,
      train: this.#train,
      seed: seed ?? this.#options.seed,
    };
    return withTrainer(this.#gpu, options, async (trainer) => {
      if (this.#rounded) await roundWeights(trainer);
      return await work(trainer);
    });
  }

  /** Trains until so many updates are done, or it is interrupted. */
  async #trainUntil(trainer: Trainer, until: number, what: string): Promise<Stretch> {
    const { sampler, signal } = this.#options;
    const gpu = this.#gpu;
    const records: StepRecord[] = [];
    const seconds: number[] = [];
    while (trainer.step < until && !signal?.aborted) {
      const room = Math.min(LOOK_EVERY, until - trainer.step);
      using marks = gpu.capabilities.timestamps ? new Marks(gpu, room + 1) : undefined;
      const start = performance.now();
      marks?.set();
      let count = 0;
      for (; count < room && !signal?.aborted; count++) {
        trainer.update(batchesOfUpdate(sampler, trainer.step, trainer.train));
        marks?.set();
      }
      const times = await marks?.read();
      records.push(...await trainer.records());
      const mean = (performance.now() - start) / 1000 / count;
      for (let i = 0; i < count; i++) seconds.push(times ? times[i + 1]! - times[i]! : mean);
      const rate = Math.round(tokensPerStep(this.#train) / mean);
      this.#say(
        `${what}, update ${trainer.step}: loss ${
          records.at(-1)!.loss.toFixed(4)
        }, ${rate} tokens/s`,
      );
    }
    return { records, seconds };
  }

  #say(line: string): void {
    this.#options.progress(`${this.#way}: ${line}`);
  }
}
