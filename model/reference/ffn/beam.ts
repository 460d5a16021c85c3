/**
 * The beam router: which ids a token keeps on the axes of each routing head, and with what scores.
 *
 * ```
 * q      = rmsnorm(x W)                        per head and axis, no gain
 * s_a    = q_a · code(id)                      the b best ids of each axis, times exp(logit_scale)
 * beams  = the best ids of axis 0; then the best sums of a beam and an id of the next axis
 * score  = softmax over the k best sums
 * ```
 *
 * Codes are float32, as the specification says; all else is float64.
 *
 * @module
 */

import type { FfnSection } from "../../section.ts";
import { type Choice, type FeedForwardInput, need } from "../layer.ts";
import {
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
import { rmsNormBackward, rmsNormForward } from "../norm.ts";
import { scoreLag } from "./lag.ts";
import { topK } from "./product_key.ts";

/** Sizes that the router reads. */
export type BeamSizes = Pick<
  Extract<FfnSection, { router: "beam" }>,
  | "routing_heads"
  | "top_k"
  | "axes"
  | "axis_query"
  | "axis_size"
  | "axis_candidates"
  | "beam_width"
>;

/** A routing of every token; see {@linkcode beamRoute}. */
export interface BeamRouting extends Choice {
  /** Tokens × heads × top_k × axes, best first: `axis · axis_size + id`, a row of the factored table. */
  readonly index: Int32Array;
  /** Softmax of the kept sums, tokens × heads × top_k. */
  readonly score: Float64Array;
  /** Queries after their norm, tokens·heads·axes × axis_query. */
  readonly query: Matrix;
  /** The best ids of each axis before the temperature, tokens·heads·axes × candidates, best first. */
  readonly candidates: { readonly id: Int32Array; readonly value: Float64Array };
  /**
   * Gradients of the input and of every weight. The selection is not differentiated.
   *
   * @param gradient Of `score`.
   */
  backward(gradient: Float64Array): { readonly x: Matrix; readonly weights: Weights<string> };
}

/** Codes of ids, ids × width: `[cos(angle) ; sin(angle)]`, each step rounded to float32. */
export function beamCodes(ids: number, width: number): Matrix {
  const half = width / 2;
  const codes = matrix(ids, width);
  for (let j = 0; j < half; j++) {
    const frequency = Math.fround(half === 1 ? 1 : 10 ** (-j / (half - 1)));
    for (let id = 0; id < ids; id++) {
      const angle = Math.fround(Math.fround(id * frequency) * Math.fround(2 * Math.PI));
      row(codes, id)[j] = Math.fround(Math.cos(angle));
      row(codes, id)[half + j] = Math.fround(Math.sin(angle));
    }
  }
  return codes;
}

/** A beam: the positions of its candidates on the axes so far, and their sum. */
interface Beam {
  readonly path: readonly number[];
  readonly sum: number;
}

/**
 * The paths of the `keep` best sums of one value from each axis that a beam search of `width` finds, best first: for each axis the
 * position of the value. Equal sums go to the lower position of a beam and a value, beams first.
 *
 * @param axes The values of each axis.
 */
export function searchBeams(
  axes: readonly Float64Array[],
  options: { readonly width: number; readonly keep: number },
): number[][] {
  let beams: Beam[] = [{ path: [], sum: 0 }];
  for (const values of axes) {
    const longer = beams.flatMap(({ path, sum }) =>
      Array.from(values, (value, i) => ({ path: [...path, i], sum: sum + value }))
    );
    const best = topK(Float64Array.from(longer, ({ sum }) => sum), options.width);
    beams = best.map((i) => longer[i]!);
  }
  return beams.slice(0, options.keep).map(({ path }) => [...path]);
}

/** Routes every token. */
export function beamRoute(
  sizes: BeamSizes,
  weights: Weights<string>,
  input: Pick<FeedForwardInput, "x" | "selection"> & {
    /** Codes in the place of those that are computed. */
    readonly codes?: Matrix;
  },
): BeamRouting {
  const { x, selection } = input;
  const { routing_heads: heads, axes, axis_query, axis_size, beam_width, top_k } = sizes;
  const { query_w, logit_scale } = need(weights, ["query_w", "logit_scale"]);
  const w = matrix(heads * axes * axis_query, x.columns, query_w);
  const codes = input.codes ?? beamCodes(axis_size, axis_query);
  const raw = matmul(x, transpose(w));
  const rows = x.rows * heads * axes;
  const norm = rmsNormForward(
    matrix(rows, axis_query, raw.data),
    new Float64Array(axis_query).fill(1),
  );
  const query = norm.y;
  const scores = matmul(query, transpose(codes));
  const scale = logit_scale.map(Math.exp);
  const kept = Math.min(sizes.axis_candidates, axis_size);

  const id = new Int32Array(rows * kept);
  const value = new Float64Array(rows * kept);
  for (let i = 0; i < rows; i++) {
    const best = topK(row(scores, i), kept);
    id.set(best, i * kept);
    value.set(best.map((best) => row(scores, i)[best]!), i * kept);
  }
  const index = new Int32Array(x.rows * heads * top_k * axes);
  const score = new Float64Array(x.rows * heads * top_k);
  const total = new Float64Array(score.length);
  /** Position in `index` of an axis of a kept expert of a token's head. */
  const place = (head: number, j: number, axis: number) => (head * top_k + j) * axes + axis;
  let lag = 0;
  for (let head = 0; head < x.rows * heads; head++) {
    const own = Array.from({ length: axes }, (_, a) => head * axes + a);
    const values = own.map((i) =>
      value.subarray(i * kept, (i + 1) * kept).map((v) => v * scale[i % scale.length]!)
    );
    searchBeams(values, { width: beam_width, keep: top_k }).forEach((path, j) => {
      path.forEach((at, a) => {
        index[place(head, j, a)] = a * axis_size + id[own[a]! * kept + at]!;
      });
    });
    const totalsOf = () =>
      Float64Array.from({ length: top_k }, (_, j) =>
        own.reduce((sum, i, a) => {
          const chosen = index[place(head, j, a)]! - a * axis_size;
          return sum + scale[i % scale.length]! * row(scores, i)[chosen]!;
        }, 0));
    let totals = totalsOf();
    if (selection) {
      const at = place(head, 0, 0);
      index.set(selection.subarray(at, at + top_k * axes), at);
      const best = totals;
      totals = totalsOf();
      lag = Math.max(lag, scoreLag({ best, given: totals }));
    }
    total.set(totals, head * top_k);
    score.set(softmax(totals), head * top_k);
  }

  const backward: BeamRouting["backward"] = (gradient) => {
    const gQuery = matrix(rows, axis_query);
    const gScale = new Float64Array(scale.length);
    for (let head = 0; head < x.rows * heads; head++) {
      const at = head * top_k;
      const gTotal = softmaxBackward(
        score.subarray(at, at + top_k),
        gradient.subarray(at, at + top_k),
      );
      for (let a = 0; a < axes; a++) {
        const i = head * axes + a;
        const factor = scale[i % scale.length]!;
        gTotal.forEach((g, j) => {
          const code = row(codes, index[place(head, j, a)]! - a * axis_size);
          addScaled(row(gQuery, i), g * factor, code);
          gScale[i % scale.length]! += g * factor * dot(row(query, i), code);
        });
      }
    }
    const gRaw = matrix(x.rows, raw.columns, rmsNormBackward(norm, gQuery).x.data);
    return {
      x: matmul(gRaw, w),
      weights: { query_w: matmul(transpose(gRaw), x).data, logit_scale: gScale },
    };
  };
  return {
    index,
    used: index,
    lag,
    total,
    score,
    query,
    candidates: { id, value },
    backward,
  };
}
