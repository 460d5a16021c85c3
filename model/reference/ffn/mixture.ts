/**
 * A mixture of stored experts: the gate's choice and weights, the sum of the experts' outputs, the load-balance term, and their gradients.
 *
 * @module
 */

import { type Choice, type FeedForwardInput, type FeedForwardPass, need } from "../layer.ts";
import {
  add,
  addScaled,
  dot,
  matmul,
  type Matrix,
  matrix,
  row,
  softmax,
  softmaxBackward,
  transpose,
  type Weights,
} from "../matrix.ts";
import { massLag, scoreLag } from "./lag.ts";
import { topK } from "./product_key.ts";

/** How a mixture chooses and weighs its experts. */
export interface MixtureSizes {
  /** Experts, E. */
  readonly experts: number;
  /** Experts of a token, at most; k. */
  readonly top_k: number;
  /** `softmax`: over the kept logits; `probability`: the softmax over all experts, of one. */
  readonly weight: "softmax" | "probability";
  /** Keeps as many of the k best as come to this sum of probabilities. */
  readonly top_p?: number | undefined;
  /** Coefficient of the load-balance term. */
  readonly load_balance_coef: number;
}

/** A pass of one expert over the rows that it got. */
export interface ExpertPass {
  readonly y: Matrix;
  /** Gradients of the rows and of the expert's own weights. */
  backward(gradient: Matrix): { readonly x: Matrix; readonly weights: Weights<string> };
}

/** The choice of a mixture. */
export interface MixtureRouting extends Choice {
  /** Kept experts, tokens × k; E in the place of those that `top_p` leaves out. */
  readonly index: Int32Array;
  /** The k best experts, best first, tokens × k. */
  readonly best: Int32Array;
  /** Weights of the kept experts, 0 of those left out. */
  readonly weight: Float64Array;
  /** Softmax over all experts, tokens × E. */
  readonly probability: Matrix;
}

/** A forward pass of {@linkcode mixture}. */
export interface MixturePass extends FeedForwardPass {
  readonly auxiliary: number;
  readonly routing: MixtureRouting;
}

/** The experts that a token keeps, as {@linkcode MixtureRouting.index} has them. */
function choose(logits: Float64Array, best: readonly number[], sizes: MixtureSizes): number[] {
  const { top_p, experts } = sizes;
  if (top_p === undefined) return [...best];
  const p = softmax(logits);
  let before = 0;
  return best.map((expert, j) => {
    const kept = j === 0 || before < top_p;
    before += p[expert]!;
    return kept ? expert : experts;
  });
}

/**
 * The mixture over the rows of `x`.
 *
 * @param expert The pass of expert number `e` over rows; `slots` are their places in {@linkcode MixtureRouting.index}, `token · k + j`.
 * @param weights The gate `w_g`, D×E; others are the experts' own.
 */
