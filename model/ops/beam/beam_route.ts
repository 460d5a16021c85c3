/**
 * Routing by beams: queries, scores of the ids of each axis, the search, and the gradients.
 *
 * The scores `[T·H·A, S]` are made for a chunk of tokens at a time, so that memory is bounded whatever `T`. They are not kept: the
 * choice is not differentiated. All of it is computed in f32 whatever the operands of products are, for it is little, and halves would
 * decide near ties.
 *
 * @module
 */

import gradientSource from "../../../shaders/beam/beam_query_gradient.wgsl" with { type: "text" };
import querySource from "../../../shaders/beam/beam_query.wgsl" with { type: "text" };
import { f32, grid, read, readScalar, write, writeScalar } from "../../gpu/kernel.ts";
import type { Plan } from "../../gpu/plan.ts";
import { roundUp, type Tensor } from "../../gpu/tensor.ts";
import { gemm } from "../gemm/gemm.ts";
import { matrix } from "../gemm/matrix.ts";
import { biasGradient, type VectorGradient } from "../norm/batch_norm.ts";
import { softmaxBackward } from "../routing/softmax.ts";
import { bestIds, type Candidates, searchBeams } from "./beam_search.ts";
import { idCodes } from "./codes.ts";

/** Sizes of a beam router. */
export interface BeamSizes {
  /** Routing heads, H. */
  readonly heads: number;
  /** Axes of a head, A. */
  readonly axes: number;
  /** Width of a query, r, a multiple of 4. */
  readonly axis_query: number;
  /** Ids on an axis, S. */
  readonly axis_size: number;
  /** Ids of an axis that a query looks at, b; all where there are fewer. */
  readonly axis_candidates: number;
  /** Beams that an axis leaves. */
  readonly beam_width: number;
  /** Experts kept per head, k; at most as many as there are beams after the last axis. */
  readonly top_k: number;
}

/** Queries and the temperature. */
interface BeamInput {
  readonly sizes: BeamSizes;
  /** The queries before their norm, f32 `[T, H·A·r]`. */
  readonly raw: Tensor;
  /** f32 `[H, A]`. */
  readonly logit_scale: Tensor;
  /** Bytes that scores may take at a time; defaults to 128 MiB or what a binding can have. */
  readonly score_bytes?: number;
}

/** The kept experts, best first. */
export interface BeamRouted {
  /** `a · S + id` of each kept expert on each axis: its rows in a factored table. u32 `[T, H·k·A]`. */
  readonly coords: Tensor;
  /** Their weights, which sum to one per head, f32 `[T, H·k]`. */
  readonly score: Tensor;
  /** The queries after their norm, f32 `[T, H·A·r]`. */
  readonly query: Tensor;
  /** The best ids of each axis, a chunk of tokens after the other; rows are token, head, axis. */
  readonly candidates: readonly Candidates[];
}

/** Bytes of scores that are made at a time. */
const SCORE_BYTES = 128 * 2 ** 20;
/** Added to the mean square of a query. */
const EPSILON = 1e-6;

/** The table of codes, f32 `[S, r]`, which all layers of a plan share. */
function codesOf(plan: Plan, { axis_size, axis_query }: BeamSizes): Tensor {
  return plan.constant(`codes ${axis_size} ${axis_query}`, [axis_size, axis_query], {
    numbers: () => idCodes(axis_size, axis_query),
  });
}

