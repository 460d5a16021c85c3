/**
 * The whole network in float64: loss, gradients of every parameter, training steps, evaluation.
 *
 * ```
 * x = E[token];   x += MLA(rmsnorm(x));   x += FFN(rmsnorm(x));   logits = rmsnorm(x) Eᵀ
 * ```
 *
 * @module
 */

import { isSparse, type ModelConfig } from "../config.ts";
import { parameterSpecs, size, statisticSpecs } from "../trunk/parameters.ts";
import {
  type Attention,
  attentionBackward,
  attentionForward,
  type AttentionName,
} from "./attention.ts";
import { type Ethos, ethosBackward, ethosForward, type EthosWeights } from "./ethos.ts";
import type { ExpertExecution } from "./experts.ts";
import { crossEntropy } from "./loss.ts";
import {
  add,
  addScaled,
  matmul,
  type Matrix,
  matrix,
  row,
  transpose,
  type Weights,
} from "./matrix.ts";
import { type RmsNorm, rmsNormBackward, rmsNormForward } from "./norm.ts";
import { AdamW, type AdamWOptions, clipByGlobalNorm } from "./optimizer.ts";
import type { Routing } from "./router.ts";
import { type Swiglu, swigluBackward, swigluForward, type SwigluName } from "./swiglu.ts";

/** A micro-batch: sequences of `length` tokens one after another, and for each token the one that follows. */
export interface TokenBatch {
  /** Input tokens, sequence after sequence. */
  readonly tokens: ArrayLike<number>;
  /** The token after each. */
  readonly targets: ArrayLike<number>;
  /** Tokens of a sequence. */
  readonly length: number;
}

/** How to run the forward pass. */
export interface ForwardOptions {
  /** Batch statistics rather than running ones; true unless given. */
  readonly training?: boolean;
  /** Kept experts by layer, instead of choosing; for finite differences. */
  readonly selections?: ReadonlyMap<number, Int32Array>;
}

/** Losses of a micro-batch. */
export interface Losses {
  /** Mean of `−log p(next token)`, in nats. */
  readonly crossEntropy: number;
  /** What is minimised: the cross-entropy and the layers' load-balance terms. */
  readonly total: number;
  /** Tokens × vocabulary. */
  readonly logits: Matrix;
  /** What each ETHOS layer's router decided, by layer. */
  readonly routings: ReadonlyMap<number, Routing>;
}

/** What a training step reports. */
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
}

/** What one layer's forward pass saves. */
interface Block {
  readonly attentionNorm: RmsNorm;
  readonly attention: Attention;
  readonly ffnNorm: RmsNorm;
  readonly ffn: { kind: "dense"; saved: Swiglu } | { kind: "ethos"; saved: Ethos };
}

/** What the whole forward pass saves. */
interface Pass {
  readonly blocks: readonly Block[];
  readonly finalNorm: RmsNorm;
  readonly logits: Matrix;
  readonly auxiliary: number;
}

/**
 * A model and its optimiser.
 *
 * @example
 * ```ts ignore
 * import { ReferenceModel } from "./model.ts";
 * const model = new ReferenceModel(config, parameters);
 * const { crossEntropy } = model.trainStep([{ tokens, targets, length: 16 }], { learningRate: 1e-3 });
 * ```
 */
export class ReferenceModel {
  /** The configuration. */
  readonly config: ModelConfig;
  /** Trained parameters by name; changed in place by {@linkcode trainStep}. */
  readonly parameters: ReadonlyMap<string, Float64Array>;
  /** Running statistics by name; changed in place by {@linkcode trainStep}. */
  readonly statistics: ReadonlyMap<string, Float64Array>;
  #optimizer: AdamW;
  #execution: ExpertExecution;

