/**
 * The experts that ran for each token: counted from the rows that their products computed, not from the gate's choice.
 *
 * @module
 */

import { buildPlans, type BuiltPlans } from "../../gpu/build.ts";
import { Arena } from "../../gpu/memory.ts";
import { Plan } from "../../gpu/plan.ts";
import { Tensor } from "../../gpu/tensor.ts";
import { download, upload } from "../../gpu/transfer.ts";
import type { InferenceModel } from "../../inference/model.ts";
import { LayerContext } from "../../layer/context.ts";
import type { ComputedRows } from "../../layer/kind.ts";
import { recordForward } from "../../trunk/network.ts";

/** The experts that ran in one layer. */
export interface LayerActivation {
  /** Number of the layer, from 0. */
  readonly layer: number;
  /** Experts of the layer, E. */
  readonly experts: number;
  /** Experts that a token may keep, k. */
  readonly kept: number;
  /** Tokens that were computed, T. */
  readonly tokens: number;
  /** Rows of tokens that experts computed; T·k where each token has k. */
  readonly slots: number;
  /** Rows by expert, `[E]`. */
  readonly counts: readonly number[];
  /** Fewest and most different experts of one token. */
  readonly fewest_experts: number;
  readonly most_experts: number;
  /** Rows in which an expert computed a token that it had computed before. */
  readonly repeated: number;
  /** Rows that filled tiles up: they were computed and used for nothing. */
  readonly padding: number;
}

interface LayerRows {
  readonly experts: number;
  readonly kept: number;
  readonly rows: ComputedRows;
}

/** Runs a model over tokens, sequences of one length, and counts what its experts compute. */
export class ActivationCounter implements Disposable {
  /** Sequences in a batch. */
  readonly batch: number;
  /** Tokens in a sequence. */
  readonly length: number;
  readonly #model: InferenceModel;
  readonly #tokens: Tensor;
  readonly #arena: Arena;
  readonly #plan: Plan;
  readonly #layers = new Map<number, LayerRows>();
  readonly #found = new Map<number, LayerActivation>();
  #built: BuiltPlans | undefined;

  private constructor(model: InferenceModel, { batch, length }: { batch: number; length: number }) {
    const { gpu, architecture, weights } = model;
    this.batch = batch;
    this.length = length;
    this.#model = model;
    this.#tokens = new Tensor("tokens", [batch * length], { dtype: "u32", owner: "batch" });
    this.#plan = new Plan(gpu, "what ran");
    const context = new LayerContext(this.#plan, weights, { batch, length, mode: "evaluate" });
    const { uses, x } = recordForward(context, architecture, { tokens: this.#tokens });
    this.#plan.keep(x);
    for (const [layer, { experts, index, rows }] of uses) {
      if (!rows) continue;
      this.#plan.keep(rows.source);
      this.#plan.keep(rows.of_tile);
      this.#layers.set(layer, { experts, kept: index.width, rows });
    }
    if (this.#layers.size === 0) {
      throw new RangeError("The model has no layer whose experts multiply rows of their own");
    }
    this.#arena = new Arena(gpu, "tokens", [this.#tokens]);
  }

  /**
   * A counter that is ready.
   *
   * @throws {RangeError} If no layer has whole experts.
   */
  static async open(
    model: InferenceModel,
    sizes: { readonly batch: number; readonly length: number },
  ): Promise<ActivationCounter> {
    const counter = new ActivationCounter(model, sizes);
    try {
      counter.#built = await buildPlans(model.gpu, [counter.#plan]);
    } catch (error) {
      counter[Symbol.dispose]();
      throw error;
    }
    return counter;
  }

  /** Counts a batch of tokens, `batch · length` of them, and adds it to what was counted before. */
  async add(tokens: Uint32Array): Promise<void> {
    if (tokens.length !== this.#tokens.size) {
      throw new RangeError(`A batch has ${this.#tokens.size} tokens, got ${tokens.length}`);
    }
    const { gpu } = this.#model;
    upload(gpu, this.#tokens, tokens);
    this.#built!.plans[0]!.run();
    for (const [layer, { experts, kept, rows }] of this.#layers) {
      const [source, of_tile] = await Promise.all(
        [rows.source, rows.of_tile].map((tensor) => download(gpu, tensor)),
      );
      const batch = countRows(source!, of_tile!, {
        tile: rows.tile,
        tokens: tokens.length,
        experts,
        kept,
      });
      const before = this.#found.get(layer);
      this.#found.set(layer, before ? joined(before, batch) : { layer, ...batch });
    }
  }

  /** Counts so far, by layer. */
  get layers(): readonly LayerActivation[] {
    return [...this.#found.values()];
  }

  /** Frees the device's memory. */
  [Symbol.dispose](): void {
    this.#built?.destroy();
    this.#arena.destroy();
  }
}

/** Counts the rows of one pass. */
export function countRows(
  source: ArrayLike<number>,
  of_tile: ArrayLike<number>,
  sizes: {
    readonly tile: number;
    readonly tokens: number;
    readonly experts: number;
    readonly kept: number;
  },
): Omit<LayerActivation, "layer"> {
  const { tile, tokens, experts, kept } = sizes;
  const counts = Array.from({ length: experts }, () => 0);
  const of_token = Array.from({ length: tokens }, () => new Set<number>());
  let [slots, repeated, padding] = [0, 0, 0];
  for (let row = 0; row < source.length; row++) {
    const expert = of_tile[Math.floor(row / tile)]!;
    if (expert >= experts) continue;
    const entry = source[row]!;
    if (entry >= tokens * kept) {
      padding++;
      continue;
    }
    const seen = of_token[Math.floor(entry / kept)]!;
    if (seen.has(expert)) repeated++;
    seen.add(expert);
    counts[expert]!++;
    slots++;
  }
  const sizesOfTokens = of_token.map(({ size }) => size);
  return {
    experts,
    kept,
    tokens,
    slots,
    counts,
    fewest_experts: sizesOfTokens.reduce((a, b) => Math.min(a, b), Infinity),
    most_experts: sizesOfTokens.reduce((a, b) => Math.max(a, b), 0),
    repeated,
    padding,
  };
}

function joined(
  a: LayerActivation,
  b: Omit<LayerActivation, "layer">,
): LayerActivation {
  return {
    ...a,
    tokens: a.tokens + b.tokens,
    slots: a.slots + b.slots,
    counts: a.counts.map((count, e) => count + b.counts[e]!),
    fewest_experts: Math.min(a.fewest_experts, b.fewest_experts),
    most_experts: Math.max(a.most_experts, b.most_experts),
    repeated: a.repeated + b.repeated,
    padding: a.padding + b.padding,
  };
}

/** Whether each token had exactly k different experts, each computed once. */
export function isExact(layer: LayerActivation): boolean {
  const { fewest_experts, most_experts, kept, repeated, slots, tokens } = layer;
  return fewest_experts === kept && most_experts === kept && repeated === 0 &&
    slots === tokens * kept;
}