/** Records the choice of experts. */
export function beamRoute(plan: Plan, label: string, input: BeamInput): BeamRouted {
  const { sizes, raw, logit_scale } = input;
  const { heads, axes, axis_query, axis_size, top_k } = sizes;
  const kept = Math.min(sizes.axis_candidates, axis_size);
  const workgroup = 64;
  const tokens = raw.rows;
  const rows = tokens * heads * axes;
  const query = plan.tensor(`${label}.query`, raw.shape);
  plan.dispatch({
    label: `${label}.query`,
    name: "beam_query",
    source: querySource,
    constants: { WORKGROUP: workgroup, R4: axis_query / 4 },
    params: { rows, epsilon: f32(EPSILON) },
    bindings: { raw: read(raw), q: write(query) },
    workgroups: grid(Math.ceil(rows / workgroup)),
  });
  const coords = plan.tensor(`${label}.coords`, [tokens, heads * top_k * axes], { dtype: "u32" });
  const score = plan.tensor(`${label}.score`, [tokens, heads * top_k]);
  const codes = codesOf(plan, sizes);
  const stride = roundUp(axis_size, 4);
  const bytes = Math.min(
    input.score_bytes ?? SCORE_BYTES,
    plan.gpu.capabilities.max_binding_bytes,
  );
  const step = Math.max(1, Math.floor(bytes / (4 * stride * heads * axes)));
  const candidates: Candidates[] = [];
  for (let token = 0; token < tokens; token += step) {
    const count = Math.min(step, tokens - token);
    const first = token * heads;
    const scores = plan.tensor(`${label}.scores`, [count * heads * axes, stride]);
    gemm(plan, `${label}.scores`, {
      a: matrix(query, {
        start: first * axes * axis_query,
        stride: axis_query,
        rows: count * heads * axes,
        columns: axis_query,
      }),
      b: codes,
      c: matrix(scores, { columns: axis_size }),
      layout: "nt",
    });
    const best = bestIds(plan, `${label}.candidates`, { scores, size: axis_size, kept });
    searchBeams(plan, `${label}.search`, {
      ...sizes,
      candidates: best,
      logit_scale,
      first,
      coords,
      score,
    });
    candidates.push(best);
  }
  return { coords, score, query, candidates };
}

/** The operands of {@linkcode beamRouteBackward}. */
interface BeamGradients extends Omit<BeamInput, "score_bytes"> {
  /** The result of the forward pass. */
  readonly routed: Pick<BeamRouted, "coords" | "score">;
  /** Gradient of the scores, f32 `[T, H·k]`. */
  readonly dscore: Tensor;
  /** Gradient of the queries before their norm, `[T, H·A·r]`, written. */
  readonly draw: Tensor;
  /** Gradient of `logit_scale`. */
  readonly dlogit_scale: VectorGradient;
}

/** Records the gradients of {@linkcode beamRoute}; the selection is not differentiated. */
export function beamRouteBackward(plan: Plan, label: string, input: BeamGradients): void {
  const { sizes, raw, logit_scale, routed, dscore, draw } = input;
  const { heads, axes, axis_query, axis_size, top_k } = sizes;
  const dtotal = softmaxBackward(plan, label, { score: routed.score, dscore, top_k });
  const groups = heads * axes;
  const rows = raw.rows * groups;
  const part = plan.tensor(`${label}.scale_part`, [raw.rows, roundUp(groups, 4)]);
  const workgroup = 64;
  plan.dispatch({
    label: `${label}.draw`,
    name: "beam_query_gradient",
    source: gradientSource,
    constants: { WORKGROUP: workgroup, R4: axis_query / 4, AXES: axes, TOP: top_k },
    params: { rows, groups, size: axis_size, stride: part.width, epsilon: f32(EPSILON) },
    bindings: {
      raw: read(raw),
      coords: readScalar(routed.coords),
      dtotal: readScalar(dtotal),
      codes: read(codesOf(plan, sizes)),
      logit_scale: readScalar(logit_scale),
      draw: write(draw),
      part: writeScalar(part),
    },
    workgroups: grid(Math.ceil(rows / workgroup)),
    flops: 2 * rows * top_k * axis_query,
    bytes: raw.bytes + draw.bytes + part.bytes + routed.coords.bytes + dtotal.bytes,
  });
  biasGradient(plan, `${label}.dlogit_scale`, { dy: part, gradient: input.dlogit_scale });
}
