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

import type { ModelConfig } from "../config.ts";
import { gelu, geluDerivative } from "./activation.ts";
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
} from "./matrix.ts";

/** Sizes that the experts read. */
export type ExpertSizes = Pick<
  ModelConfig,
  "d_model" | "num_experts" | "d_latent" | "d_hidden" | "d_context"
>;

/** Names of the experts' weights, after `layers.N.ffn.`. */
export type ExpertName = "z" | "w1" | "w_u" | "w_v" | "w_c";

/** Weights of the experts; `w_c` is there when `d_context` is not 0. */
export type ExpertWeights = Weights<Exclude<ExpertName, "w_c">> & Partial<Weights<"w_c">>;

/** The order of execution. */
export type ExpertExecution = "reordered" | "naive";

/** Which experts each token keeps, M a token: every routing head's after one another. */
export interface KeptExperts {
  /** Tokens × M. An expert that two heads keep is there twice, and counts twice. */
  readonly index: Int32Array;
  /** Tokens × M. */
  readonly score: Float64Array;
}

/** What {@linkcode expertsForward} returns; the input of {@linkcode expertsBackward}. */
export interface Experts {
  /** Output, tokens × d_model. */
  readonly y: Matrix;
  /** Input, tokens × d_model. */
  readonly x: Matrix;
  /** Sizes of the layer. */
  readonly sizes: ExpertSizes;
  /** Weights of the experts. */
  readonly weights: ExpertWeights;
  /** Which experts ran, and their scores. */
  readonly kept: KeptExperts;
  /** The order in which they ran. */
  readonly execution: ExpertExecution;
  /** What the hypernetwork reads for each kept expert, tokens·M × (d_latent + d_context). */
  readonly code: Matrix;
  /** Before the hypernetwork's activation, tokens·M × d_hidden. */
  readonly preactivation: Matrix;
  /** The hidden vectors, tokens·M × d_hidden. */
  readonly hidden: Matrix;
  /** What the expert's own activation is applied to, tokens × M. */
  readonly projection: Float64Array;
}

function matrices(sizes: ExpertSizes, weights: ExpertWeights) {
  const { d_model, num_experts, d_latent, d_hidden, d_context } = sizes;
  if (d_context > 0 && weights.w_c === undefined) {
    throw new Error(`Context-aware generation of width ${d_context} needs w_c`);
  }
  return {
    z: matrix(num_experts, d_latent, weights.z),
    w1: matrix(d_latent + d_context, d_hidden, weights.w1),
    w_u: matrix(d_model, d_hidden, weights.w_u),
    w_v: matrix(d_hidden, d_model, weights.w_v),
    w_c: matrix(d_model, d_context, weights.w_c ?? new Float64Array(0)),
  };
}

/**
 * The sum of the kept experts' outputs.
 *
 * @param x tokens × d_model, the normalised input of the layer.
 */
export function expertsForward(
  sizes: ExpertSizes,
  weights: ExpertWeights,
  input: { x: Matrix; kept: KeptExperts; execution?: ExpertExecution },
): Experts {
  const { x, kept, execution = "reordered" } = input;
  const w = matrices(sizes, weights);
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
    y = matrix(x.rows, sizes.d_model);
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
  return { y, x, sizes, weights, kept, execution, code, preactivation, hidden, projection };
}

/** What either execution's backward pass hands to the hypernetwork's. */
interface OuterGradients {
  readonly x: Matrix;
  readonly score: Float64Array;
  readonly hidden: Matrix;
  readonly w_u: Matrix;
  readonly w_v: Matrix;
}

/** Backward through `acc W_v`, the activations and `x W_u`. */
function reorderedBackward(saved: Experts, gradient: Matrix): OuterGradients {
  const { x, kept, hidden, projection } = saved;
  const w = matrices(saved.sizes, saved.weights);
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
function naiveBackward(saved: Experts, gradient: Matrix): OuterGradients {
  const { x, kept, hidden, projection } = saved;
  const w = matrices(saved.sizes, saved.weights);
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

/** Gradients of the input, of the scores (tokens × M) and of every weight. */
export function expertsBackward(
  saved: Experts,
  gradient: Matrix,
): { x: Matrix; score: Float64Array; weights: ExpertWeights } {
  const { x, sizes, kept, code } = saved;
  const w = matrices(sizes, saved.weights);
  const outer = saved.execution === "naive"
    ? naiveBackward(saved, gradient)
    : reorderedBackward(saved, gradient);

  const gPre = zip(outer.hidden, saved.preactivation, (g, value) => g * geluDerivative(value));
  const gCode = matmul(gPre, transpose(w.w1));
  const gZ = matrix(sizes.num_experts, sizes.d_latent);
  const gContext = matrix(x.rows, sizes.d_context);
  const count = kept.index.length / x.rows;
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
}
