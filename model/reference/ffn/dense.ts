/**
 * The dense feed-forward layer: `y = (silu(x W_gate) ⊙ (x W_up)) W_down`.
 *
 * @module
 */

import type { FfnSection } from "../../section.ts";
import { silu, siluDerivative } from "../activation.ts";
import { type FeedForwardInput, type FeedForwardPass, need } from "../layer.ts";
import { add, map, matmul, matrix, transpose, type Weights, zip } from "../matrix.ts";

/** The layer over the rows of `x`. */
export function dense(
  { d_ffn }: Pick<Extract<FfnSection, { kind: "dense" }>, "d_ffn">,
  weights: Weights<string>,
  { x }: Pick<FeedForwardInput, "x">,
): FeedForwardPass {
  const named = need(weights, ["w_gate", "w_up", "w_down"]);
  const w_gate = matrix(x.columns, d_ffn, named.w_gate);
  const w_up = matrix(x.columns, d_ffn, named.w_up);
  const w_down = matrix(d_ffn, x.columns, named.w_down);
  const gate = matmul(x, w_gate);
  const up = matmul(x, w_up);
  const hidden = zip(gate, up, (g, u) => silu(g) * u);
  return {
    y: matmul(hidden, w_down),
    backward(gradient) {
      const gHidden = matmul(gradient, transpose(w_down));
      const gUp = zip(gHidden, gate, (g, value) => g * silu(value));
      const gActive = zip(gHidden, up, (g, u) => g * u);
      const gGate = zip(gActive, map(gate, siluDerivative), (g, d) => g * d);
      const xT = transpose(x);
      return {
        x: add(matmul(gGate, transpose(w_gate)), matmul(gUp, transpose(w_up))),
        weights: {
          w_gate: matmul(xT, gGate).data,
          w_up: matmul(xT, gUp).data,
          w_down: matmul(transpose(hidden), gradient).data,
        },
      };
    },
  };
}
