/**
 * Experts that are left out of a pass: their scores become 0 between the router and the experts.
 *
 * @module
 */

import source from "../../../shaders/experts/experts_without.wgsl" with { type: "text" };
import { grid, readScalar, updateScalar } from "../../gpu/kernel.ts";
import type { Plan } from "../../gpu/plan.ts";
import type { Tensor } from "../../gpu/tensor.ts";

/** Fills a list of experts up: no expert has this number. */
const NO_EXPERT = 0xffffffff;

/**
 * Records `score = 0` of every assignment to a listed expert.
 *
 * @param input `index` u32 `[T, M·A]`, A numbers an expert; `score` f32 `[T, M]`, changed in place; `listed` u32 `[capacity, A]` of {@linkcode listedExperts}.
 */
export function withoutExperts(
  plan: Plan,
  label: string,
  input: { index: Tensor; score: Tensor; listed: Tensor },
): void {
  const { index, score, listed } = input;
  const workgroup = 64;
  plan.dispatch({
    label,
    name: "experts_without",
    source,
    constants: { WORKGROUP: workgroup },
    params: { n: score.size, axes: listed.width, capacity: listed.rows },
    bindings: {
      index: readScalar(index),
      listed: readScalar(listed),
      score: updateScalar(score),
    },
    workgroups: grid(Math.ceil(score.size / workgroup)),
  });
}

/**
 * A list for {@linkcode withoutExperts}, in ascending order.
 *
 * @param experts The numbers of each expert, A of them.
 * @param sizes `capacity`, the experts that the list has room for; `axes`, A.
 * @throws {RangeError} If there are more experts than room.
 */
export function listedExperts(
  experts: readonly (readonly number[])[],
  sizes: { readonly capacity: number; readonly axes: number },
): Uint32Array<ArrayBuffer> {
  const { capacity, axes } = sizes;
  if (experts.length > capacity) {
    throw new RangeError(`A list has room for ${capacity} experts, got ${experts.length}`);
  }
  const sorted = experts.toSorted((a, b) => {
    const axis = a.findIndex((number, i) => number !== b[i]);
    return axis < 0 ? 0 : a[axis]! - b[axis]!;
  });
  const listed = new Uint32Array(capacity * axes).fill(NO_EXPERT);
  sorted.forEach((numbers, i) => listed.set(numbers, i * axes));
  return listed;
}
