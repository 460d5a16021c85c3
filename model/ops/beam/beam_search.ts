/**
 * The choice of a beam router: the best ids of each axis for a query, and the best sums of one id from each axis.
 *
 * @module
 */

import bitonicSource from "../../../shaders/beam/bitonic.wgsl" with { type: "text" };
import candidatesDirectSource from "../../../shaders/beam/beam_candidates_direct.wgsl" with {
  type: "text",
};
import candidatesSource from "../../../shaders/beam/beam_candidates.wgsl" with { type: "text" };
import insertionSource from "../../../shaders/beam/insertion_direct.wgsl" with { type: "text" };
import searchDirectSource from "../../../shaders/beam/beam_search_direct.wgsl" with {
  type: "text",
};
import searchSource from "../../../shaders/beam/beam_search.wgsl" with { type: "text" };
import { grid, readScalar, writeScalar } from "../../gpu/kernel.ts";
import type { Plan } from "../../gpu/plan.ts";
import type { Tensor } from "../../gpu/tensor.ts";

/** Invocations of a workgroup that sorts: a whole subgroup's worth on software adapters, where a barrier costs what it separates. */
const THREADS = 64;
const SOFTWARE_THREADS = 8;
/** Scores that a workgroup sorts at once, at most. */
const MOST_SLOTS = 1024;
/** Places of a list that an invocation of a software adapter sorts by insertion, at most: its text is unrolled. */
const MOST_INSERTED = 64;
/** Rounds of all loops of an invocation on a software adapter, which leaves loops after 65,535. */
const SOFTWARE_ROUNDS = 60_000;

/** The least power of two that is at least `n`, and at least 2. */
function powerOfTwo(n: number): number {
  return Math.max(2, 2 ** Math.ceil(Math.log2(n)));
}

/** Steps of a bitonic sort of `n` slots. */
function sortSteps(n: number): number {
  const bits = Math.log2(n);
  return bits * (bits + 1) / 2;
}

/** Invocations of a workgroup that sorts `n` slots `times` times. */
function threadsFor(plan: Plan, n: number, times: number): number {
  if (!plan.gpu.capabilities.software) return THREADS;
  const rounds = times * sortSteps(n) * (1 + n / 2 / SOFTWARE_THREADS);
  return rounds <= SOFTWARE_ROUNDS ? SOFTWARE_THREADS : THREADS;
}

/** The best ids of queries on their axis, best first, of equal scores the lower id. */
export interface Candidates {
  /** `q · code(id)`, f32 `[rows, b]`. */
  readonly value: Tensor;
  /** u32 `[rows, b]`. */
  readonly id: Tensor;
}

/**
 * Records the choice of the `kept` best ids of each row.
 *
 * @param input `scores` f32 `[rows, stride]`, of which the first `size` columns count; `kept` at most `size` and 512.
 */
export function bestIds(
  plan: Plan,
  label: string,
  input: { readonly scores: Tensor; readonly size: number; readonly kept: number },
): Candidates {
  const { scores, size, kept } = input;
  const { rows, width: stride } = scores;
  const value = plan.tensor(`${label}.value`, [rows, kept]);
  const id = plan.tensor(`${label}.id`, [rows, kept], { dtype: "u32" });
  const call = {
    label,
    params: { rows, stride, size },
    bindings: { s: readScalar(scores), value: writeScalar(value), id: writeScalar(id) },
  };
  if (plan.gpu.capabilities.software && kept <= MOST_INSERTED) {
    plan.dispatch({
      ...call,
      name: "beam_candidates_direct",
      source: insertionSource + candidatesDirectSource,
      constants: { LENGTH: kept, KEPT: kept },
      workgroups: grid(Math.ceil(rows / SOFTWARE_THREADS)),
    });
    return { value, id };
  }
  const slots = Math.min(MOST_SLOTS, powerOfTwo(size));
  const times = 1 + Math.ceil(Math.max(0, size - slots) / (slots - kept));
  plan.dispatch({
    ...call,
    name: "beam_candidates",
    source: bitonicSource + candidatesSource,
    constants: { THREADS: threadsFor(plan, slots, times), SLOTS: slots, KEPT: kept },
    workgroups: grid(rows),
  });
  return { value, id };
}