  /**
   * A model of these tensors, its optimiser before the first update.
   *
   * @param tensors Every parameter by name, and the running statistics where they are not to start anew. Copied.
   * @throws {Error} If a parameter is missing, of the wrong size, or unknown.
   */
  constructor(
    config: ModelConfig,
    tensors: ReadonlyMap<string, Float64Array>,
    options: { adamW?: Partial<AdamWOptions> } = {},
  ) {
    this.config = config;
    const specs = parameterSpecs(config);
    const statistics = statisticSpecs(config);
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
    const decaying = specs.filter(({ decay }) => decay).map(({ name }) => name);
    this.#optimizer = new AdamW(new Set(decaying), options.adamW);
    this.#execution = config.execution === "naive" ? "naive" : "reordered";
  }

  /** Losses of a micro-batch; nothing changes. @throws {RangeError} If the batch does not fit the model. */
  loss(batch: TokenBatch, options: ForwardOptions = {}): Losses {
    const pass = this.#forward(batch, options);
    return this.#losses(pass, batch);
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
    const pass = this.#forward(batch, options);
    return { ...this.#losses(pass, batch), gradients: this.#backward(pass, batch) };
  }

  /**
   * One update: gradients averaged over the micro-batches, clipped, AdamW. Each micro-batch moves the running statistics.
   *
   * @param options.clip Largest global norm; 1 unless given.
   */
  trainStep(
    microBatches: readonly TokenBatch[],
    options: { learningRate: number; clip?: number },
  ): StepResult {
    const share = 1 / microBatches.length;
    const sum = new Map(
      Array.from(this.parameters, ([name, p]) => [name, new Float64Array(p.length)]),
    );
    let crossEntropy = 0;
    let total = 0;
    let logits: Matrix | undefined;
    for (const batch of microBatches) {
      const result = this.gradients(batch);
      crossEntropy += result.crossEntropy * share;
      total += result.total * share;
      logits = result.logits;
      for (const [name, gradient] of result.gradients) addScaled(sum.get(name)!, share, gradient);
      this.#moveStatistics(result.routings);
    }
    if (logits === undefined) {
      throw new RangeError("A training step needs at least one micro-batch");
    }
    const { gradients, norm } = clipByGlobalNorm(sum, options.clip);
    this.#optimizer.step(this.parameters, gradients, options);
    return { crossEntropy, total, gradientNorm: norm, gradients: sum, logits };
  }

  #moveStatistics(routings: ReadonlyMap<number, Routing>): void {
    for (const [layer, { running }] of routings) {
      if (running === undefined) continue;
      this.statistics.get(`layers.${layer}.ffn.router.bn.mean`)!.set(running.mean);
      this.statistics.get(`layers.${layer}.ffn.router.bn.var`)!.set(running.variance);
    }
  }

