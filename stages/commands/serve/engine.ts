/**
 * The one loop that computes for all clients: what waits to be scored goes through the model together, and the sequences that are
 * being generated take a step each.
 *
 * @module
 */

import { Generator } from "../../../model/inference/generator.ts";
import type { Prediction } from "../../../model/inference/log_probability.ts";
import type { InferenceModel } from "../../../model/inference/model.ts";
import { Scorer, type SequenceToScore } from "../../../model/inference/scorer.ts";

/** Sequences that a round scores at most, so that those that are being generated get their turn. */
const MOST_SCORED = 64;

/** Options of {@linkcode Engine.create}. */
export interface EngineOptions {
  /** Tokens of a sequence at most, prompt and what is generated together. */
  readonly context: number;
  /** Sequences that are generated at the same time; each has a cache of its own. */
  readonly sequences: number;
  /** Tokens that are scored at once, padding included. */
  readonly batch_tokens: number;
}

/** A sequence to score for a client. */
export interface ScoreJob extends SequenceToScore {
  /** Aborted when nobody waits for the result any more. */
  readonly signal: AbortSignal;
  /** Takes the prediction after the token at `position`, and the logits `[V]` where they are wanted; they are valid during the call. */
  take(position: number, prediction: Prediction, logits?: Float32Array): void;
}

/** A sequence to continue for a client. */
export interface GenerateJob {
  /** The prompt, at least one token. */
  readonly tokens: readonly number[];
  /** Aborted when nobody waits for the result any more. */
  readonly signal: AbortSignal;
  /** Chooses the next token from logits `[V]`; `undefined` ends the sequence. */
  next(logits: Float32Array): number | undefined;
}

/** A job and the promise of its end. */
interface Waiting<Job, Result> {
  readonly job: Job;
  resolve(result: Result): void;
  reject(reason: unknown): void;
}

/** A generator, and the job that it works on. */
interface Slot {
  readonly generator: Generator;
  work: Waiting<GenerateJob, "done" | "full"> | undefined;
  /** Tokens that the next step feeds. */
  tokens: readonly number[];
}

/** How much there is to do. */
export interface EngineLoad {
  /** Sequences that wait, to be scored or to be generated. */
  readonly waiting: number;
  /** Sequences that are being generated. */
  readonly generating: number;
}

/**
 * Computes for any number of clients, one step after another: nothing but its loop touches the device, so nothing runs into anything
 * else. A sequence's numbers do not depend on its company.
 *
 * A job whose signal is aborted is left at the next step, and its promise is rejected with the signal's reason. A job that fails fails
 * alone, unless the device is lost.
 */
export class Engine implements AsyncDisposable {
  readonly #scorer: Scorer;
  readonly #slots: readonly Slot[];
  readonly #toScore: Waiting<ScoreJob, void>[] = [];
  readonly #toGenerate: Waiting<GenerateJob, "done" | "full">[] = [];
  #closed = false;
  #wake: () => void = () => {};
  readonly #ended: Promise<void>;

  private constructor(scorer: Scorer, generators: readonly Generator[]) {
    this.#scorer = scorer;
    this.#slots = generators.map((generator) => ({ generator, work: undefined, tokens: [] }));
    this.#ended = this.#loop();
  }

  /**
   * Allocates caches and plans, and starts the loop.
   *
   * @throws {RangeError} If the context is longer than the model's positions, or its cache does not fit a binding.
   */
  static async create(model: InferenceModel, options: EngineOptions): Promise<Engine> {
    const { context: capacity, sequences, batch_tokens: tokens } = options;
    const scorer = new Scorer(model, { capacity, tokens });
    const generators: Generator[] = [];
    try {
      for (let i = 0; i < sequences; i++) {
        generators.push(await Generator.create(model, { capacity }));
      }
    } catch (error) {
      for (const generator of generators) generator[Symbol.dispose]();
      throw error;
    }
    return new Engine(scorer, generators);
  }

  /** How much there is to do. */
  get load(): EngineLoad {
    return {
      waiting: this.#toScore.length + this.#toGenerate.length,
      generating: this.#slots.filter(({ work }) => work !== undefined).length,
    };
  }