/** Beams after each axis: never more than there are sums, and the last ones are those that are kept. */
export function beamCounts(
  sizes: {
    readonly axes: number;
    readonly candidates: number;
    readonly beam_width: number;
    readonly top_k: number;
  },
): number[] {
  const { axes, candidates, beam_width, top_k } = sizes;
  const counts: number[] = [];
  let beams = 1;
  for (let axis = 0; axis < axes; axis++) {
    beams = Math.min(beam_width, beams * candidates);
    counts.push(axis < axes - 1 ? beams : Math.min(top_k, beams));
  }
  return counts;
}

/** The tensors that {@linkcode searchBeams} reads and writes. */
interface Search {
  readonly candidates: Candidates;
  /** f32 `[H, A]`: logarithm of the factor of an axis' scores. */
  readonly logit_scale: Tensor;
  /** Axes, A. */
  readonly axes: number;
  /** Ids on an axis, S. */
  readonly axis_size: number;
  readonly beam_width: number;
  readonly top_k: number;
  /** Row of `coords` and `score` that the first one is. */
  readonly first: number;
  /** u32 `[…, top_k, A]`: `a · S + id` of each kept expert on each axis, best first. */
  readonly coords: Tensor;
  /** Softmax over the kept sums, f32 `[…, top_k]`. */
  readonly score: Tensor;
}

/** Records the search, a row being a token's routing head. */
export function searchBeams(plan: Plan, label: string, search: Search): void {
  const { candidates: { value, id }, logit_scale, axes, top_k, first, coords, score } = search;
  const kept = value.width;
  const beams = beamCounts({ ...search, candidates: kept });
  if (beams.at(-1)! < top_k) {
    throw new RangeError(`${label}: ${beams.at(-1)} beams are fewer than the ${top_k} to keep`);
  }
  const rows = value.rows / axes;
  const most = Math.max(...beams);
  const call = {
    label,
    params: { rows, groups: logit_scale.size, size: search.axis_size, first_row: first },
    bindings: {
      value: readScalar(value),
      id: readScalar(id),
      logit_scale: readScalar(logit_scale),
      coords: writeScalar(coords),
      score: writeScalar(score),
    },
    bytes: value.bytes + id.bytes + 4 * rows * top_k * (axes + 1),
  };
  const constants = { KEPT: kept, TOP: top_k, AXES: axes };
  if (plan.gpu.capabilities.software && most <= MOST_INSERTED) {
    const pairs = plan.tensor(`${label}.pairs`, [rows, axes, most], {
      dtype: "u32",
      owner: "workspace",
    });
    plan.dispatch({
      ...call,
      bindings: { ...call.bindings, pairs: writeScalar(pairs) },
      name: "beam_search_direct",
      source: insertionSource + searchDirectSource,
      constants: { ...constants, LENGTH: most, WIDTH: search.beam_width },
      workgroups: grid(Math.ceil(rows / SOFTWARE_THREADS)),
    });
    return;
  }
  // Pairs (p, c) of a beam and a candidate that can be kept: (p+1)(c+1) of them are at least as good.
  const pairs = beams.map((after, axis) => {
    let count = 0;
    for (let p = 0; axis > 0 && p < beams[axis - 1]!; p++) {
      count += Math.min(kept, Math.floor(after / (p + 1)));
    }
    return count;
  });
  const sorted = pairs.map(powerOfTwo);
  const slots = Math.max(...sorted);
  plan.dispatch({
    ...call,
    name: "beam_search",
    source: bitonicSource + searchSource,
    constants: {
      ...constants,
      THREADS: threadsFor(plan, slots, axes),
      SLOTS: slots,
      MOST: most,
      OWN: Math.min(kept, most),
      BEAMS: beams,
      PAIRS: pairs,
      SORTED: sorted,
    },
    workgroups: grid(rows),
  });
}
