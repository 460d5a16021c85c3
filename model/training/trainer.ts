/**
 * Training and evaluating one model on one device: weights, plans, and what a step does.
 *
 * @module
 */

import type { ModelConfig } from "../section.ts";
import type { Gpu } from "../gpu/device.ts";
import {
  Arena,
  assignMemory,
  type MemoryLine,
  memoryOf,
  type SizedGpu,
  sizingGpu,
} from "../gpu/memory.ts";
import { buildPlans, type BuiltPlan, type BuiltPlans, runPlan } from "../gpu/build.ts";
import { Plan } from "../gpu/plan.ts";
import { Tensor } from "../gpu/tensor.ts";
import {
  download,
  downloadParts,
  packFields,
  unpackFields,
  upload,
  uploadParts,
} from "../gpu/transfer.ts";
import {
  batchTensors,
  type EvaluationOptions,
  type EvaluationResult,
  Evaluator,
} from "../inference/evaluator.ts";
import { makeOperands, recordInitialWeights } from "../trunk/initial_weights.ts";
import { LayerContext } from "../layer/context.ts";
import { recordTraining } from "../trunk/network.ts";
import {
  CONTROL,
  CONTROL_STATE,
  type ControlState,
  LOSS,
  METRICS,
  METRICS_RING,
  SCHEDULE,
} from "../ops/control.ts";
import { DROPOUT_KEY } from "../ops/dropout/dropout.ts";
import { recordUpdate } from "../ops/optimizer/optimizer.ts";
import type { Architecture } from "../trunk/architecture.ts";
import { weightSpecs } from "../trunk/parameters.ts";
import type { StateKind, TrainingState } from "../checkpoint/checkpoint.ts";
import type { TokenSource } from "../text/token_source.ts";
import type { TokenBatch } from "./sampler.ts";
import { learningRate } from "./schedule.ts";
import { lastStep, trainingSteps, type TrainSection } from "./config.ts";
import { Weights } from "../layer/weights.ts";
import { type ExchangeTimes, GroupedUpdate } from "./groups/grouped_update.ts";
import type { Part } from "./groups/parts.ts";
import { ALONE, type Ranks } from "./groups/ranks.ts";

/** One update, as the GPU saw it. */
export interface StepRecord {
  /** Number of the update, the first being 0. */
  readonly step: number;
  /** Mean cross-entropy of its tokens, nats. */
  readonly loss: number;
  /** Load-balance term, without a coefficient of 0 also 0. */
  readonly balance: number;
  /** Global norm of the gradient before clipping. */
  readonly grad_norm: number;
  /** Learning rate. */
  readonly lr: number;
  /** Loss scale that the gradient was computed with; 1 in f32. */
  readonly loss_scale: number;
  /** False when something was not finite and the update was skipped. */
  readonly applied: boolean;
  /** Skipped updates so far. */
  readonly skipped: number;
  /** Skipped updates since the last applied one. */
  readonly skipped_in_row: number;
}

/** Options of {@linkcode Trainer.create}. */
export interface TrainerOptions {
  /** The model's layers. */
  readonly architecture: Architecture;
  /** How it is trained; sizes of the batch are allocated for. */
  readonly train: TrainSection;
  /** Chooses the initial weights, and what dropout drops. */
  readonly seed: number;
  /** Gives every activation memory of its own, to find errors in lifetimes. */
  readonly isolate?: boolean;
  /** The processes that share the update's groups; this one alone unless given. */
  readonly ranks?: Ranks;
  /** Elements of the parts in which groups' gradients reach the host; no bits depend on it. */
  readonly partElements?: number | undefined;
}

/** A model under training. */
export class Trainer implements TrainingState {
  /** The device that it trains on. */
  readonly gpu: Gpu;
  /** The model's layers. */
  readonly architecture: Architecture;
  /** How it is trained. */
  readonly train: TrainSection;
  /** Chose the initial weights, and chooses what dropout drops. */
  readonly seed: number;
  /** Values, gradients and moments on the device. */
  readonly weights: Weights;
  /** Updates of the whole run, with those that it is extended by. */
  readonly steps: number;
  /** The processes that share the update's groups. */
  readonly ranks: Ranks;
  readonly #tensors: Record<"control" | "schedule" | "loss" | "metrics", Tensor>;
  readonly #dropoutKey: Tensor;
  readonly #batch: Record<"tokens" | "targets" | "losses", Tensor>;
  readonly #evaluator: Evaluator;
  #auxiliary = false;
  readonly #arenas: readonly Arena[];
  #built: BuiltPlans | undefined;
  #grouped: GroupedUpdate | undefined;
  /** Updates submitted, and updates whose records were read. */
  #submitted = 0;
  #read = 0;

