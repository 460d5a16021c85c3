/**
 * A whole model in float64: loss, gradients of every parameter, training steps, evaluation.
 *
 * @module
 */

import { size } from "../layer/parameter.ts";
import type { Architecture } from "../trunk/architecture.ts";
import { parameterSpecs, statisticSpecs } from "../trunk/parameters.ts";
import { type DropoutMasks, dropoutMasks } from "./dropout.ts";
import type { Choice } from "./layer.ts";
import { crossEntropy } from "./loss.ts";
import { addScaled, type Matrix } from "./matrix.ts";
import { networkForward, type NetworkPass } from "./network.ts";
import { AdamW, type AdamWOptions, clipByGlobalNorm } from "./optimizer.ts";

/** A micro-batch: sequences of `length` tokens one after another, and for each token the one that follows. */
export interface TokenBatch {
  /** Input tokens, sequence after sequence. */
  readonly tokens: ArrayLike<number>;
  /** The token after each. */
  readonly targets: ArrayLike<number>;
  /** Tokens of a sequence. */
  readonly length: number;
  /** The choice given: experts to keep by layer, instead of choosing. */
  readonly selections?: ReadonlyMap<number, Int32Array>;
}

/** How to run the forward pass. */
export interface ForwardOptions {
  /** Batch statistics rather than running ones; true unless given. */
  readonly training?: boolean;
  /** Dropout's masks; nothing is dropped unless given. */
  readonly masks?: DropoutMasks;
}

/** Losses of a micro-batch. */
export interface Losses {
  /** Mean of `−log p(next token)`, in nats. */
  readonly crossEntropy: number;
  /** The minimised sum: the cross-entropy and the layers' auxiliary terms. */
  readonly total: number;
  /** Tokens × vocabulary. */
  readonly logits: Matrix;
  /** Experts that the tokens kept, by layer, of the layers with some. */
  readonly routings: ReadonlyMap<number, Choice>;
}

/** The report of a training step. */
export interface StepResult {
  /** Mean over the micro-batches. */
  readonly crossEntropy: number;
  /** Mean over the micro-batches. */
  readonly total: number;
  /** Before clipping. */
  readonly gradientNorm: number;
  /** Before clipping, mean over the micro-batches. */
  readonly gradients: ReadonlyMap<string, Float64Array>;
  /** Of the last micro-batch, tokens × vocabulary. */
  readonly logits: Matrix;
  /** Of the last micro-batch, by layer. */
  readonly routings: ReadonlyMap<number, Choice>;
}

/**
 * A model and its optimiser.
 *
 * @example
 * ```ts ignore
 * import { ReferenceModel } from "./model.ts";
 * const model = new ReferenceModel(architecture, parameters);
 * const { crossEntropy } = model.trainStep([{ tokens, targets, length: 16 }], { learningRate: 1e-3 });
 * ```
 */
export class ReferenceModel {
  /** The model's layers and their sizes. */
  readonly architecture: Architecture;
  /** Trained parameters by name; changed in place by {@linkcode trainStep}. */
  readonly parameters: ReadonlyMap<string, Float64Array>;
  /** Running statistics by name; changed in place by {@linkcode trainStep}. */
  readonly statistics: ReadonlyMap<string, Float64Array>;
  #optimizer: AdamW;

  /**
   * A model of these tensors, its optimiser before the first update.
   *
   * @param tensors Every parameter by name, and the running statistics where they are not to start anew. Copied.
   * @throws {Error} If a parameter is missing, of the wrong size, or unknown.
   */
  constructor(
    architecture: Architecture,
    tensors: ReadonlyMap<string, Float64Array>,
    options: {
      adamW?: Partial<AdamWOptions>;
      /** The parameters that decay: `matrices` unless given, or `all`. */
      decay?: "matrices" | "all";
    } = {},
  ) {
    this.architecture = architecture;
    const specs = parameterSpecs(architecture);
    const statistics = statisticSpecs(architecture);
    const known = new Set([...specs, ...statistics].map(({ name }) => name));
    for (const name of tensors.keys()) {
      if (!known.has(name)) throw new Error(`The configuration has no parameter ${name}`);
    }
    const take = (spec: { name: string; shape: readonly number[] }, start?: Float64Array) => {
      const value = tensors.get(spec.name) ?? start;
      if (value === undefined) throw new Error(`Parameter ${spec.name} is missing`);
      if (value.length !== size(spec)) {
        throw new Error(
          `Parameter ${spec.name} of shape [${spec.shape.join(", ")}] has ${value.length} numbers`,
        );
      }
      return [spec.name, value.slice()] as const;
    };
    this.parameters = new Map(specs.map((spec) => take(spec)));
    this.statistics = new Map(
      statistics.map((spec) =>
        take(spec, new Float64Array(size(spec)).fill(spec.init.kind === "ones" ? 1 : 0))
      ),
    );
    const all = options.decay === "all";
    const decaying = specs.filter(({ decay }) => all || decay).map(({ name }) => name);
    this.#optimizer = new AdamW(new Set(decaying), options.adamW);
  }

