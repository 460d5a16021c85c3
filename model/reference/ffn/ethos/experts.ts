/**
 * Generated experts: the hypernetwork turns the latent code of each kept expert into its hidden vector, which stands for
 * an expert of one hidden unit, `u = h W_uᵀ` and `v = h W_v`.
 *
 * ```
 * h_i = gelu(z_i W1)              or, context-aware, h_{t,i} = gelu([z_i ; x_t W_c] W1)
 * xp  = x W_u                     once per token
 * a   = gelu(h_i · xp) · s        one scalar per token and kept expert
 * y   = (Σ a · h_i) W_v           once per token
 * ```
 *
 * That is the *reordered* execution. The *naive* one forms `u` and `v` of every kept expert; the numbers are the same.
 *
 * @module
 */

import type { FfnSection } from "../../../section.ts";
import { gelu, geluDerivative } from "../../activation.ts";
import { need } from "../../layer.ts";
import {
  add,
  addScaled,
  dot,
  map,
  matmul,
  type Matrix,
  matrix,
  row,
  transpose,
  type Weights,
  zip,
} from "../../matrix.ts";

/** Sizes that the experts read. */
type ExpertSizes =
  & Pick<Extract<FfnSection, { kind: "ethos" }>, "d_latent" | "d_hidden" | "d_context">
  & {
    /** Rows of the latent codes. */
    readonly num_experts: number;
  };

/** Which experts each token keeps, M a token: every routing head's after one another. */
export interface KeptExperts {
  /** Tokens × M. An expert that two heads keep is there twice, and counts twice. */
  readonly index: Int32Array;
  /** Tokens × M. */
  readonly score: Float64Array;
}

/** A forward pass of {@linkcode experts}. */
export interface ExpertsPass {
  /** Output, tokens × d_model. */
  readonly y: Matrix;
  /** Gradients of the input, of the scores (tokens × M) and of every weight. */
  backward(
    gradient: Matrix,
  ): { readonly x: Matrix; readonly score: Float64Array; readonly weights: Weights<string> };
}

/** Tensors of the forward pass that the backward pass reads. */
interface Saved {
  /** Input, tokens × d_model. */
  readonly x: Matrix;
  /** The weights as matrices. */
  readonly w: ReturnType<typeof matrices>;
  /** Which experts ran, and their scores. */
  readonly kept: KeptExperts;
  /** The hidden vectors, tokens·M × d_hidden. */
  readonly hidden: Matrix;
  /** Inputs of the experts' own activation, tokens × M. */
  readonly projection: Float64Array;
}

function matrices(sizes: ExpertSizes, weights: Weights<string>, d_model: number) {
  const { num_experts, d_latent, d_hidden, d_context } = sizes;
  const named = need(weights, ["z", "w1", "w_u", "w_v"]);
  const w_c = d_context > 0 ? need(weights, ["w_c"]).w_c : new Float64Array(0);
  return {
    z: matrix(num_experts, d_latent, named.z),
    w1: matrix(d_latent + d_context, d_hidden, named.w1),
    w_u: matrix(d_model, d_hidden, named.w_u),
    w_v: matrix(d_hidden, d_model, named.w_v),
    w_c: matrix(d_model, d_context, w_c),
  };
}

/**
 * The sum of the kept experts' outputs.
 *
 * @param input `x`, tokens × d_model: the normalised input of the layer.
 */
