/**
 * Assignments of tokens that keep fewer experts than their router chose: the kept ones first, so that kernels stop where they end.
 *
 * @module
 */

import orderSource from "../../../shaders/experts/experts_order.wgsl" with { type: "text" };
import foundSource from "../../../shaders/experts/experts_score_found.wgsl" with { type: "text" };
import { grid, readScalar, writeScalar } from "../../gpu/kernel.ts";
import type { Plan } from "../../gpu/plan.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import type { Kept, Packing } from "./experts.ts";

/**
 * Records `kept` with the experts of score 0 last in their token's row, as {@linkcode Packing.none}; the others keep their order, and so do sums over them.
 *
 * @param input `experts`: N, which stands for no expert.
 */
export function packKept(
  plan: Plan,
  label: string,
  input: { kept: Kept; experts: number },
): Kept & { readonly packed: Packing } {
  const { kept: { index, score }, experts } = input;
  const { sorted, weight, place } = recordOrder(plan, label, {
    index,
    score,
    none: experts,
    ascending: false,
  });
  return { index: sorted, score: weight, packed: { none: experts, place } };
}

/**
 * Records a token's experts in another order, those with score 0 last as `none`: in ascending order, or the others in their own.
 *
 * @returns `sorted` u32 and `weight` f32 `[T, M]`; `place` u32 `[T, M]`, where each assignment went in its token's row.
 */
export function recordOrder(
  plan: Plan,
  label: string,
  input: { index: Tensor; score: Tensor; none: number; ascending: boolean },
): { sorted: Tensor; weight: Tensor; place: Tensor } {
  const { index, score, none, ascending } = input;
  const workgroup = 64;
  const u32 = (name: string) => plan.tensor(`${label}.${name}`, index.shape, { dtype: "u32" });
  const sorted = u32("sorted");
  const place = u32("place");
  const weight = plan.tensor(`${label}.weight`, index.shape);
  plan.dispatch({
    label: `${label}.order`,
    name: "experts_order",
    source: orderSource,
    constants: { WORKGROUP: workgroup, ASCENDING: ascending },
    params: { n: index.size, per: index.width, none },
    bindings: {
      index: readScalar(index),
      score: readScalar(score),
      sorted: writeScalar(sorted),
      weight: writeScalar(weight),
      place: writeScalar(place),
    },
    workgroups: grid(Math.ceil(index.size / workgroup)),
  });
  return { sorted, weight, place };
}

/**
 * Records the gradients of the router's scores from those of packed ones: 0 for experts that a token does not keep.
 *
 * @param input `found` f32 `[T, M]`, in the order of `kept`; `dscore` f32 `[T, M]`, written.
 */
export function unpackScores(
  plan: Plan,
  label: string,
  input: { kept: Kept & { readonly packed: Packing }; found: Tensor; dscore: Tensor },
): void {
  const { kept: { index, packed }, found, dscore } = input;
  const workgroup = 64;
  plan.dispatch({
    label,
    name: "experts_score_found",
    source: foundSource,
    constants: { WORKGROUP: workgroup },
    params: { n: dscore.size, per: index.width, none: packed.none },
    bindings: {
      sorted: readScalar(index),
      place: readScalar(packed.place),
      found: readScalar(found),
      dscore: writeScalar(dscore),
    },
    workgroups: grid(Math.ceil(dscore.size / workgroup)),
  });
}
