/**
 * The ends of several norms' gradients in one dispatch.
 *
 * @module
 */

import source from "../../../shaders/norm/norm_gains_lanes.wgsl" with { type: "text" };
import { type Binding, grid, read, update, write } from "../../gpu/kernel.ts";
import type { Plan } from "../../gpu/plan.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import type { VectorGradient } from "./batch_norm.ts";

/** The gradient of a vector, and its sums over blocks of rows, `[blocks, columns]`. */
interface UnfinishedGain {
  readonly partial: Tensor;
  readonly gradient: VectorGradient;
}

/** Invocations of a workgroup: two vector registers, since norms are narrow. */
const LANES = 16;
/** Gradients of a dispatch, at most: their sums stay in memory until then. */
const MOST = 16;

/**
 * Collects the sums that norms of a backward pass leave, for software adapters: there a dispatch takes longer than the end of such a sum. Call
 * {@linkcode NormGains.finish} behind the last norm.
 */
export class NormGains {
  readonly #plan: Plan;
  #waiting: UnfinishedGain[] = [];

  /** Collects nothing at first. */
  constructor(plan: Plan) {
    this.#plan = plan;
  }

  /** Takes a gradient to finish, in a later dispatch. */
  add(gain: UnfinishedGain): void {
    const { epilogue } = this.#waiting[0]?.gradient ?? gain.gradient;
    const most = Math.min(MOST, Math.floor(this.#plan.gpu.capabilities.max_storage_buffers / 2));
    if (gain.gradient.epilogue !== epilogue || this.#waiting.length === most) this.finish();
    this.#waiting.push(gain);
  }

  /** Records the dispatch that finishes what was taken since the last one. */
  finish(): void {
    const gains = this.#waiting;
    const epilogue = gains[0]?.gradient.epilogue;
    if (epilogue === undefined) return;
    this.#waiting = [];
    const groups = Math.ceil(Math.max(...gains.map(({ partial }) => partial.width)) / 4 / LANES);
    const bindings: Record<string, Binding> = {};
    const params: Record<string, number> = { groups };
    for (const [i, { partial, gradient: { tensor } }] of gains.entries()) {
      params[`columns_${i}`] = partial.width / 4;
      params[`blocks_${i}`] = partial.rows;
      bindings[`partial_${i}`] = read(partial);
      bindings[`sum_${i}`] = epilogue === "accumulate" ? update(tensor) : write(tensor);
    }
    this.#plan.dispatch({
      label: "norm_gains",
      name: "norm_gains_lanes",
      source,
      constants: { LANES, COUNT: gains.length, EPILOGUE: epilogue },
      params,
      bindings,
      workgroups: grid(gains.length * groups),
      flops: gains.reduce((n, { partial }) => n + partial.size, 0),
    });
  }
}