  private constructor(
    gpu: Gpu,
    { architecture, train, seed, ranks = ALONE }: TrainerOptions,
  ) {
    const { gradient_groups = 1 } = train;
    if (gradient_groups % ranks.size !== 0) {
      throw new RangeError(
        `train.gradient_groups is ${gradient_groups}; expected a multiple of the ${ranks.size} ranks that share them`,
      );
    }
    this.gpu = gpu;
    this.ranks = ranks;
    this.architecture = architecture;
    this.train = train;
    this.seed = seed;
    this.steps = lastStep(train);
    const specs = weightSpecs(architecture);
    const decayed = train.decay === "all" ? specs.map((s) => ({ ...s, decay: s.trained })) : specs;
    this.weights = new Weights(gpu, decayed, {
      train: true,
      precision: train.precision,
    });
    const state = (name: string, ...shape: number[]) =>
      new Tensor(name, shape, { owner: "training state" });
    this.#tensors = {
      control: state("control", CONTROL.length),
      schedule: state("schedule", SCHEDULE.length),
      loss: state("loss", LOSS.length),
      metrics: state("metrics", METRICS_RING, METRICS.length),
    };
    this.#dropoutKey = new Tensor("dropout_key", [DROPOUT_KEY], {
      dtype: "u32",
      owner: "training state",
    });
    this.#batch = batchTensors(train.micro_batch * train.sequence_length);
    // An arena each, for a dispatch may not read and write one buffer.
    this.#arenas = [
      ...Object.values(this.#tensors),
      ...Object.values(this.#batch),
      this.#dropoutKey,
    ].map((tensor) => new Arena(gpu, tensor.name, [tensor]));
    this.#evaluator = new Evaluator(gpu, {
      architecture,
      weights: this.weights,
      batch: train.micro_batch,
      length: train.sequence_length,
      tensors: this.#batch,
    });
  }

  /** Allocates a model, initialises it from the seed, and makes its plans ready. */
  static async create(gpu: Gpu, options: TrainerOptions): Promise<Trainer> {
    const trainer = new Trainer(gpu, options);
    await trainer.#initialize();
    trainer.#built = await buildPlans(gpu, trainer.#record(), {
      isolate: options.isolate ?? false,
    });
    trainer.#evaluator.use(trainer.plan("evaluate"));
    trainer.#group(options);
    return trainer;
  }

  /**
   * The bytes that {@linkcode Trainer.memory} would come to, and those of tables that trainers of a device share, without allocating them.
   *
   * @throws {RangeError} If a tensor is larger than the device's limits.
   */
  static bytesOf(gpu: SizedGpu, options: TrainerOptions): number {
    const sizes = sizingGpu(gpu);
    const trainer = new Trainer(sizes, options);
    assignMemory(sizes, trainer.#record());
    return memoryOf(sizes).bytes;
  }

  /** Sizes of the model. */
  get config(): ModelConfig {
    return this.architecture.config;
  }

  /** Whether the loss has a further term than the cross-entropy. */
  get auxiliary(): boolean {
    return this.#auxiliary;
  }

  /** Updates submitted so far: the number of the next one. */
  get step(): number {
    return this.#submitted;
  }

  /** The micro-batches of an update that this process computes: all of them, or those of its rank's groups. */
  get microBatches(): { readonly from: number; readonly count: number } {
    return this.#grouped?.own ?? { from: 0, count: this.train.gradient_accumulation };
  }

  /** Parts in which an update's groups leave the device, in order; none without groups. */
  get parts(): readonly Part[] {
    return this.#grouped?.parts ?? [];
  }

  /** Where the time of an update by groups went; nothing without groups. */
  get exchange(): ExchangeTimes | undefined {
    return this.#grouped?.times;
  }

  /**
   * Submits one update. Its record comes with a later {@linkcode Trainer.records}, which must be called at least every {@linkcode METRICS_RING}
   * updates. Returns at once; with `gradient_groups` a promise, to be awaited before anything else is asked of the trainer.
   *
   * @param batches One batch of `micro_batch` sequences for each of {@linkcode Trainer.microBatches}.
   */
  update(batches: readonly TokenBatch[]): void | Promise<void> {
    const { gpu, train } = this;
    const { count } = this.microBatches;
    if (batches.length !== count) {
      throw new RangeError(`An update takes ${count} micro-batches, got ${batches.length}`);
    }
    if (this.#submitted - this.#read >= METRICS_RING) {
      throw new RangeError(`Records of ${METRICS_RING} updates wait to be read`);
    }
    const lr = learningRate(this.#submitted, {
      initial: train.learning_rate.initial,
      peak: train.learning_rate.peak,
      warmup: train.learning_rate.warmup_steps,
      after: train.learning_rate.schedule,
      final_fraction: train.learning_rate.final_fraction,
      total: trainingSteps(train),
      end: train.learning_rate.cosine_end,
    });
    upload(gpu, this.#tensors.schedule, packFields(SCHEDULE, { lr }));
    const load = (batch: TokenBatch) => {
      upload(gpu, this.#batch.tokens, batch.tokens);
      upload(gpu, this.#batch.targets, batch.targets);
    };
    if (this.#grouped) {
      return this.#grouped.run((i) => load(batches[i]!)).then(() => {
        this.#run("update");
        this.#submitted++;
      });
    }
    batches.forEach((batch, i) => {
      load(batch);
      const last = i === batches.length - 1;
      this.#run(i === 0 ? "first" : "next", ...(last ? ["update" as const] : []));
    });
    this.#submitted++;
  }

  /** Records of the updates submitted since the last call. Waits for them. */
  async records(): Promise<StepRecord[]> {
    // More updates may be submitted while this waits; their records come with the next call.
    const end = this.#submitted;
    const ring = await download(this.gpu, this.#tensors.metrics);
    const records: StepRecord[] = [];
    for (; this.#read < end; this.#read++) {
      const metrics = unpackFields(METRICS, ring, { row: this.#read % METRICS_RING });
      records.push({ step: this.#read, ...metrics, applied: metrics.applied === 1 });
    }
    return records;
  }

  /** Cross-entropy of the first predictions of a split, with running statistics, and how experts were used. */
  async evaluate(source: TokenSource, options: EvaluationOptions = {}): Promise<EvaluationResult> {
    return await this.#evaluator.evaluate(source, options);
  }

  /** Cross-entropy of each prediction of one batch, nats, with running statistics; the model stays as it is. */
  async losses(batch: TokenBatch): Promise<Float32Array> {
    upload(this.gpu, this.#batch.tokens, batch.tokens);
    upload(this.gpu, this.#batch.targets, batch.targets);
    this.#run("evaluate");
    return await download(this.gpu, this.#batch.losses) as Float32Array;
  }

  /** One tensor of the model's state, read back whole. */
  readState(kind: StateKind, name: string): Promise<Float32Array> {
    return downloadParts(this.gpu, this.#parts(kind, name));
  }

  /** A parameter's gradient in the last update, before clipping and times the loss scale. */
  readGradient(name: string): Promise<Float32Array> {
    return downloadParts(this.gpu, this.weights.gradient(name).parts);
  }

  /** Replaces one tensor of the model's state. Call {@linkcode Trainer.resume} when all are written. */
  writeState(kind: StateKind, name: string, values: Float32Array): void {
    uploadParts(this.gpu, this.#parts(kind, name), values);
  }

  /** Loss scale and counters, for a checkpoint. */
  async readControl(): Promise<ControlState> {
    return unpackFields(CONTROL_STATE, await download(this.gpu, this.#tensors.control));
  }

  /** Continues at update `step` with the loss scale and the counters of a checkpoint. */
  async resume(step: number, control: ControlState): Promise<void> {
    upload(this.gpu, this.#tensors.control, packFields(CONTROL, control));
    this.#submitted = step;
    this.#read = step;
    await makeOperands(this.gpu, this.weights);
  }

  /** Bytes on the device by owner, what they come to, and what the activations were at their peak. */
  get memory(): {
    total: number;
    lines: readonly MemoryLine[];
    activations: readonly MemoryLine[];
  } {
    const pool = this.#built!.pool;
    const lines = [
      ...this.weights.memory,
      { owner: "activations", bytes: pool.bytes },
      {
        owner: "batch and state",
        bytes: this.#arenas.reduce((n, arena) => n + arena.bytes, this.#evaluator.bytes),
      },
    ];
    return {
      total: lines.reduce((n, line) => n + line.bytes, 0),
      lines,
      activations: pool.peak,
    };
  }

  /** The plans by name: for the profiler and for counts of operations. */
  plan(name: PlanName): BuiltPlan {
    const plan = this.#built!.plans.find((built) => built.plan.label === name);
    if (!plan) throw new RangeError(`There is no plan ${name}`);
    return plan;
  }

  /** Frees the device's memory. */
  destroy(): void {
    this.#grouped?.destroy();
    this.#built?.destroy();
    this.weights.destroy();
    this.#evaluator[Symbol.dispose]();
    for (const arena of this.#arenas) arena.destroy();
  }

  #parts(kind: StateKind, name: string): readonly Tensor[] {
    return kind === "value"
      ? this.weights.value(name).parts
      : this.weights.moments(name)[kind].parts;
  }

  #run(...names: PlanName[]): void {
    this.gpu.check();
    const encoder = this.gpu.device.createCommandEncoder({ label: names.join(", ") });
    for (const name of names) this.plan(name).encode(encoder);
    this.gpu.device.queue.submit([encoder.finish()]);
  }

  #record(): Plan[] {
    const { gpu, architecture, train, weights } = this;
    const sizes = { batch: train.micro_batch, length: train.sequence_length };
    const tensors = { ...this.#tensors, ...this.#batch };
    const training = (label: PlanName, first: boolean) => {
      const plan = new Plan(gpu, label);
      const context = new LayerContext(plan, weights, {
        ...sizes,
        mode: "train",
        accumulate: !first,
        microBatches: train.gradient_accumulation,
        dropout: {
          seed: this.seed,
          control: tensors.control,
          key: this.#dropoutKey,
          numbered: train.gradient_groups !== undefined,
        },
      });
      const { auxiliaries } = recordTraining(context, architecture, {
        ...tensors,
        first,
        recompute: train.recompute,
        padded: train.documents === "single",
      });
      this.#auxiliary = auxiliaries.length > 0;
      return plan;
    };
    const plans = [training("first", true)];
    const { gradient_accumulation, gradient_groups = 1 } = train;
    if (gradient_accumulation > gradient_groups) plans.push(training("next", false));
    const update = new Plan(gpu, "update" satisfies PlanName);
    recordUpdate(update, weights.groups, this.#tensors, {
      beta1: train.beta1,
      beta2: train.beta2,
      epsilon: train.epsilon,
      weight_decay: train.weight_decay,
      clip_norm: train.clip_norm,
      ...(train.precision === "mixed" ? { loss_scale: train.loss_scale } : {}),
    });
    return [...plans, update, this.#evaluator.plan];
  }

  /** Prepares updates by groups, where there are some. */
  #group({ partElements }: TrainerOptions): void {
    const { gpu, train, weights } = this;
    const { gradient_groups: groups, gradient_accumulation: microBatches } = train;
    if (groups === undefined) return;
    const tensorsOf = (kind: "gradient" | "value", trained: boolean) =>
      weights.specs.filter((spec) => spec.trained === trained)
        .flatMap(({ name }) => weights[kind](name).parts);
    this.#grouped = new GroupedUpdate(gpu, {
      plans: {
        first: this.plan("first"),
        next: microBatches > groups ? this.plan("next") : undefined,
      },
      sums: [this.#tensors.loss, ...tensorsOf("gradient", true)],
      means: tensorsOf("value", false),
      dropoutKey: this.#dropoutKey,
      microBatches,
      groups,
      ranks: this.ranks,
      partElements,
    });
  }

  async #initialize(): Promise<void> {
    const { gpu, architecture, weights } = this;
    const plan = new Plan(gpu, "initialize");
    recordInitialWeights(plan, weights, { architecture, seed: this.seed });
    await runPlan(plan);
    const loss_scale = this.train.precision === "mixed" ? this.train.loss_scale.initial : 1;
    upload(gpu, this.#tensors.control, packFields(CONTROL, { loss_scale }));
    await makeOperands(gpu, weights);
  }
}

/**
 * Plans of a trainer: the first micro-batch of an update, one that adds to its gradient, the optimiser's update, and the forward pass of an
 * evaluation.
 */
export type PlanName = "first" | "next" | "update" | "evaluate";