export function experts(
  sizes: ExpertSizes,
  weights: Weights<string>,
  input: { x: Matrix; kept: KeptExperts; execution: "reordered" | "naive" },
): ExpertsPass {
  const { x, kept, execution } = input;
  const w = matrices(sizes, weights, x.columns);
  const count = kept.index.length / x.rows;

  const context = matmul(x, w.w_c);
  const code = matrix(kept.index.length, sizes.d_latent + sizes.d_context);
  kept.index.forEach((expert, i) => {
    row(code, i).set(row(w.z, expert));
    row(code, i).set(row(context, Math.floor(i / count)), sizes.d_latent);
  });
  const preactivation = matmul(code, w.w1);
  const hidden = map(preactivation, gelu);

  const projection = new Float64Array(kept.index.length);
  const activation = (i: number) => gelu(projection[i]!) * kept.score[i]!;
  let y: Matrix;
  if (execution === "naive") {
    y = matrix(x.rows, x.columns);
    const u = matmul(hidden, transpose(w.w_u));
    const v = matmul(hidden, w.w_v);
    for (let i = 0; i < kept.index.length; i++) {
      const token = Math.floor(i / count);
      projection[i] = dot(row(u, i), row(x, token));
      addScaled(row(y, token), activation(i), row(v, i));
    }
  } else {
    const projected = matmul(x, w.w_u);
    const sum = matrix(x.rows, sizes.d_hidden);
    for (let i = 0; i < kept.index.length; i++) {
      const token = Math.floor(i / count);
      projection[i] = dot(row(hidden, i), row(projected, token));
      addScaled(row(sum, token), activation(i), row(hidden, i));
    }
    y = matmul(sum, w.w_v);
  }

  const saved: Saved = { x, w, kept, hidden, projection };
  const backward: ExpertsPass["backward"] = (gradient) => {
    const outer = (execution === "naive" ? naiveBackward : reorderedBackward)(saved, gradient);
    const gPre = zip(outer.hidden, preactivation, (g, value) => g * geluDerivative(value));
    const gCode = matmul(gPre, transpose(w.w1));
    const gZ = matrix(sizes.num_experts, sizes.d_latent);
    const gContext = matrix(x.rows, sizes.d_context);
    kept.index.forEach((expert, i) => {
      const g = row(gCode, i);
      addScaled(row(gZ, expert), 1, g.subarray(0, sizes.d_latent));
      addScaled(row(gContext, Math.floor(i / count)), 1, g.subarray(sizes.d_latent));
    });
    return {
      x: add(outer.x, matmul(gContext, transpose(w.w_c))),
      score: outer.score,
      weights: {
        z: gZ.data,
        w1: matmul(transpose(code), gPre).data,
        w_u: outer.w_u.data,
        w_v: outer.w_v.data,
        ...(sizes.d_context > 0 && { w_c: matmul(transpose(x), gContext).data }),
      },
    };
  };
  return { y, backward };
}

/** Gradients that either execution hands to the hypernetwork. */
interface OuterGradients {
  readonly x: Matrix;
  readonly score: Float64Array;
  readonly hidden: Matrix;
  readonly w_u: Matrix;
  readonly w_v: Matrix;
}

/** Backward through `acc W_v`, the activations and `x W_u`. */
function reorderedBackward(saved: Saved, gradient: Matrix): OuterGradients {
  const { x, w, kept, hidden, projection } = saved;
  const count = kept.index.length / x.rows;
  const projected = matmul(x, w.w_u);
  const gSum = matmul(gradient, transpose(w.w_v));

  const sum = matrix(x.rows, hidden.columns);
  const gProjected = matrix(x.rows, hidden.columns);
  const gHidden = matrix(hidden.rows, hidden.columns);
  const gScore = new Float64Array(kept.index.length);
  for (let i = 0; i < kept.index.length; i++) {
    const token = Math.floor(i / count);
    const h = row(hidden, i);
    const active = gelu(projection[i]!);
    const a = active * kept.score[i]!;
    const gA = dot(row(gSum, token), h);
    const gProjection = gA * kept.score[i]! * geluDerivative(projection[i]!);
    gScore[i] = gA * active;
    addScaled(row(gHidden, i), a, row(gSum, token));
    addScaled(row(gHidden, i), gProjection, row(projected, token));
    addScaled(row(gProjected, token), gProjection, h);
    addScaled(row(sum, token), a, h);
  }
  return {
    x: matmul(gProjected, transpose(w.w_u)),
    score: gScore,
    hidden: gHidden,
    w_u: matmul(transpose(x), gProjected),
    w_v: matmul(transpose(sum), gradient),
  };
}

/** Backward through `u` and `v` of every kept expert. */
function naiveBackward(saved: Saved, gradient: Matrix): OuterGradients {
  const { x, w, kept, hidden, projection } = saved;
  const count = kept.index.length / x.rows;
  const u = matmul(hidden, transpose(w.w_u));
  const v = matmul(hidden, w.w_v);

  const gX = matrix(x.rows, x.columns);
  const gU = matrix(u.rows, u.columns);
  const gV = matrix(v.rows, v.columns);
  const gScore = new Float64Array(kept.index.length);
  for (let i = 0; i < kept.index.length; i++) {
    const token = Math.floor(i / count);
    const active = gelu(projection[i]!);
    const gA = dot(row(gradient, token), row(v, i));
    const gProjection = gA * kept.score[i]! * geluDerivative(projection[i]!);
    gScore[i] = gA * active;
    addScaled(row(gV, i), active * kept.score[i]!, row(gradient, token));
    addScaled(row(gU, i), gProjection, row(x, token));
    addScaled(row(gX, token), gProjection, row(u, i));
  }
  return {
    x: gX,
    score: gScore,
    hidden: add(matmul(gU, w.w_u), matmul(gV, transpose(w.w_v))),
    w_u: matmul(transpose(gU), hidden),
    w_v: matmul(transpose(hidden), gV),
  };
}