  /** Losses of a micro-batch; nothing changes. @throws {RangeError} If the batch does not fit the model. */
  loss(batch: TokenBatch, options: ForwardOptions = {}): Losses {
    return lossesOf(this.#forward(batch, options), batch).losses;
  }

  /** Losses with the running statistics, as in deployment; nothing changes. */
  evaluate(batch: TokenBatch): Losses {
    return this.loss(batch, { training: false });
  }

  /** Losses and the gradient of `total` with respect to every parameter; nothing changes. */
  gradients(
    batch: TokenBatch,
    options: ForwardOptions = {},
  ): Losses & { gradients: Map<string, Float64Array> } {
    return this.#gradients(this.#forward(batch, options), batch);
  }

  /**
   * One update: gradients averaged over the micro-batches, clipped, AdamW. Each micro-batch moves the running statistics.
   *
   * @param options.clip Largest global norm; 1 unless given.
   * @param options.dropout Seed of the masks, and number of the update; nothing is dropped unless given.
   */
  trainStep(
    microBatches: readonly TokenBatch[],
    options: {
      learningRate: number;
      clip?: number;
      dropout?: { readonly seed: number; readonly update: number };
    },
  ): StepResult {
    const share = 1 / microBatches.length;
    const sum = new Map(
      Array.from(this.parameters, ([name, p]) => [name, new Float64Array(p.length)]),
    );
    let crossEntropy = 0;
    let total = 0;
    let last: Losses | undefined;
    for (const [microBatch, batch] of microBatches.entries()) {
      const { dropout } = options;
      const masks = dropout && dropoutMasks({ ...dropout, microBatch });
      const pass = this.#forward(batch, masks ? { masks } : {});
      const result = this.#gradients(pass, batch);
      crossEntropy += result.crossEntropy * share;
      total += result.total * share;
      last = result;
      for (const [name, gradient] of result.gradients) addScaled(sum.get(name)!, share, gradient);
      pass.feedForwards.forEach(({ statistics = {} }, i) => {
        for (const [name, value] of Object.entries(statistics)) {
          this.statistics.get(`layers.${i}.ffn.${name}`)!.set(value);
        }
      });
    }
    if (last === undefined) {
      throw new RangeError("A training step needs at least one micro-batch");
    }
    const { gradients, norm } = clipByGlobalNorm(sum, options.clip);
    this.#optimizer.step(this.parameters, gradients, options);
    const { logits, routings } = last;
    return { crossEntropy, total, gradientNorm: norm, gradients: sum, logits, routings };
  }

  #forward(batch: TokenBatch, options: ForwardOptions): NetworkPass {
    const tensors = new Map([...this.parameters, ...this.statistics]);
    return networkForward(this.architecture.config, tensors, {
      training: true,
      ...batch,
      ...options,
    });
  }

  #gradients(
    pass: NetworkPass,
    batch: TokenBatch,
  ): Losses & { gradients: Map<string, Float64Array> } {
    const { losses, gradient } = lossesOf(pass, batch);
    return { ...losses, gradients: pass.backward(gradient) };
  }
}

/** Losses of a pass, and the gradient of its logits. */
function lossesOf(
  { logits, feedForwards }: NetworkPass,
  { targets }: TokenBatch,
): { losses: Losses; gradient: Matrix } {
  const { loss, gradient } = crossEntropy(logits, targets);
  const routings = new Map<number, Choice>();
  let total = loss;
  feedForwards.forEach(({ routing, auxiliary = 0 }, i) => {
    if (routing) routings.set(i, routing);
    total += auxiliary;
  });
  return { losses: { crossEntropy: loss, total, logits, routings }, gradient };
}