export function mixture(
  sizes: MixtureSizes,
  weights: Weights<string>,
  input: FeedForwardInput & {
    readonly expert: (e: number, x: Matrix, slots: readonly number[]) => ExpertPass;
  },
): MixturePass {
  const { x, selection, expert } = input;
  const { experts, top_k, load_balance_coef } = sizes;
  const w_g = matrix(x.columns, experts, need(weights, ["w_g"]).w_g);
  const logits = matmul(x, w_g);
  const probability = matrix(x.rows, experts);
  const index = new Int32Array(x.rows * top_k);
  const best = new Int32Array(index.length);
  const total = new Float64Array(index.length);
  const weight = new Float64Array(index.length);
  let lag = 0;
  for (let t = 0; t < x.rows; t++) {
    const from = t * top_k;
    const g = row(logits, t);
    row(probability, t).set(softmax(g));
    const found = topK(g, top_k);
    best.set(found, from);
    const own = choose(g, found, sizes);
    const given = selection?.subarray(from, from + top_k);
    index.set(given ?? own, from);
    if (given) {
      const real = (all: ArrayLike<number>) => Array.from(all).filter((e) => e < experts);
      const scores = (all: readonly number[]) => Float64Array.from(all, (e) => g[e]!);
      lag = Math.max(
        lag,
        scoreLag({ best: scores(found), given: scores(real(given)) }),
        massLag(found.map((e) => row(probability, t)[e]!), {
          given: real(given).length,
          kept: real(own).length,
          mass: sizes.top_p ?? 1,
        }),
      );
    }
    const kept = index.subarray(from, from + top_k);
    total.set(Float64Array.from(kept, (e) => g[e] ?? 0), from);
    weight.set(
      sizes.weight === "probability"
        ? [row(probability, t)[kept[0]!]!]
        : softmax(Float64Array.from(kept, (e) => g[e] ?? -Infinity)),
      from,
    );
  }
  // The rows of each expert, and the slots that they come from.
  const slots = Array.from(
    { length: experts },
    (_, e) => Array.from(index.keys()).filter((i) => index[i] === e),
  );
  const tokenOf = (slot: number) => Math.floor(slot / top_k);
  const passes = slots.map((of, e) => {
    const rows = matrix(of.length, x.columns);
    of.forEach((slot, i) => row(rows, i).set(row(x, tokenOf(slot))));
    return expert(e, rows, of);
  });
  const y = matrix(x.rows, x.columns);
  passes.forEach((pass, e) =>
    slots[e]!.forEach((slot, i) => addScaled(row(y, tokenOf(slot)), weight[slot]!, row(pass.y, i)))
  );
  const all = slots.reduce((sum, of) => sum + of.length, 0);
  const fraction = Float64Array.from(slots, (of) => of.length / all);
  let balance = 0;
  for (let t = 0; t < x.rows; t++) balance += dot(fraction, row(probability, t));
  const auxiliary = load_balance_coef * experts * balance / x.rows;

  const backward = (gradient: Matrix) => {
    const gX = matrix(x.rows, x.columns);
    const gWeight = new Float64Array(weight.length);
    const gExperts: Record<string, Float64Array[]> = {};
    passes.forEach((pass, e) => {
      const of = slots[e]!;
      const gRows = matrix(of.length, x.columns);
      of.forEach((slot, i) => {
        const g = row(gradient, tokenOf(slot));
        gWeight[slot] = dot(g, row(pass.y, i));
        addScaled(row(gRows, i), weight[slot]!, g);
      });
      const inner = pass.backward(gRows);
      of.forEach((slot, i) => addScaled(row(gX, tokenOf(slot)), 1, row(inner.x, i)));
      for (const [name, value] of Object.entries(inner.weights)) {
        (gExperts[name] ??= []).push(value);
      }
    });
    const gLogits = matrix(x.rows, experts);
    for (let t = 0; t < x.rows; t++) {
      const p = row(probability, t);
      const to = row(gLogits, t);
      const from = t * top_k;
      const kept = index.subarray(from, from + top_k);
      const g = gWeight.subarray(from, from + top_k);
      if (sizes.weight === "probability") {
        const one = new Float64Array(experts);
        one[kept[0]!] = g[0]!;
        addScaled(to, 1, softmaxBackward(p, one));
      } else {
        softmaxBackward(weight.subarray(from, from + top_k), g).forEach((value, j) => {
          if (kept[j]! < experts) to[kept[j]!]! += value;
        });
      }
      addScaled(to, load_balance_coef * experts / x.rows, softmaxBackward(p, fraction));
    }
    return {
      x: add(gX, matmul(gLogits, transpose(w_g))),
      weights: {
        w_g: matmul(transpose(x), gLogits).data,
        ...Object.fromEntries(
          Object.entries(gExperts).map(([name, values]) => [name, joined(values)]),
        ),
      },
    };
  };
  const choice = { index, used: index, total, lag };
  return { y, auxiliary, routing: { ...choice, best, weight, probability }, backward };
}

/** One array after the other. */
function joined(values: readonly Float64Array[]): Float64Array {
  const [{ length }] = values as [Float64Array];
  const out = new Float64Array(values.length * length);
  values.forEach((value, i) => out.set(value, i * length));
  return out;
}

/** Expert `e`'s part of a tensor that has one for each expert. */
export function partOf(values: Float64Array, e: number, experts: number): Float64Array {
  const size = values.length / experts;
  return values.subarray(e * size, (e + 1) * size);
}
