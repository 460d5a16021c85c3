/**
 * The top-k mixture of experts: `y = Σ_j w_j (drop(gelu(x W1[e_j] + b1[e_j])) W2[e_j] + b2[e_j])`.
 *
 * @module
 */

import type { FfnSection } from "../../section.ts";
import { gelu, geluDerivative, geluExact, geluExactDerivative } from "../activation.ts";
import { drop } from "../dropout.ts";
import { type FeedForwardInput, need } from "../layer.ts";
import {
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
import { type ExpertPass, mixture, type MixturePass, partOf } from "./mixture.ts";

/** `x W`, and `+ b` where there is a bias. */
function affine(x: Matrix, w: Matrix, bias: Float64Array | undefined): Matrix {
  const out = matmul(x, w);
  if (bias) { for (let i = 0; i < out.rows; i++) addScaled(row(out, i), 1, bias); }
  return out;
}

/** The layer over the rows of `x`. */
export function topkMoe(
  section: Extract<FfnSection, { kind: "topk_moe" }>,
  weights: Weights<string>,
  input: FeedForwardInput,
): MixturePass {
  const { num_experts: experts, d_expert, top_k, biases, top_p, load_balance_coef } = section;
  const [value, slope] = section.gelu === "exact"
    ? [geluExact, geluExactDerivative]
    : [gelu, geluDerivative];
  const named = need(weights, ["w1", "w2"]);
  const bias = biases ? need(weights, ["b1", "b2"]) : undefined;
  const factor = input.masks?.("hidden", section.expert_dropout);
  const expert = (e: number, x: Matrix, slots: readonly number[]): ExpertPass => {
    const dropped = (rows: Matrix) =>
      factor ? drop(rows, (i, column) => factor(slots[i]!, column)) : rows;
    const w1 = matrix(x.columns, d_expert, partOf(named.w1, e, experts));
    const w2 = matrix(d_expert, x.columns, partOf(named.w2, e, experts));
    const before = affine(x, w1, bias && partOf(bias.b1, e, experts));
    const h = dropped(map(before, value));
    return {
      y: affine(h, w2, bias && partOf(bias.b2, e, experts)),
      backward(gradient) {
        const gHidden = dropped(matmul(gradient, transpose(w2)));
        const gBefore = zip(gHidden, before, (g, v) => g * slope(v));
        return {
          x: matmul(gBefore, transpose(w1)),
          weights: {
            w1: matmul(transpose(x), gBefore).data,
            w2: matmul(transpose(h), gradient).data,
            ...(bias && { b1: columnSums(gBefore), b2: columnSums(gradient) }),
          },
        };
      },
    };
  };
  const sizes = { experts, top_k, weight: "softmax", top_p, load_balance_coef } as const;
  return mixture(sizes, weights, { ...input, expert });
}
