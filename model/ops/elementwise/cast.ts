/**
 * Conversion between element types.
 *
 * @module
 */

import source from "../../../shaders/elementwise/cast.wgsl" with { type: "text" };
import { grid, read, write } from "../../gpu/kernel.ts";
import type { Plan } from "../../gpu/plan.ts";
import type { DType, Tensor } from "../../gpu/tensor.ts";

/** Vectors of four that an invocation converts, on real GPUs. */
const EACH = 4;

/** Records `to = from`, converting to the type of `to`. Both have the same number of elements, a multiple of 4. */
export function castInto(plan: Plan, label: string, tensors: { from: Tensor; to: Tensor }): void {
  const { from, to } = tensors;
  if (from.size !== to.size) {
    throw new RangeError(`${label}: ${from.name} has ${from.size} elements, ${to.name} ${to.size}`);
  }
  const each = plan.gpu.capabilities.software ? 1 : EACH;
  plan.dispatch({
    label,
    name: "cast",
    source,
    constants: { EACH: each },
    params: { count: Math.ceil(from.size / 4) },
    bindings: { x: read(from), y: write(to) },
    workgroups: grid(Math.ceil(from.size / (256 * each))),
  });
}

/** The tensor in another type: itself when it already has it, else a new transient tensor that a recorded dispatch fills. */
export function cast(plan: Plan, label: string, tensor: Tensor, dtype: DType): Tensor {
  if (tensor.dtype === dtype) return tensor;
  const to = plan.tensor(label, tensor.shape, { dtype });
  castInto(plan, label, { from: tensor, to });
  return to;
}
