/**
 * A model whose MLPs have Sparse Expansion: it is expanded layer after layer, each MLP for the rows that reach it behind the expanded ones before it.
 *
 * @module
 */

import { geluLayerForward } from "../ffn/dense/gelu.ts";
import { swigluLayerForward } from "../ffn/dense/swiglu.ts";
import { runPlan } from "../gpu/build.ts";
import type { Gpu } from "../gpu/device.ts";
import { Plan } from "../gpu/plan.ts";
import type { Tensor } from "../gpu/tensor.ts";
import { downloadParts } from "../gpu/transfer.ts";
import { LayerContext } from "../layer/context.ts";
import type { Weights } from "../layer/weights.ts";
import type { FfnSection } from "../section.ts";
import type { Architecture } from "../trunk/architecture.ts";
import { recordBeforeFeedForward, recordEmbedding, recordForwardWith } from "../trunk/network.ts";
import { type DenseMlp, ExpandedMlp, type MlpOptions, type MlpRows, type SiteName } from "./mlp.ts";
import { ALIGNED_ROWS, chunkRows, Tensors } from "./rows.ts";
import type { RouterFit } from "./router.ts";
import type { PrunedMatrix } from "./sparsegpt.ts";

/** Rows that run through a layer at once, at most; those of one window may be more. */
const BATCH_ROWS = 16384;

/** A dense model on the GPU. */
export interface DenseModel {
  readonly architecture: Architecture;
  /** In f32. */
  readonly weights: Weights;
}

/** How a model is expanded. */
export interface ModelExpansion extends Pick<MlpOptions, "expansion" | "pruning" | "seed"> {
  /** The calibration windows, one after another. */
  readonly tokens: ArrayLike<number>;
  /** Tokens of a window. */
  readonly length: number;
  /** Rows that run through a layer at once, at most, if not as many as there is room for. */
  readonly most?: number;
  /** Gets each router as it is fitted. */
  readonly onRouter?: (block: number, site: SiteName, fit: RouterFit) => void;
  /** Gets each MLP as it is expanded, with its dense matrices and the rows that it was expanded for, which are freed afterwards. */
  readonly onMlp?: (at: {
    readonly block: number;
    readonly mlp: ExpandedMlp;
    readonly dense: DenseMlp;
    readonly rows: MlpRows;
  }) => void | Promise<void>;
  /** Gets each expert as it is pruned; `layer` is `gate`, `up` or `down`. */
  readonly onExpert?: (expert: {
    readonly block: number;
    readonly layer: string;
    readonly cluster: number;
    readonly matrix: PrunedMatrix;
  }) => void | Promise<void>;
}

type Dense = Extract<FfnSection, { kind: "dense" }>;

/** The section of an MLP. @throws {RangeError} If it is none that can be expanded. */
function denseOf({ config }: Architecture, block: number): Dense {
  const { ffn, leading_dense } = config;
  if (block < leading_dense.num_layers) return { kind: "dense", d_ffn: leading_dense.d_ffn };
  if (ffn.kind !== "dense") {
    throw new RangeError(`block ${block}: the feed-forward is ${ffn.kind}, expected dense`);
  }
  if ((ffn.activation ?? "swiglu") === "swiglu" && ffn.biases) {
    throw new RangeError(`block ${block}: the MLP has a gate and biases, expected no biases`);
  }
  return ffn;
}

/** Windows that run at once: all, or so many that their rows may be a chunk that others follow. */
function windowsAtOnce(rows: { length: number; windows: number; most: number }): number {
  const { length, windows, most } = rows;
  if (windows * length <= most) return windows;
  let step = 1;
  while (step * length % ALIGNED_ROWS !== 0) step *= 2;
  const steps = Math.max(1, Math.floor(most / (step * length)));
  return Math.min(windows, steps * step);
}

/** A stored matrix `[in, out]` as `[out, in]`. */
function transposed(values: Float32Array, outputs: number): Float32Array {
  const inputs = values.length / outputs;
  const out = new Float32Array(values.length);
  for (let r = 0; r < inputs; r++) {
    for (let c = 0; c < outputs; c++) out[c * inputs + r] = values[r * outputs + c]!;
  }
  return out;
}

