/**
 * The dense feed-forward layer: `y = (silu(x W_gate + b_gate) ⊙ (x W_up + b_up)) W_down + b_down`, or `y = gelu(x W_up + b_up) W_down + b_down`.
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
import {
  add,
  addScaled,
  columnSums,
  map,
  matmul,
  type Matrix,
  matrix,
  row,
  transpose,
  type Weights,
  zip,
} from "../matrix.ts";

/** The section of the layer. */
type Dense = Omit<Extract<FfnSection, { kind: "dense" }>, "kind">;

/** A product with its bias, if it has one, and its gradients by the names of its parameters. */
function affine(
  x: Matrix,
  weights: Weights<string>,
  { name, width, biases }: { name: string; width: number; biases: boolean },
) {
  const [wName, bName] = [`w_${name}`, `b_${name}`];
  const w = matrix(x.columns, width, need(weights, [wName])[wName]!);
  const y = matmul(x, w);
  if (biases) {
    const bias = need(weights, [bName])[bName]!;
    for (let t = 0; t < y.rows; t++) addScaled(row(y, t), 1, bias);
  }
  return {
    y,
    backward: (gradient: Matrix) => ({
      x: matmul(gradient, transpose(w)),
      weights: {
        [wName]: matmul(transpose(x), gradient).data,
        ...(biases && { [bName]: columnSums(gradient) }),
      },
    }),
  };
}

/** The layer over the rows of `x`. */
export function dense(
  { d_ffn, activation = "swiglu", biases = false }: Dense,
  weights: Weights<string>,
  { x }: Pick<FeedForwardInput, "x">,
): FeedForwardPass {
  const up = affine(x, weights, { name: "up", width: d_ffn, biases });
  const gate = activation === "swiglu"
    ? affine(x, weights, { name: "gate", width: d_ffn, biases })
    : undefined;
  const [value, slope] = activation === "gelu"
    ? [gelu, geluDerivative]
    : [geluExact, geluExactDerivative];
  const hidden = gate ? zip(gate.y, up.y, (g, u) => silu(g) * u) : map(up.y, value);
  const down = affine(hidden, weights, { name: "down", width: x.columns, biases });
  return {
    y: down.y,
    backward(gradient) {
      const last = down.backward(gradient);
      if (!gate) {
        const first = up.backward(zip(last.x, up.y, (g, v) => g * slope(v)));
        return { x: first.x, weights: { ...first.weights, ...last.weights } };
      }
      const ofUp = up.backward(zip(last.x, gate.y, (g, v) => g * silu(v)));
      const active = zip(last.x, up.y, (g, u) => g * u);
      const ofGate = gate.backward(zip(active, map(gate.y, siluDerivative), (g, d) => g * d));
      return {
        x: add(ofGate.x, ofUp.x),
        weights: { ...ofGate.weights, ...ofUp.weights, ...last.weights },
      };
    },
  };
}
