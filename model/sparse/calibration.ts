/**
 * Calibration windows on their way through a model whose MLPs are expanded one after the other.
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
import {
  type FeedForwardRows,
  recordBeforeFeedForward,
  recordEmbedding,
} from "../trunk/network.ts";
import type { DenseMlp, ExpandedMlp, SiteName } from "./mlp.ts";
import { ALIGNED_ROWS, chunkRows, Tensors } from "./rows.ts";

/** Rows that run through a layer at once, at most; those of one window may be more. */
const BATCH_ROWS = 16384;

/** A dense model on the GPU. */
export interface DenseModel {
  readonly architecture: Architecture;
  /** In f32. */
  readonly weights: Weights;
}

/** Calibration windows. */
export interface Windows {
  /** One after another. */
  readonly tokens: ArrayLike<number>;
  /** Tokens of a window. */
  readonly length: number;
  /** Rows that run through a layer at once, at most, if not as many as there is room for. */
  readonly most?: number | undefined;
}

type Dense = Extract<FfnSection, { kind: "dense" }>;

/** The section of an MLP. @throws {RangeError} If it is none that can be expanded. */
export function denseOf({ config }: Architecture, block: number): Dense {
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

/** Refuses tokens that are no windows of a model. @throws {RangeError} What is wrong with them. */
export function checkWindows(
  { config: { vocab_size } }: Architecture,
  { tokens, length }: Windows,
): void {
  if (!(length > 0 && tokens.length > 0 && tokens.length % length === 0)) {
    throw new RangeError(`${tokens.length} calibration tokens are no windows of ${length}`);
  }
  const bad = Array.from(tokens).find((id) =>
    !(Number.isInteger(id) && id >= 0 && id < vocab_size)
  );
  if (bad !== undefined) {
    throw new RangeError(`Calibration has the token ${bad}, expected one below ${vocab_size}`);
  }
}

/** Calibration windows on their way through a model. */
export class Calibration implements Disposable {
  readonly #gpu: Gpu;
  readonly #architecture: Architecture;
  readonly #length: number;
  readonly #tensors: Tensors;
  /** The residual stream of each batch of windows, f32 `[T, D]`. */
  readonly #states: readonly Tensor[];
  readonly #tokens: readonly Tensor[];

  /**
   * Moves the windows to the device.
   *
   * @throws {RangeError} If they are no windows of the model.
   */
  constructor(gpu: Gpu, architecture: Architecture, { tokens, length, most }: Windows) {
    const { d_model, num_layers } = architecture.config;
    checkWindows(architecture, { tokens, length });
    const widest = Math.max(
      d_model,
      ...Array.from({ length: num_layers }, (_, i) => denseOf(architecture, i).d_ffn),
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
    this.#architecture = architecture;
    this.#length = length;
    this.#tensors = new Tensors(gpu);
    const ids = new Uint32Array(tokens);
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

  #context(weights: Weights, rows: number): LayerContext {
    const batch = rows / this.#length;
    const plan = new Plan(this.#gpu, "calibration");
    return new LayerContext(plan, weights, {
      batch,
      length: this.#length,
      mode: "evaluate",
    });
  }

  /** Embeds the windows, with the weights of the embedding. */
  async embed(weights: Weights): Promise<void> {
    for (const [i, tokens] of this.#tokens.entries()) {
      const context = this.#context(weights, tokens.size);
      const x = recordEmbedding(context, this.#architecture, { tokens });
      context.plan.copy(x, this.#states[i]!);
      await runPlan(context.plan);
    }
  }

  /**
   * Runs every window up to a block's MLP, which is still dense, and leaves there the residual stream that its output will be added to.
   *
   * @param weights Those of the block.
   * @returns The rows that enter each site, which belong to `tensors`.
   */
  async enter(
    block: number,
    { weights, tensors }: { readonly weights: Weights; readonly tensors: Tensors },
  ): Promise<Record<SiteName, Tensor[]>> {
    const dense = denseOf(this.#architecture, block);
    const rows: Record<SiteName, Tensor[]> = { in: [], mid: [] };
    const at = `layers.${block}.ffn`;
    for (const state of this.#states) {
      await this.#reach(block, { weights, state }, (context, before) => {
        const h = recordInner(context, at, { ...before, dense });
        rows.in.push(keptRows(context, tensors, { name: "rows.in", from: before.x }));
        rows.mid.push(keptRows(context, tensors, { name: "rows.mid", from: h }));
      });
    }
    return rows;
  }

  /**
   * Runs every window through a block whose MLP has been expanded.
   *
   * @param weights Those of the block's attention and norms.
   */
  async pass(
    block: number,
    { weights, mlp }: { readonly weights: Weights; readonly mlp: ExpandedMlp },
  ): Promise<void> {
    using tensors = new Tensors(this.#gpu);
    const rows: Tensor[] = [];
    for (const state of this.#states) {
      await this.#reach(block, { weights, state }, (context, { x }) => {
        rows.push(keptRows(context, tensors, { name: "rows.in", from: x }));
      });
    }
    await this.leave(mlp, rows);
  }

  /** Runs a batch up to a block's MLP. */
  async #reach(
    block: number,
    { weights, state }: { readonly weights: Weights; readonly state: Tensor },
    record: (context: LayerContext, before: FeedForwardRows) => void,
  ): Promise<void> {
    const context = this.#context(weights, state.rows);
    const before = recordBeforeFeedForward(context, this.#architecture, { i: block, x: state });
    record(context, before);
    context.plan.copy(before.residual, state);
    await runPlan(context.plan);
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

/** Records a copy of rows that lasts. */
function keptRows(
  { plan }: LayerContext,
  tensors: Tensors,
  { name, from }: { readonly name: string; readonly from: Tensor },
): Tensor {
  const kept = tensors.tensor(name, from.shape);
  plan.copy(from, kept);
  return kept;
}

/** The matrices of a block's MLP as SparseGPT reads them, which belong to `tensors`. */
export async function denseMlp(
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
