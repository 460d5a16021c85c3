/**
 * Trains one model on one text in several ways, and compares: loss curves of runtimes and precisions with each other, and the bits of
 * one way with itself, a second time and after a resume.
 *
 * @module
 */

import { loadCheckpoint, saveCheckpoint } from "../checkpoint/checkpoint.ts";
import type { Gpu, Runtime } from "../gpu/device.ts";
import { openGpu } from "../gpu/open.ts";
import { tokensPerStep, type TrainSection } from "../training/config.ts";
import type { TokenSource } from "../text/token_source.ts";
import { batchesOfUpdate, Sampler } from "../training/sampler.ts";
import { METRICS_RING } from "../ops/control.ts";
import type { Trainer } from "../training/trainer.ts";
import { weightsDigest } from "../training/weights_digest.ts";
import type { Architecture } from "../trunk/architecture.ts";
import { withTrainer } from "./measure/with_trainer.ts";

/** A runtime and a precision. */
export interface Way {
  readonly runtime: Runtime;
  readonly precision: TrainSection["precision"];
}

/** A way's name: `dawn:mixed`. */
export function wayName({ runtime, precision }: Way): string {
  return `${runtime}:${precision}`;
}

/** Options of {@linkcode measureParity}. */
export interface ParityOptions {
  readonly architecture: Architecture;
  /** How it is trained; each way has its own precision. */
  readonly train: TrainSection;
  /** Chooses weights and the order of the text. */
  readonly seed: number;
  readonly text: TokenSource;
  /** The first is the one that the others are compared with. */
  readonly ways: readonly Way[];
  /** Updates of each way. */
  readonly steps: number;
  /** Train each way a second time and compare bits. */
  readonly twice: boolean;
  /** Stop each way at half, go on from a checkpoint in a new trainer, and compare bits. */
  readonly resume: boolean;
  /** Holds a checkpoint meanwhile, 12 bytes a parameter. */
  readonly folder: string;
  /** Opens a device; {@linkcode openGpu} unless given. */
  open?(runtime: Runtime): Promise<Gpu>;
  /** Told each step of the work. */
  progress(line: string): void;
  readonly signal?: AbortSignal | undefined;
}

/** A second training compared with the first, bit by bit. */
export interface SameBits {
  /** Whether every loss that both have is the same number. */
  readonly same_losses: boolean;
  /** Whether all weights and running statistics are the same bits. */
  readonly same_weights: boolean;
}

/** One way, trained. */
export interface WayResult extends Way {
  readonly adapter: string;
  /** Mean cross-entropy of each update, nats; null where it was not finite. */
  readonly losses: readonly (number | null)[];
  /** Updates that were skipped because a number was not finite. */
  readonly skipped: number;
  readonly tokens_per_second: number;
  /** Bytes on the device. */
  readonly peak_bytes: number;
  /** SHA-256 of weights and running statistics after the last update. */
  readonly weights_sha256: string;
  readonly twice?: SameBits;
  readonly resumed?: SameBits;
  /** The largest difference from the first way's loss in one update, nats; null where a loss was not finite. Absent for the first. */
  readonly difference?: { readonly nats: number | null; readonly step: number };
}

/**
 * Trains in each way, one after another: each opens its device, trains, and frees everything before the next begins.
 *
 * @throws {RangeError} If there is no text for a sequence, or a run of one update is to be stopped at half.
 */
export async function measureParity(options: ParityOptions): Promise<WayResult[]> {
  const { steps, resume, signal, open = (runtime) => openGpu({ runtime }) } = options;
  if (resume && steps < 2) throw new RangeError("A run of 1 update can't be stopped at half");
  const results: WayResult[] = [];
  for (const way of options.ways) {
    signal?.throwIfAborted();
    options.progress(`${wayName(way)}: opening the device`);
    const gpu = await open(way.runtime);
    try {
      const result = await new WayRun(gpu, way, options).measure();
      const [first] = results;
      results.push(first ? { ...result, difference: largestDifference(result, first) } : result);
    } finally {
      gpu.close();
    }
  }
  return results;
}

