/**
 * The dense feed-forward layer: `y = (silu(x W_gate) ⊙ (x W_up)) W_down`, or `y = gelu(x W_up) W_down`.
 *
 * @module
 */

import type { FfnSection } from "../../section.ts";
import {
  gelu,
  geluDerivative,
  geluExact,
  geluExactDerivative,
  silu,
  siluDerivative,
} from "../activation.ts";
import { type FeedForwardInput, type FeedForwardPass, need } from "../layer.ts";
import { add, map, matmul, matrix, transpose, type Weights, zip } from "../matrix.ts";

type DenseSizes = Pick<Extract<FfnSection, { kind: "dense" }>, "d_ffn" | "activation">;

/** The layer over the rows of `x`. */
export function dense(
  section: DenseSizes,
  weights: Weights<string>,
  input: Pick<FeedForwardInput, "x">,
): FeedForwardPass {
  const { activation = "swiglu" } = section;
  return activation === "swiglu"
    ? swigluLayer(section, weights, input)
    : geluLayer(section, weights, input);
}

function geluLayer(
  { d_ffn, activation }: DenseSizes,
  weights: Weights<string>,
  { x }: Pick<FeedForwardInput, "x">,
): FeedForwardPass {
  const named = need(weights, ["w_up", "w_down"]);
  const w_up = matrix(x.columns, d_ffn, named.w_up);
  const w_down = matrix(d_ffn, x.columns, named.w_down);
  const [value, slope] = activation === "gelu_exact"
    ? [geluExact, geluExactDerivative]
    : [gelu, geluDerivative];
  const up = matmul(x, w_up);
  const hidden = map(up, value);
  return {
    y: matmul(hidden, w_down),
    backward(gradient) {
      const gUp = zip(matmul(gradient, transpose(w_down)), up, (g, v) => g * slope(v));
      return {
        x: matmul(gUp, transpose(w_up)),
        weights: {
          w_up: matmul(transpose(x), gUp).data,
          w_down: matmul(transpose(hidden), gradient).data,
        },
      };
    },
  };
}

function swigluLayer(
  { d_ffn }: DenseSizes,
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
