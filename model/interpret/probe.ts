/**
 * A model that is looked at while it scores text: which experts each token keeps, with what weight, and the loss of each prediction; with experts left out.
 *
 * @module
 */

import { buildPlans, type BuiltPlans } from "../gpu/build.ts";
import { Arena } from "../gpu/memory.ts";
import { Plan } from "../gpu/plan.ts";
import { Tensor } from "../gpu/tensor.ts";
import { download, upload } from "../gpu/transfer.ts";
import { batchTensors } from "../inference/evaluator.ts";
import type { InferenceModel } from "../inference/model.ts";
import type { TokenBatch } from "../inference/token_batch.ts";
import { LayerContext } from "../layer/context.ts";
import { listedExperts, withoutExperts } from "../ops/experts/experts_without.ts";
import { headLogits } from "../trunk/head.ts";
import { recordEvaluation } from "../trunk/network.ts";
import { type ExpertLayer, expertLayers } from "./expert_layers.ts";

/** The choice of a batch's tokens in one layer. */
export interface LayerChoice {
  /** Kept experts, `[T, M·A]`; N or more where a token keeps fewer. */
  readonly index: Uint32Array;
  /** Their weights, `[T, M]`; 0 of those that are left out. */
  readonly weight: Float32Array;
}

/** A batch that was scored. */
export interface ProbedBatch extends TokenBatch {
  /** Cross-entropy of each prediction, nats, `[T]`. */
  readonly losses: Float32Array;
  /** By layer number; empty unless the choices were asked for. */
  readonly choices: ReadonlyMap<number, LayerChoice>;
}

/** Experts to leave out, by layer: the router's numbers of each. */
export type LeftOut = ReadonlyMap<number, readonly (readonly number[])[]>;

/** Options of an {@linkcode ExpertProbe}. */
export interface ProbeOptions {
  /** Sequences in a batch. */
  readonly batch: number;
  /** Tokens in a sequence. */
  readonly length: number;
  /** Experts of a layer that can be left out at once, at most; 256 unless given. */
  readonly capacity?: number;
  /** Records the logits of every token, too; for few tokens. */
  readonly logits?: boolean;
}

interface LayerTensors {
  readonly layer: ExpertLayer;
  readonly listed: Tensor;
  readonly index: Tensor;
  readonly score: Tensor;
}

/**
 * Scores batches. One at a time.
 *
 * @example
 * ```ts ignore
 * using probe = await ExpertProbe.open(model, { batch: 8, length: 64 });
 * const { losses, choices } = await probe.run(batch, { choices: true });
 * probe.leaveOut(new Map([[3, [[17]]]]));
 * const without = await probe.run(batch);
 * ```
 */
export class ExpertProbe implements Disposable {
  /** The layers with experts. */
  readonly layers: readonly ExpertLayer[];
  /** Tokens of a batch. */
  readonly batchTokens: number;
  /** The model that is looked at. */
  readonly model: InferenceModel;
  readonly #capacity: number;
  readonly #batch = new Map<string, Tensor>();
  readonly #tensors = new Map<number, LayerTensors>();
  readonly #arenas: Arena[] = [];
  readonly #plan: Plan;
  #logits: Tensor | undefined;
  #built: BuiltPlans | undefined;

