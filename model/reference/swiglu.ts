/**
 * The dense feed-forward layer: `y = (silu(x W_gate) ⊙ (x W_up)) W_down`.
 *
 * @module
 */

import type { ModelConfig } from "../config.ts";
import { silu, siluDerivative } from "./activation.ts";
import { add, map, matmul, type Matrix, matrix, transpose, type Weights, zip } from "./matrix.ts";

/** Sizes that the layer reads. */
export type SwigluSizes = Pick<ModelConfig, "d_model" | "d_ffn">;

/** Names of the layer's weights, after `layers.N.ffn.`. */
export type SwigluName = "w_gate" | "w_up" | "w_down";

/** What {@linkcode swigluForward} returns; the input of {@linkcode swigluBackward}. */
export interface Swiglu {
  /** Output, tokens × d_model. */
  readonly y: Matrix;
  /** Input, tokens × d_model. */
  readonly x: Matrix;
  /** Sizes of the layer. */
  readonly sizes: SwigluSizes;
  /** Weights of the layer. */
  readonly weights: Weights<SwigluName>;
  /** `x W_gate`, before silu. */
  readonly gate: Matrix;
  /** `x W_up`. */
  readonly up: Matrix;
  /** `silu(gate) ⊙ up`. */
  readonly hidden: Matrix;
}

function matrices({ d_model, d_ffn }: SwigluSizes, weights: Weights<SwigluName>) {
  return {
    w_gate: matrix(d_model, d_ffn, weights.w_gate),
    w_up: matrix(d_model, d_ffn, weights.w_up),
    w_down: matrix(d_ffn, d_model, weights.w_down),
  };
}

/** The layer's output for `x`, tokens × d_model. */
export function swigluForward(
  sizes: SwigluSizes,
  weights: Weights<SwigluName>,
  x: Matrix,
): Swiglu {
  const w = matrices(sizes, weights);
  const gate = matmul(x, w.w_gate);
  const up = matmul(x, w.w_up);
  const hidden = zip(gate, up, (g, u) => silu(g) * u);
  return { y: matmul(hidden, w.w_down), x, sizes, weights, gate, up, hidden };
}

/** Gradients of the input and of every weight. */
export function swigluBackward(
  saved: Swiglu,
  gradient: Matrix,
): { x: Matrix; weights: Weights<SwigluName> } {
  const { x, gate, up, hidden } = saved;
  const w = matrices(saved.sizes, saved.weights);
  const gHidden = matmul(gradient, transpose(w.w_down));
  const gUp = zip(gHidden, gate, (g, value) => g * silu(value));
  const gGate = zip(zip(gHidden, up, (g, u) => g * u), map(gate, siluDerivative), (g, d) => g * d);
  const xT = transpose(x);
  return {
    x: add(matmul(gGate, transpose(w.w_gate)), matmul(gUp, transpose(w.w_up))),
    weights: {
      w_gate: matmul(xT, gGate).data,
      w_up: matmul(xT, gUp).data,
      w_down: matmul(transpose(hidden), gradient).data,
    },
  };
}