  /** The tensors whose names start with `prefix`, without it. */
  #weights<Name extends string>(prefix: string): Weights<Name> {
    const found = [...this.parameters, ...this.statistics]
      .filter(([name]) => name.startsWith(prefix))
      .map(([name, value]) => [name.slice(prefix.length), value]);
    return Object.fromEntries(found) as Weights<Name>;
  }

  /** The embedding, which is also the output head, vocabulary × d_model. */
  #embedding(): Matrix {
    const { vocab_size, d_model } = this.config;
    return matrix(vocab_size, d_model, this.parameters.get("embed.weight")!);
  }

  #forward(batch: TokenBatch, options: ForwardOptions): Pass {
    const { config } = this;
    const { tokens, length } = batch;
    if (!(tokens.length > 0 && tokens.length % length === 0)) {
      throw new RangeError(`${tokens.length} tokens are not whole sequences of ${length}`);
    }
    const embedding = this.#embedding();
    let x = matrix(tokens.length, config.d_model);
    for (let t = 0; t < tokens.length; t++) {
      const token = tokens[t]!;
      if (!(Number.isInteger(token) && token >= 0 && token < config.vocab_size)) {
        throw new RangeError(
          `Token ${token} is not in the vocabulary of ${config.vocab_size} tokens`,
        );
      }
      row(x, t).set(row(embedding, token));
    }
    const blocks: Block[] = [];
    let auxiliary = 0;
    for (let i = 0; i < config.num_layers; i++) {
      const norms = this.#weights<"attn_norm.weight" | "ffn_norm.weight">(`layers.${i}.`);
      const attentionNorm = rmsNormForward(x, norms["attn_norm.weight"]);
      const attention = attentionForward(
        config,
        this.#weights<AttentionName>(`layers.${i}.attn.`),
        { x: attentionNorm.y, length },
      );
      x = add(x, attention.y);
      const ffnNorm = rmsNormForward(x, norms["ffn_norm.weight"]);
      const ffn = this.#feedForward(i, ffnNorm.y, options);
      x = add(x, ffn.saved.y);
      if (ffn.kind === "ethos") auxiliary += ffn.saved.auxiliary;
      blocks.push({ attentionNorm, attention, ffnNorm, ffn });
    }
    const finalNorm = rmsNormForward(x, this.parameters.get("final_norm.weight")!);
    const logits = matmul(finalNorm.y, transpose(embedding));
    return { blocks, finalNorm, logits, auxiliary };
  }

  #feedForward(layer: number, x: Matrix, options: ForwardOptions): Block["ffn"] {
    const prefix = `layers.${layer}.ffn.`;
    if (!isSparse(this.config, layer)) {
      const saved = swigluForward(this.config, this.#weights<SwigluName>(prefix), x);
      return { kind: "dense", saved };
    }
    const selection = options.selections?.get(layer);
    const weights: EthosWeights = this.#weights(prefix);
    const saved = ethosForward(this.config, weights, {
      x,
      training: options.training ?? true,
      execution: this.#execution,
      ...(selection && { selection }),
    });
    return { kind: "ethos", saved };
  }

  #losses(pass: Pass, batch: TokenBatch): Losses {
    const { loss } = crossEntropy(pass.logits, batch.targets);
    const routings = new Map<number, Routing>();
    pass.blocks.forEach(({ ffn }, i) => {
      if (ffn.kind === "ethos") routings.set(i, ffn.saved.routing);
    });
    return { crossEntropy: loss, total: loss + pass.auxiliary, logits: pass.logits, routings };
  }

  #backward(pass: Pass, batch: TokenBatch): Map<string, Float64Array> {
    const embedding = this.#embedding();
    const gradients = new Map<string, Float64Array>();
    const put = (prefix: string, weights: object) => {
      for (const [name, value] of Object.entries(weights)) gradients.set(prefix + name, value);
    };

    const { gradient: gLogits } = crossEntropy(pass.logits, batch.targets);
    const gEmbedding = matmul(transpose(gLogits), pass.finalNorm.y);
    const final = rmsNormBackward(pass.finalNorm, matmul(gLogits, embedding));
    put("final_norm.", { weight: final.gain });

    let gx = final.x;
    for (let i = pass.blocks.length - 1; i >= 0; i--) {
      const { attentionNorm, attention, ffnNorm, ffn } = pass.blocks[i]!;
      const outer = ffn.kind === "ethos"
        ? ethosBackward(ffn.saved, gx)
        : swigluBackward(ffn.saved, gx);
      put(`layers.${i}.ffn.`, outer.weights);
      const second = rmsNormBackward(ffnNorm, outer.x);
      put(`layers.${i}.ffn_norm.`, { weight: second.gain });
      gx = add(gx, second.x);

      const inner = attentionBackward(attention, gx);
      put(`layers.${i}.attn.`, inner.weights);
      const first = rmsNormBackward(attentionNorm, inner.x);
      put(`layers.${i}.attn_norm.`, { weight: first.gain });
      gx = add(gx, first.x);
    }

    // The embedding is read at both ends: as the output head above, and by token here.
    for (let t = 0; t < gx.rows; t++) {
      addScaled(row(gEmbedding, batch.tokens[t]!), 1, row(gx, t));
    }
    put("embed.", { weight: gEmbedding.data });
    return gradients;
  }
}