/** Calibration windows on their way through a model. */
class Calibration implements Disposable {
  readonly #gpu: Gpu;
  readonly #model: DenseModel;
  readonly #length: number;
  readonly #tensors: Tensors;
  /** The residual stream of each batch of windows, f32 `[T, D]`. */
  readonly #states: readonly Tensor[];
  readonly #tokens: readonly Tensor[];

  constructor(gpu: Gpu, model: DenseModel, { tokens, length, most }: ModelExpansion) {
    const { d_model, num_layers, vocab_size } = model.architecture.config;
    if (!(length > 0 && tokens.length > 0 && tokens.length % length === 0)) {
      throw new RangeError(`${tokens.length} calibration tokens are no windows of ${length}`);
    }
    const bad = Array.from(tokens).find((id) =>
      !(Number.isInteger(id) && id >= 0 && id < vocab_size)
    );
    if (bad !== undefined) {
      throw new RangeError(`Calibration has the token ${bad}, expected one below ${vocab_size}`);
    }
    const widest = Math.max(
      d_model,
      ...Array.from({ length: num_layers }, (_, i) => denseOf(model.architecture, i).d_ffn),
    );
    const room = chunkRows(gpu, widest);
    const batch = windowsAtOnce({
      length,
      windows: tokens.length / length,
      most: Math.min(room, most ?? BATCH_ROWS),
    });
    if (batch * length > room) {
      throw new RangeError(
        `${batch} windows of ${length} tokens are ${batch * length} rows, expected at most ${room}`,
      );
    }
    this.#gpu = gpu;
    this.#model = model;
    this.#length = length;
    this.#tensors = new Tensors(gpu);
    const ids = Uint32Array.from(tokens);
    this.#tokens = Array.from(
      { length: Math.ceil(ids.length / (batch * length)) },
      (_, i) => {
        const values = ids.subarray(i * batch * length, (i + 1) * batch * length);
        return this.#tensors.tensor(`tokens.${i}`, [values.length], { dtype: "u32", values });
      },
    );
    this.#states = this.#tokens.map(({ size }, i) =>
      this.#tensors.tensor(`states.${i}`, [size, d_model])
    );
  }

  #context(rows: number): LayerContext {
    const batch = rows / this.#length;
    const plan = new Plan(this.#gpu, "calibration");
    return new LayerContext(plan, this.#model.weights, {
      batch,
      length: this.#length,
      mode: "evaluate",
    });
  }

  /** Embeds the windows. */
  async embed(): Promise<void> {
    for (const [i, tokens] of this.#tokens.entries()) {
      const context = this.#context(tokens.size);
      const x = recordEmbedding(context, this.#model.architecture, { tokens });
      context.plan.copy(x, this.#states[i]!);
      await runPlan(context.plan);
    }
  }

  /**
   * Runs every window up to a block's MLP, which is still dense, and leaves there the residual stream that its output will be added to.
   *
   * @returns The rows that enter each site, which belong to `tensors`.
   */
  async enter(block: number, tensors: Tensors): Promise<Record<SiteName, Tensor[]>> {
    const { architecture } = this.#model;
    const dense = denseOf(architecture, block);
    const rows: Record<SiteName, Tensor[]> = { in: [], mid: [] };
    for (const state of this.#states) {
      const context = this.#context(state.rows);
      const before = recordBeforeFeedForward(context, architecture, { i: block, x: state });
      const h = recordInner(context, `layers.${block}.ffn`, { ...before, dense });
      for (const [site, from] of [["in", before.x], ["mid", h]] as const) {
        const kept = tensors.tensor(`rows.${site}`, from.shape);
        context.plan.copy(from, kept);
        rows[site].push(kept);
      }
      context.plan.copy(before.residual, state);
      await runPlan(context.plan);
    }
    return rows;
  }

  /** Adds the output of a block's expanded MLP to the residual stream. */
  async leave(mlp: ExpandedMlp, rows: readonly Tensor[]): Promise<void> {
    for (const [i, state] of this.#states.entries()) {
      const plan = new Plan(this.#gpu, "expanded");
      plan.copy(mlp.record(plan, rows[i]!, { residual: state }).y, state);
      await runPlan(plan);
    }
  }

  /** Frees its memory. */
  [Symbol.dispose](): void {
    this.#tensors[Symbol.dispose]();
  }
}

/** Records a dense MLP, whose output nobody reads, and returns the rows behind its activation, f32 `[T, F]`. */
function recordInner(
  context: LayerContext,
  at: string,
  { dense, ...rows }: { dense: Dense; x: Tensor; residual: Tensor },
): Tensor {
  const { activation = "swiglu", biases = false } = dense;
  if (activation === "swiglu") {
    return swigluLayerForward(context, at, { ...rows, biases }).saved.h;
  }
  const form = activation === "gelu" ? "tanh" : "exact";
  return geluLayerForward(context, at, { ...rows, biases, form }).saved.h;
}

/** The matrices of a block's MLP as SparseGPT reads them, which belong to `tensors`. */
async function denseMlp(
  gpu: Gpu,
  { architecture, weights }: DenseModel,
  { block, tensors }: { block: number; tensors: Tensors },
): Promise<DenseMlp> {
  const { activation = "swiglu", biases, d_ffn } = denseOf(architecture, block);
  const { d_model } = architecture.config;
  const read = (name: string) =>
    downloadParts(gpu, weights.value(`layers.${block}.ffn.${name}`).parts);
  const load = async (name: string, [outputs, inputs]: readonly [number, number]) =>
    tensors.matrix(name, transposed(await read(`w_${name}`), outputs), inputs);
  const up = await load("up", [d_ffn, d_model]);
  const down = await load("down", [d_model, d_ffn]);
  if (activation === "swiglu") {
    return { activation, gate: await load("gate", [d_ffn, d_model]), up, down };
  }
  return {
    activation: activation === "gelu" ? "gelu_tanh" : "gelu",
    up,
    down,
    ...(biases && { biases: { up: await read("b_up"), down: await read("b_down") } }),
  };
}

/** A model with expanded MLPs on the GPU. The weights of all else are those of the dense model, which has to last as long. */
export class ExpandedModel implements Disposable {
  readonly #model: DenseModel;
  readonly #mlps: readonly ExpandedMlp[];

  private constructor(model: DenseModel, mlps: readonly ExpandedMlp[]) {
    this.#model = model;
    this.#mlps = mlps;
  }

  /**
   * Expands every MLP of a model, layer after layer.
   *
   * @throws {RangeError} Which option does not fit, or what is wrong with the rows of which site.
   */
  static async expand(
    gpu: Gpu,
    model: DenseModel,
    options: ModelExpansion,
  ): Promise<ExpandedModel> {
    const { expansion, pruning, seed, onRouter, onExpert, onMlp } = options;
    if (model.weights.precision !== "f32") {
      throw new RangeError(`The weights are ${model.weights.precision}, expected f32`);
    }
    const mlps: ExpandedMlp[] = [];
    try {
      using calibration = new Calibration(gpu, model, options);
      await calibration.embed();
      for (let block = 0; block < model.architecture.config.num_layers; block++) {
        using tensors = new Tensors(gpu);
        const rows = await calibration.enter(block, tensors);
        const site = (chunks: readonly Tensor[]) => ({
          chunks,
          count: chunks.reduce((sum, chunk) => sum + chunk.rows, 0),
          width: chunks[0]!.width,
        });
        const dense = await denseMlp(gpu, model, { block, tensors });
        const entering = { in: site(rows.in), mid: site(rows.mid) };
        const mlp = await ExpandedMlp.expand(gpu, dense, {
          rows: entering,
          expansion,
          pruning,
          seed,
          block,
          ...(onRouter && { onRouter: (at, fit) => onRouter(block, at, fit) }),
          ...(onExpert && { onExpert: (expert) => onExpert({ block, ...expert }) }),
        });
        mlps.push(mlp);
        await onMlp?.({ block, mlp, dense, rows: entering });
        await calibration.leave(mlp, rows.in);
      }
    } catch (error) {
      for (const mlp of mlps) mlp[Symbol.dispose]();
      throw error;
    }
    return new ExpandedModel(model, mlps);
  }

  /** Records the layers for tokens `[T]`, u32, in a context over the dense model's weights; returns the residual stream after the last one, f32 `[T, D]`. */
  record(context: LayerContext, tokens: Tensor): Tensor {
    return recordForwardWith(context, this.#model.architecture, {
      tokens,
      feedForward: (i, { x, residual }) =>
        context.plan.scope(
          `layers.${i}.ffn`,
          () => this.#mlps[i]!.record(context.plan, x, { residual }).y,
        ),
    });
  }

  /** Frees routers and experts. */
  [Symbol.dispose](): void {
    for (const mlp of this.#mlps) mlp[Symbol.dispose]();
  }
}
