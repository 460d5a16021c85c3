/**
 * Bindings of tensors that a kernel loads many times.
 *
 * @module
 */

import { type Binding, read, readOften } from "../gpu/kernel.ts";
import type { Plan } from "../gpu/plan.ts";
import type { Tensor } from "../gpu/tensor.ts";
import { softwareLanes } from "./subgroup.ts";

/**
 * Reads a tensor as `vec4`s, from a copy in a texture where a processor plays GPU and the copy pays (`gpu/copies.ts`).
 *
 * @param loads `vec4`s that all invocations load together.
 */
export function often(plan: Plan, tensor: Tensor, loads: number): Binding {
  return softwareLanes(plan.gpu.capabilities) === undefined
    ? read(tensor)
    : readOften(tensor, loads);
}
