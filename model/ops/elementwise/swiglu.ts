/**
 * The gate of a SwiGLU feed-forward: `silu(gate) ⊙ up`.
 *
 * @module
 */

import backwardSource from "../../../shaders/elementwise/swiglu_backward.wgsl" with {
  type: "text",
};
import forwardSource from "../../../shaders/elementwise/swiglu_forward.wgsl" with { type: "text" };
import { grid, read, write } from "../../gpu/kernel.ts";
import type { Plan } from "../../gpu/plan.ts";
import type { Tensor } from "../../gpu/tensor.ts";

/** Records `h = silu(gate) ⊙ up`; all of one shape, a multiple of 4 elements. */
export function swigluForward(
  plan: Plan,
  label: string,
  tensors: { gate: Tensor; up: Tensor; h: Tensor },
): void {
  const { gate, up, h } = tensors;
  plan.dispatch({
    label,
    name: "swiglu_forward",
    source: forwardSource,
    params: { count: gate.size / 4 },
    bindings: { gate: read(gate), up: read(up), h: write(h) },
    workgroups: grid(Math.ceil(gate.size / 256)),
    flops: 5 * gate.size,
  });
}

/** Records the gradients of `gate` and `up` from that of `h`. */
export function swigluBackward(
  plan: Plan,
  label: string,
  tensors: { gate: Tensor; up: Tensor; dh: Tensor; dgate: Tensor; dup: Tensor },
): void {
  const { gate, up, dh, dgate, dup } = tensors;
  plan.dispatch({
    label,
    name: "swiglu_backward",
    source: backwardSource,
    params: { count: gate.size / 4 },
    bindings: {
      gate: read(gate),
      up: read(up),
      dh: read(dh),
      dgate: write(dgate),
      dup: write(dup),
    },
    workgroups: grid(Math.ceil(gate.size / 256)),
    flops: 10 * gate.size,
  });
}
