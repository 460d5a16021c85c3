/**
 * How often experts are kept, whatever the router.
 *
 * @module
 */

import source from "../../../shaders/routing/routing_counts.wgsl" with { type: "text" };
import { atomic, grid, readScalar } from "../../gpu/kernel.ts";
import type { Plan } from "../../gpu/plan.ts";
import type { Tensor } from "../../gpu/tensor.ts";

/**
 * Records `counts[expert] += 1` for every expert that a predicting token keeps. `counts` is u32 `[N]`; clear it when counting starts.
 *
 * @param input `index` `[T, H·k]`, where a number beyond all experts stands for none; `targets` `[T]`: tokens with the target 0xffffffff pad a batch and are not counted.
 */
export function countUsage(
  plan: Plan,
  label: string,
  input: { index: Tensor; targets: Tensor; counts: Tensor },
): void {
  const { index, targets, counts } = input;
  const workgroup = 64;
  plan.dispatch({
    label,
    name: "routing_counts",
    source,
    constants: { WORKGROUP: workgroup, SUB_KEYS: false },
    params: { n: index.size, kept: index.width, experts: counts.size },
    bindings: { index: readScalar(index), targets: readScalar(targets), counts: atomic(counts) },
    workgroups: grid(Math.ceil(index.size / workgroup)),
  });
}
