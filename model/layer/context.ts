/**
 * The plan, the sizes of a batch and the weights by name: a layer records itself with them. Activations are matrices
 * `[T, width]` with `T = batch · length` rows.
 *
 * @module
 */

import type { Plan } from "../gpu/plan.ts";
import type { DType, Tensor } from "../gpu/tensor.ts";
import { dropoutKey, dropoutPlace, type RecordedDropout } from "../ops/dropout/dropout.ts";
import type { Epilogue } from "../ops/gemm/gemm.ts";
import { NormGains } from "../ops/norm/norm_gains.ts";
import type { Table, Weights } from "./weights.ts";

/** Where a gradient goes, and whether what is there is kept. */
export interface GradientTarget {
  readonly tensor: Tensor;
  /** `accumulate` when an earlier use, or an earlier micro-batch, already wrote it. */
  readonly epilogue: Extract<Epilogue, "none" | "accumulate">;
}

/** Options of {@linkcode LayerContext}. */
export interface LayerContextOptions {
  /** Sequences in a micro-batch, B. */
  readonly batch: number;
  /** Tokens in a sequence, L. */
  readonly length: number;
  /** `train`: batch statistics, updated running ones, saved activations. `evaluate`: running statistics. */
  readonly mode: "train" | "evaluate";
  /** Add to gradients that an earlier micro-batch left. */
  readonly accumulate?: boolean;
  /** Micro-batches in an update, over which losses and gradients are averaged; defaults to 1. */
  readonly microBatches?: number;
  /** Needed by layers that drop numbers in training. */
  readonly dropout?: DropoutState;
  /** Records what is done with a layer's choice of experts before they run: it may change the scores, in place. */
  readonly onChoice?: (choice: ExpertChoice) => void;
}

/** The experts that the tokens of a recorded pass chose in one layer. */
export interface ExpertChoice {
  /** Where the pass is recorded. */
  readonly plan: Plan;
  /** Prefix of the layer's weights: `layers.3.ffn`. */
  readonly at: string;
  /** Their numbers, u32 `[T, M]`, or several numbers each, as the router gives them. */
  readonly index: Tensor;
  /** The factor of each in the layer's output, f32 `[T, M]`. */
  readonly score: Tensor;
}

/** The source of dropout's masks. */
export interface DropoutState {
  /** Chooses the masks. */
  readonly seed: number;
  /** The control tensor, which holds the number of the update. */
  readonly control: Tensor;
  /** `[2]` u32: from it, a micro-batch that accumulates gradients knows its number. */
  readonly key: Tensor;
  /** The host writes the number of the micro-batch before a group's first one to the key, for it may be any of the update. */
  readonly numbered?: boolean;
}

/** Where a layer records itself: the plan, the sizes of the batch, and the weights by name. */
export class LayerContext {
  readonly plan: Plan;
  readonly weights: Weights;
  readonly batch: number;
  readonly length: number;
  readonly mode: "train" | "evaluate";
  /** Weight of this micro-batch in the update: one over their number. */
  readonly share: number;
  #recomputing = false;
  readonly #accumulate: boolean;
  readonly #written = new Set<string>();
  readonly #dropout: DropoutState | undefined;
  readonly #onChoice: LayerContextOptions["onChoice"];
  #dropoutRecorded = false;
  #gains: NormGains | undefined;

  constructor(plan: Plan, weights: Weights, options: LayerContextOptions) {
    this.plan = plan;
    this.weights = weights;
    this.batch = options.batch;
    this.length = options.length;
    this.mode = options.mode;
    this.share = 1 / (options.microBatches ?? 1);
    this.#accumulate = options.accumulate ?? false;
    this.#dropout = options.dropout;
    this.#onChoice = options.onChoice;
  }

  /** Called by layers with experts between their choice and their experts. */
  chosen(choice: Omit<ExpertChoice, "plan">): void {
    this.#onChoice?.({ ...choice, plan: this.plan });
  }

