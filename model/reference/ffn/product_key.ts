/**
 * The product-key router: which experts a token keeps on each routing head, and with what scores.
 *
 * ```
 * q      = batchnorm(x W_q + b_q)           per head [q1 | q2]
 * s1     = q1 K1ᵀ       s2 = q2 K2ᵀ         sub-keys shared by the heads
 * (r, c) = the k best of the k×k sums of the k best of s1 and the k best of s2
 * expert = r·K + c      score = softmax over the k kept sums
 * ```
 *
 * @module
 */

import type { FfnSection } from "../../section.ts";
import { type Choice, type FeedForwardInput, need } from "../layer.ts";
import {
  addScaled,
  block,
  columnSums,
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
import { batchNormBackward, batchNormForward } from "../norm.ts";
import { massLag, scoreLag, thresholdLag } from "./lag.ts";

/** Sizes that the router reads. */
type RouterSizes = Pick<
  Extract<FfnSection, { router: "product_key" }>,
  | "num_experts"
  | "routing_heads"
  | "top_k"
  | "d_query"
  | "router_batch_norm"
  | "choice"
  | "mass"
  | "threshold"
  | "min_k"
>;

/** A routing of every token; see {@linkcode route}. */
export interface Routing extends Choice {
  /** The `top_k` best experts, or those given, tokens × heads × top_k, best first; where a given one is none, the head's first. */
  readonly index: Int32Array;
  /** Softmax of `total` over a head's kept experts, 0 for the others of its `top_k`; same layout. */
  readonly score: Float64Array;
  /** Queries after batch norm, tokens × heads·d_query. */
  readonly query: Matrix;
  /** Sub-key scores of the first axis, tokens·heads × K. */
  readonly s1: Matrix;
  /** Sub-key scores of the second axis, tokens·heads × K. */
  readonly s2: Matrix;
  /** The load-balance term of both axes, without its coefficient. */
  readonly balance: number;
  /** Batch norm's running statistics after this pass; none without batch norm. */
  readonly statistics: Weights<string>;
  /**
   * Gradients of the input and of every weight. The choice of experts is not differentiated.
   *
   * Under batch norm in training `b_q` cancels out of the queries, so that its exact gradient is zero; it is returned as
   * zeros rather than as rounding noise that AdamW would turn into full steps.
   *
   * @param gradient Of `score` (tokens × heads × top_k), and of `balance`.
   */
  backward(
    gradient: { readonly score: Float64Array; readonly balance?: number },
  ): { readonly x: Matrix; readonly weights: Weights<string> };
}

/** Positions of the `count` largest values, best first; of equal values the lower position comes first. */
export function topK(values: Float64Array, count: number): number[] {
  return Array.from(values.keys())
    .sort((a, b) => values[b]! - values[a]! || a - b)
    .slice(0, count);
}

/**
 * The `k` experts with the largest sums of one score from each axis, best first. Equal scores go to the lower sub-key,
 * equal sums to the lower expert number. A best pair is always among the `k` best of each axis, so `k²` sums suffice.
 */
export function chooseExperts(s1: Float64Array, s2: Float64Array, k: number): number[] {
  const columns = topK(s2, k);
  const candidates = topK(s1, k)
    .flatMap((r) => columns.map((c) => ({ expert: r * s2.length + c, sum: s1[r]! + s2[c]! })));
  candidates.sort((a, b) => b.sum - a.sum || a.expert - b.expert);
  return candidates.slice(0, k).map(({ expert }) => expert);
}

/** Tokens × heads·d_query → one axis' half, tokens·heads × d_query/2. */
function half(query: Matrix, sizes: RouterSizes, axis: 0 | 1): Matrix {
  const perHead = matrix(query.rows * sizes.routing_heads, sizes.d_query, query.data);
  const columns = sizes.d_query / 2;
  return block(perHead, { left: axis * columns, columns });
}

/** How many of a head's best experts a token keeps, of the softmax over all `top_k` of them, best first. */
export function keptNumber(
  { choice = "top_k", mass = 1, threshold = 0, min_k = 1 }: Pick<
    RouterSizes,
    "choice" | "mass" | "threshold" | "min_k"
  >,
  scores: Float64Array,
): number {
  if (choice === "top_k") return scores.length;
  let sum = 0;
  for (const [j, score] of scores.entries()) {
    if (j >= min_k && (choice === "mass" ? sum >= mass : score < threshold)) return j;
    sum += score;
  }
  return scores.length;
}

/** The fraction of all kept experts whose sub-key on an axis is `j`, for every `j`. */
function keptFractions(
  { index, kept, keys }: { index: Int32Array; kept: Uint8Array; keys: number },
  axis: 0 | 1,
): Float64Array {
  const fraction = new Float64Array(keys);
  const number = kept.reduce((n, one) => n + one, 0);
  index.forEach((expert, i) => {
    fraction[axis === 0 ? Math.floor(expert / keys) : expert % keys]! += kept[i]! / number;
  });
  return fraction;
}

/** `K · Σ_j f_j p_j`, `p_j` the mean probability of sub-key `j`. */
function loadBalance(scores: Matrix, fraction: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < scores.rows; i++) sum += dot(softmax(row(scores, i)), fraction);
  return scores.columns * sum / scores.rows;
}

