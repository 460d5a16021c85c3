/**
 * The choice of experts: the best sums of two sub-keys' scores, and the softmax over them.
 *
 * @module
 */

import selectSource from "../../../shaders/routing/routing_select.wgsl" with { type: "text" };
import selectDirectSource from "../../../shaders/routing/routing_select_direct.wgsl" with {
  type: "text",
};
import selectSubgroupSource from "../../../shaders/routing/routing_select_subgroup.wgsl" with {
  type: "text",
};
import { grid, read, readScalar, writeScalar } from "../../gpu/kernel.ts";
import type { Plan } from "../../gpu/plan.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { subgroupSize } from "../subgroup.ts";

/** Kept experts whose lists an invocation of a software adapter holds in registers, at most: the text is unrolled. */
const MOST_DIRECT = 8;
/** Scores of a row that an invocation holds in registers, at most. */
const MOST_VALUES = 32;
/** Invocations of a workgroup whose subgroups do a row each. */
const INVOCATIONS = 128;

/**
 * Constants of the choice by subgroups of `size`, or undefined when a row does not fit one: where the pairs of ranks `(a, b)` that can be
 * kept, `(a + 1)(b + 1) ≤ top`, begin for each `a`, and how many there are.
 */
function subgroupChoice(size: number | undefined, top: number, keys: number) {
  if (size === undefined || top > size) return undefined;
  const values = 4 * Math.ceil(keys / (4 * size));
  if (values > MOST_VALUES) return undefined;
  const offsets: number[] = [];
  let pairs = 0;
  for (let a = 0; a < top; a++) {
    offsets.push(pairs);
    pairs += Math.floor(top / (a + 1));
  }
  return {
    SUBGROUPS: true,
    SIZE: size,
    ROWS: INVOCATIONS / size,
    TOP: top,
    VALUES: values,
    OFFSETS: offsets,
    PAIRS: pairs,
    CHUNKS: Math.ceil(pairs / size),
  };
}

/** Rows to choose for, a row being a token's routing head. */
interface Selection {
  /** Scores on both axes, f32 `[rows, stride]`, of which `sub_keys` columns count. */
  readonly scores: readonly [Tensor, Tensor];
  /** Rows of scores. */
  readonly rows: number;
  /** Elements of a row of scores, a multiple of 4. */
  readonly stride: number;
  /** Row of `index` and `score` that the first one is. */
  readonly first: number;
  /** Experts kept per row. */
  readonly top_k: number;
  /** Sub-keys on an axis. */
  readonly sub_keys: number;
  /** Kept experts, u32 `[…, top_k]`, best first: written from row `first` on. */
  readonly index: Tensor;
  /** Their weights, f32 `[…, top_k]`: written from row `first` on. */
  readonly score: Tensor;
}

/** Records the choice. */
export function selectExperts(plan: Plan, label: string, selection: Selection): void {
  const { scores: [s1, s2], rows, stride, first, top_k, sub_keys, index, score } = selection;
  const { capabilities } = plan.gpu;
  const { software } = capabilities;
  const params = { rows, first_row: first, keys: sub_keys };
  const results = { index: writeScalar(index), score: writeScalar(score) };
  const choice = subgroupChoice(subgroupSize(capabilities), top_k, sub_keys);
  if (choice) {
    plan.dispatch({
      label,
      name: "routing_select_subgroup",
      source: selectSubgroupSource,
      constants: choice,
      params: { ...params, stride: stride / 4 },
      bindings: { s1: read(s1), s2: read(s2), ...results },
      workgroups: grid(Math.ceil(rows / choice.ROWS)),
      bytes: 8 * rows * (stride + top_k),
    });
    return;
  }
  if (software && top_k <= MOST_DIRECT) {
    plan.dispatch({
      label,
      name: "routing_select_direct",
      source: selectDirectSource,
      constants: { TOP: top_k },
      params: { ...params, stride: stride / 4 },
      bindings: { s1: read(s1), s2: read(s2), ...results },
      workgroups: grid(Math.ceil(rows / 32)),
      bytes: 8 * rows * (stride + top_k),
    });
    return;
  }
  plan.dispatch({
    label,
    name: "routing_select",
    source: selectSource,
    constants: {
      SOFTWARE: software,
      TOP: top_k,
      ...(!software && { VALUES: Math.ceil(sub_keys / 64) }),
    },
    params: { ...params, stride },
    bindings: { s1: readScalar(s1), s2: readScalar(s2), ...results },
    workgroups: grid(software ? Math.ceil(rows / 8) : rows),
  });
}