  /**
   * Dropout at a place, such as `layers.3.attn.output`; undefined where nothing is dropped, as outside of training. The first call records the key of the
   * micro-batch's masks.
   *
   * @throws {Error} If a training context was given no source of masks.
   */
  dropout(place: string, rate: number): RecordedDropout | undefined {
    if (this.mode === "evaluate" || rate === 0) return undefined;
    if (!this.#dropout) throw new Error(`${place}: a training pass with dropout needs a seed`);
    const { key, control, seed, numbered = false } = this.#dropout;
    if (!this.#dropoutRecorded) {
      this.#dropoutRecorded = true;
      const first = !this.#accumulate && !numbered;
      dropoutKey(this.plan, "dropout", { key, control, seed, first });
    }
    return { key, place: dropoutPlace(place), rate };
  }

  /** Whether a forward pass is being recorded a second time: it must leave running statistics alone. */
  get recomputing(): boolean {
    return this.#recomputing;
  }

  /** Records part of the forward pass again, for the backward pass to read. */
  recompute<T>(record: () => T): T {
    this.#recomputing = true;
    try {
      return this.plan.scope("recompute", record);
    } finally {
      this.#recomputing = false;
    }
  }

  /** Records a backward pass. The ends of its norms' gradients are recorded together, behind it, where that is faster. */
  joinGains<T>(record: () => T): T {
    const gains = this.#gains = new NormGains(this.plan);
    try {
      const result = record();
      gains.finish();
      return result;
    } finally {
      this.#gains = undefined;
    }
  }

  /** Takes the ends of norms' gradients within {@linkcode LayerContext.joinGains}; elsewhere each norm records its own. */
  get gains(): NormGains | undefined {
    return this.#gains;
  }

  /** Tokens in a micro-batch, `T = B · L`. */
  get tokens(): number {
    return this.batch * this.length;
  }

  /** Type of the activations that matrix products read: f16 in mixed precision. */
  get operandType(): DType {
    return this.weights.precision === "mixed" ? "f16" : "f32";
  }

  /** A transient activation that matrix products read. */
  operand(name: string, ...shape: number[]): Tensor {
    return this.plan.tensor(name, shape, { dtype: this.operandType });
  }

  /** A transient f32 activation: residual stream, statistics, whatever is summed. */
  activation(name: string, ...shape: number[]): Tensor {
    return this.plan.tensor(name, shape);
  }

  /** A matrix as products read it; an error when it is split into parts. */
  weight(name: string): Tensor {
    return only(this.weights.operand(name));
  }

  /** Parts of a matrix as products read it. */
  weightParts(name: string): readonly Tensor[] {
    return this.weights.operand(name).parts;
  }

  /** A vector parameter or running statistics, always f32. */
  vector(name: string): Tensor {
    return only(this.weights.value(name));
  }

  /** Where the gradient of a whole parameter goes. Each call stands for one write. */
  gradient(name: string): GradientTarget {
    const targets = this.gradientParts(name);
    if (targets.length !== 1) throw new RangeError(`${name} is split into ${targets.length} parts`);
    return targets[0]!;
  }

  /** Where the gradients of a parameter's parts go. Each call stands for one write of every part. */
  gradientParts(name: string): readonly GradientTarget[] {
    const epilogue = this.#accumulate || this.#written.has(name) ? "accumulate" : "none";
    this.#written.add(name);
    return this.weights.gradient(name).parts.map((tensor) => ({ tensor, epilogue }));
  }
}

/** Refuses positions that are not one for each sequence of a context that decodes. */
export function checkSequences({ batch }: LayerContext, at: string, position: Tensor): void {
  if (position.size === batch) return;
  throw new RangeError(
    `${at}: ${batch} sequences are decoded, with positions for ${position.size}`,
  );
}

function only(table: Table): Tensor {
  if (table.parts.length !== 1) {
    throw new RangeError(`${table.name} is split into ${table.parts.length} parts`);
  }
  return table.parts[0]!;
}