/** The update where two curves are furthest apart, counted from 0. */
export function largestDifference(
  one: Pick<WayResult, "losses">,
  other: Pick<WayResult, "losses">,
): { nats: number | null; step: number } {
  let largest = { nats: 0, step: 0 };
  for (const [step, a] of one.losses.entries()) {
    const b = other.losses[step];
    if (typeof a !== "number" || typeof b !== "number") return { nats: null, step };
    if (Math.abs(a - b) > largest.nats) largest = { nats: Math.abs(a - b), step };
  }
  return largest;
}

class WayRun {
  readonly #gpu: Gpu;
  readonly #way: Way;
  readonly #options: ParityOptions;
  readonly #sampler: Sampler;

  constructor(gpu: Gpu, way: Way, options: ParityOptions) {
    this.#gpu = gpu;
    this.#way = way;
    this.#options = options;
    const { text, train, seed } = options;
    this.#sampler = new Sampler(text, { length: train.sequence_length, seed });
  }

  async measure(): Promise<WayResult> {
    const { steps, twice, resume, seed, train, folder } = this.#options;
    const half = Math.floor(steps / 2);
    const checkpoint = `${folder}/checkpoint`;
    const start = performance.now();
    const first = await this.#withTrainer(seed, async (trainer) => {
      const losses = await this.#train(trainer, resume ? half : steps, "training");
      if (resume) await saveCheckpoint(checkpoint, trainer, { step: half, best: null });
      losses.push(...await this.#train(trainer, steps, "training"));
      return {
        losses,
        skipped: (await trainer.readControl()).skipped,
        peak_bytes: trainer.memory.total,
        seconds: (performance.now() - start) / 1000,
        weights_sha256: await weightsDigest(trainer),
      };
    });
    const compare = async (trainer: Trainer, from: number, what: string): Promise<SameBits> => {
      const losses = await this.#train(trainer, steps, what);
      return {
        same_losses: losses.every((loss, i) => Object.is(loss, first.losses[from + i])),
        same_weights: await weightsDigest(trainer) === first.weights_sha256,
      };
    };
    const again = twice &&
      await this.#withTrainer(seed, (trainer) => compare(trainer, 0, "second run"));
    // Its weights are others at first, so that anything the checkpoint leaves out shows.
    const resumed = resume && await this.#withTrainer(seed + 1, async (trainer) => {
      await loadCheckpoint(checkpoint, trainer);
      return await compare(trainer, half, "resumed run");
    });
    await Deno.remove(checkpoint, { recursive: true }).catch(() => {});
    const { seconds, losses, ...rest } = first;
    return {
      ...this.#way,
      adapter: this.#gpu.adapter.description,
      losses: losses.map((loss) => Number.isFinite(loss) ? loss : null),
      ...rest,
      tokens_per_second: steps * tokensPerStep(train) / seconds,
      ...again && { twice: again },
      ...resumed && { resumed },
    };
  }

  #withTrainer<T>(seed: number, work: (trainer: Trainer) => Promise<T>): Promise<T> {
    const { architecture, train } = this.#options;
    const { precision } = this.#way;
    return withTrainer(this.#gpu, { architecture, train: { ...train, precision }, seed }, work);
  }

  /** Trains until so many updates are done, and returns their losses. */
  async #train(trainer: Trainer, until: number, what: string): Promise<number[]> {
    const losses: number[] = [];
    while (trainer.step < until) {
      const stop = Math.min(until, trainer.step + Math.min(20, METRICS_RING));
      while (trainer.step < stop) {
        this.#options.signal?.throwIfAborted();
        await trainer.update(batchesOfUpdate(this.#sampler, trainer.step, trainer.train));
      }
      for (const { loss } of await trainer.records()) losses.push(loss);
      const { progress } = this.#options;
      progress(
        `${wayName(this.#way)}: ${what}, update ${trainer.step}: loss ${losses.at(-1)!.toFixed(4)}`,
      );
    }
    return losses;
  }
}
