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

/** Operands of both directions: of one shape, a multiple of 4 elements. */
interface Swiglu {
  readonly gate: Tensor;
  readonly up: Tensor;
  /** Added to `gate` and `up` first, f32 `[F]`. */
  readonly biases?: { readonly gate: Tensor; readonly up: Tensor } | undefined;
}

/** The biases as parts of a dispatch. */
function biasParts({ gate, biases }: Swiglu) {
  if (biases === undefined) return { params: { count: gate.size / 4 }, bindings: {} };
  return {
    constants: { BIAS: true },
    params: { count: gate.size / 4, width: gate.width / 4 },
    bindings: { bias_gate: read(biases.gate), bias_up: read(biases.up) },
  };
}

/** Records `h = silu(gate) ⊙ up`. */
export function swigluForward(
  plan: Plan,
  label: string,
  tensors: Swiglu & { readonly h: Tensor },
): void {
  const { gate, up, h } = tensors;
  const parts = biasParts(tensors);
  plan.dispatch({
    label,
    name: "swiglu_forward",
    source: forwardSource,
    ...parts,
    bindings: { gate: read(gate), up: read(up), ...parts.bindings, h: write(h) },
    workgroups: grid(Math.ceil(gate.size / 256)),
    flops: 5 * gate.size,
  });
}

/** Records the gradients of `gate` and `up` from that of `h`. */
export function swigluBackward(
  plan: Plan,
  label: string,
  tensors: Swiglu & { readonly dh: Tensor; readonly dgate: Tensor; readonly dup: Tensor },
): void {
  const { gate, up, dh, dgate, dup } = tensors;
  const parts = biasParts(tensors);
  plan.dispatch({
    label,
    name: "swiglu_backward",
    source: backwardSource,
    ...parts,
    bindings: {
      gate: read(gate),
      up: read(up),
      ...parts.bindings,
      dh: read(dh),
      dgate: write(dgate),
      dup: write(dup),
    },
    workgroups: grid(Math.ceil(gate.size / 256)),
    flops: 10 * gate.size,
  });
}