/** Gradient of {@linkcode loadBalance} with respect to the scores; the fractions are not differentiated. */
function loadBalanceBackward(scores: Matrix, fraction: Float64Array): Matrix {
  const out = matrix(scores.rows, scores.columns);
  const scale = scores.columns / scores.rows;
  for (let i = 0; i < scores.rows; i++) {
    addScaled(row(out, i), scale, softmaxBackward(softmax(row(scores, i)), fraction));
  }
  return out;
}

/**
 * Routes every token.
 *
 * @throws {RangeError} In training with batch norm and a single token.
 */
export function route(
  sizes: RouterSizes,
  weights: Weights<string>,
  input: FeedForwardInput,
): Routing {
  const { x, training, selection } = input;
  const { routing_heads: heads, top_k, d_query } = sizes;
  const keys = Math.sqrt(sizes.num_experts);
  const named = need(weights, ["w_q", "b_q", "k1", "k2"]);
  const w_q = matrix(x.columns, heads * d_query, named.w_q);
  const k1 = matrix(keys, d_query / 2, named.k1);
  const k2 = matrix(keys, d_query / 2, named.k2);

  const raw = matmul(x, w_q);
  for (let t = 0; t < x.rows; t++) addScaled(row(raw, t), 1, named.b_q);
  const norm = sizes.router_batch_norm
    ? batchNormForward(raw, need(weights, ["bn.gamma", "bn.beta", "bn.mean", "bn.var"]), {
      training,
    })
    : undefined;
  const query = norm?.y ?? raw;
  const s1 = matmul(half(query, sizes, 0), transpose(k1));
  const s2 = matmul(half(query, sizes, 1), transpose(k2));

  const index = new Int32Array(x.rows * heads * top_k);
  const total = new Float64Array(index.length);
  const score = new Float64Array(index.length);
  const kept = new Uint8Array(index.length);
  let lag = 0;
  for (let i = 0; i < x.rows * heads; i++) {
    const from = i * top_k;
    const to = from + top_k;
    const totalOf = (expert: number) =>
      row(s1, i)[Math.floor(expert / keys)]! + row(s2, i)[expert % keys]!;
    const own = chooseExperts(row(s1, i), row(s2, i), top_k);
    const best = Float64Array.from(own, totalOf);
    const shares = softmax(best);
    let n = keptNumber(sizes, shares);
    const given = selection?.subarray(from, to).filter((expert) => expert < sizes.num_experts);
    if (given) {
      const options = { given: given.length, kept: n };
      lag = Math.max(
        lag,
        scoreLag({ best, given: Float64Array.from(given, totalOf) }),
        sizes.choice === "threshold"
          ? thresholdLag(shares, { ...options, threshold: sizes.threshold ?? 0 })
          : massLag(shares, { ...options, mass: sizes.mass ?? 1 }),
      );
      n = given.length;
    }
    index.set(given ?? own, from);
    index.fill(index[from]!, from + (given ?? own).length, to);
    total.set(Float64Array.from(index.subarray(from, to), totalOf), from);
    score.set(softmax(total.subarray(from, from + n)), from);
    kept.fill(1, from, from + n);
  }
  const used = index.map((expert, i) => kept[i] ? expert : sizes.num_experts);
  const all = { index, kept, keys };
  const balance = loadBalance(s1, keptFractions(all, 0)) + loadBalance(s2, keptFractions(all, 1));

  const backward: Routing["backward"] = (gradient) => {
    const g1 = matrix(s1.rows, keys);
    const g2 = matrix(s2.rows, keys);
    for (let i = 0; i < s1.rows; i++) {
      const from = i * top_k;
      const gTotal = softmaxBackward(
        score.subarray(from, from + top_k),
        gradient.score.subarray(from, from + top_k),
      );
      gTotal.forEach((g, j) => {
        const expert = index[from + j]!;
        row(g1, i)[Math.floor(expert / keys)]! += g;
        row(g2, i)[expert % keys]! += g;
      });
    }
    if (gradient.balance) {
      const balance = (s: Matrix, axis: 0 | 1) =>
        loadBalanceBackward(s, keptFractions(all, axis)).data;
      addScaled(g1.data, gradient.balance, balance(s1, 0));
      addScaled(g2.data, gradient.balance, balance(s2, 1));
    }

    const gHalf1 = matmul(g1, k1);
    const gHalf2 = matmul(g2, k2);
    const gQuery = matrix(x.rows, heads * d_query);
    for (let i = 0; i < g1.rows; i++) {
      gQuery.data.set(row(gHalf1, i), i * d_query);
      gQuery.data.set(row(gHalf2, i), i * d_query + d_query / 2);
    }
    const normal = norm && batchNormBackward(norm, gQuery);
    const gRaw = normal?.x ?? gQuery;
    return {
      x: matmul(gRaw, transpose(w_q)),
      weights: {
        w_q: matmul(transpose(x), gRaw).data,
        b_q: norm?.training ? new Float64Array(gRaw.columns) : columnSums(gRaw),
        k1: matmul(transpose(g1), half(query, sizes, 0)).data,
        k2: matmul(transpose(g2), half(query, sizes, 1)).data,
        ...(normal && { "bn.gamma": normal.gamma, "bn.beta": normal.beta }),
      },
    };
  };
  const statistics: Weights<string> = norm
    ? { "bn.mean": norm.running.mean, "bn.var": norm.running.variance }
    : {};
  return {
    index,
    used,
    lag,
    score,
    total,
    query,
    s1,
    s2,
    balance,
    statistics,
    backward,
  };
}