  /** Scores a sequence, together with what else waits. */
  score(job: ScoreJob): Promise<void> {
    return this.#enqueue(this.#toScore, job);
  }

  /** Continues a sequence. @returns Whether `next` ended it, or the context is full of its tokens. */
  generate(job: GenerateJob): Promise<"done" | "full"> {
    return this.#enqueue(this.#toGenerate, job);
  }

  /** Rejects what waits, ends the loop after its step and frees the device's memory; the model stays. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    this.#wake();
    await this.#ended;
    this.#scorer[Symbol.dispose]();
    for (const { generator } of this.#slots) generator[Symbol.dispose]();
  }

  #enqueue<Job, Result>(queue: Waiting<Job, Result>[], job: Job): Promise<Result> {
    if (this.#closed) return Promise.reject(new Error("The engine is closed"));
    const { promise, resolve, reject } = Promise.withResolvers<Result>();
    queue.push({ job, resolve, reject });
    this.#wake();
    return promise;
  }

  async #loop(): Promise<void> {
    while (!this.#closed) {
      const { waiting, generating } = this.load;
      if (waiting + generating === 0) {
        await new Promise<void>((resolve) => this.#wake = resolve);
        continue;
      }
      dropUnwanted(this.#toScore);
      dropUnwanted(this.#toGenerate);
      await this.#scoreSome();
      await this.#generateSome();
    }
    const error = new Error("The engine is closed");
    for (const { reject } of [...this.#toScore, ...this.#toGenerate]) reject(error);
    for (const { work } of this.#slots) work?.reject(error);
  }

  /** Scores what waits, up to a batch or a few. */
  async #scoreSome(): Promise<void> {
    const works = this.#toScore.splice(0, MOST_SCORED);
    if (works.length === 0) return;
    const failed = new Map<number, unknown>();
    try {
      await this.#scorer.score(works.map(({ job }) => job), (i, position, ...found) => {
        if (failed.has(i)) return;
        try {
          works[i]!.job.take(position, ...found);
        } catch (error) {
          failed.set(i, error);
        }
      });
    } catch (error) {
      for (const { reject } of works) reject(error);
      return;
    }
    for (const [i, { resolve, reject }] of works.entries()) {
      if (failed.has(i)) reject(failed.get(i));
      else resolve();
    }
  }

  /** Gives free generators work, and each sequence one step; all steps are submitted before the first is waited for. */
  async #generateSome(): Promise<void> {
    for (const slot of this.#slots) {
      if (slot.work && !stillWanted(slot.work)) slot.work = undefined;
      if (slot.work !== undefined) continue;
      const work = this.#toGenerate.shift();
      if (work === undefined) continue;
      slot.generator.reset();
      slot.work = work;
      slot.tokens = work.job.tokens;
    }
    await Promise.all(this.#slots.filter(({ work }) => work !== undefined).map(step));
  }
}

/** Takes the jobs that nobody waits for from a queue. */
function dropUnwanted<Job extends { readonly signal: AbortSignal }, Result>(
  queue: Waiting<Job, Result>[],
): void {
  queue.splice(0, queue.length, ...queue.filter(stillWanted));
}

/** Whether somebody waits for a job; tells its promise otherwise. */
function stillWanted({ job: { signal }, reject }: {
  readonly job: { readonly signal: AbortSignal };
  reject(reason: unknown): void;
}): boolean {
  if (signal.aborted) reject(signal.reason);
  return !signal.aborted;
}

/** Feeds a sequence its next tokens, and asks for the one after them. */
async function step(slot: Slot): Promise<void> {
  const { generator, work } = slot;
  const { job, resolve, reject } = work!;
  try {
    const token = job.next(await generator.feed(slot.tokens));
    if (token !== undefined && generator.position < generator.capacity) {
      slot.tokens = [token];
      return;
    }
    resolve(token === undefined ? "done" : "full");
  } catch (error) {
    reject(error);
  }
  slot.work = undefined;
}