  private constructor(model: InferenceModel, options: ProbeOptions) {
    const { batch, length, capacity = 256 } = options;
    const { gpu, architecture, weights } = model;
    this.model = model;
    this.#capacity = capacity;
    this.layers = expertLayers(architecture);
    if (this.layers.length === 0) throw new RangeError("The model has no layer with experts");
    this.batchTokens = batch * length;
    const tensors = batchTensors(this.batchTokens);
    for (const [name, tensor] of Object.entries(tensors)) {
      this.#batch.set(name, this.#owned(tensor));
    }
    this.#plan = new Plan(gpu, "probe");
    const scores = new Map<number, Pick<LayerTensors, "layer" | "listed" | "score">>();
    const context = new LayerContext(this.#plan, weights, {
      batch,
      length,
      mode: "evaluate",
      onChoice: ({ at, index, score }) => {
        const layer = this.layers.find((each) => each.at === at);
        if (!layer) return;
        const { axes } = layer;
        const listed = this.#owned(new Tensor(`${at}.listed`, [capacity, axes], { dtype: "u32" }));
        withoutExperts(this.#plan, `${at}.without`, { index, score, listed });
        scores.set(layer.layer, { layer, listed, score: this.#plan.keep(score) });
      },
    });
    const { x, uses } = recordEvaluation(context, architecture, tensors);
    for (const [number, found] of scores) {
      // Where a token keeps fewer experts than its router chose, the use says which.
      const index = this.#plan.keep(uses.get(number)!.index);
      this.#tensors.set(number, { ...found, index });
    }
    if (options.logits) {
      this.#logits = this.#plan.keep(headLogits(context, { architecture, x }));
    }
    this.leaveOut(new Map());
  }

  /**
   * A probe that is ready.
   *
   * @throws {RangeError} If the model has no layer with experts.
   */
  static async open(model: InferenceModel, options: ProbeOptions): Promise<ExpertProbe> {
    const probe = new ExpertProbe(model, options);
    try {
      probe.#built = await buildPlans(model.gpu, [probe.#plan]);
    } catch (error) {
      probe[Symbol.dispose]();
      throw error;
    }
    return probe;
  }

  /** Experts of a layer that can be left out at once. */
  get capacity(): number {
    return this.#capacity;
  }

  /**
   * Leaves experts out of what is run from now on: their weights are 0, those of others stay.
   *
   * @throws {RangeError} If a layer has no experts, or more are to be left out than there is room for.
   */
  leaveOut(experts: LeftOut): void {
    for (const layer of experts.keys()) {
      if (!this.#tensors.has(layer)) throw new RangeError(`Layer ${layer} has no experts`);
    }
    for (const [number, { layer, listed }] of this.#tensors) {
      const list = listedExperts(experts.get(number) ?? [], {
        capacity: this.#capacity,
        axes: layer.axes,
      });
      upload(this.model.gpu, listed, list);
    }
  }

  /** Scores a batch of as many tokens as the probe was opened for. */
  async run(batch: TokenBatch, options: { readonly choices?: boolean } = {}): Promise<ProbedBatch> {
    const { gpu } = this.model;
    upload(gpu, this.#batch.get("tokens")!, batch.tokens);
    upload(gpu, this.#batch.get("targets")!, batch.targets);
    this.#built!.plans[0]!.run();
    const losses = download(gpu, this.#batch.get("losses")!);
    const choices = options.choices
      ? Promise.all(
        this.#tensors.entries().map(async ([layer, { index, score }]) => {
          const [kept, weight] = await Promise.all([download(gpu, index), download(gpu, score)]);
          return [
            layer,
            { index: kept as Uint32Array, weight: weight as Float32Array },
          ] as const;
        }),
      )
      : [];
    return {
      ...batch,
      losses: await losses as Float32Array,
      choices: new Map(await choices),
    };
  }

  /**
   * Logits of the last batch for its token `t`, `[V]`.
   *
   * @throws {Error} If the probe was opened without logits.
   */
  async logits(t: number): Promise<Float32Array> {
    if (!this.#logits) throw new Error("The probe was opened without logits");
    const { width } = this.#logits;
    const all = await download(this.model.gpu, this.#logits) as Float32Array;
    return all.slice(t * width, t * width + this.model.config.vocab_size);
  }

  /** Frees the device's memory. */
  [Symbol.dispose](): void {
    this.#built?.destroy();
    for (const arena of this.#arenas) arena.destroy();
  }

  /** Gives a tensor memory of its own: a dispatch may not read and write one buffer. */
  #owned(tensor: Tensor): Tensor {
    this.#arenas.push(new Arena(this.model.gpu, tensor.name, [tensor]));
    return tensor;
  }
}
