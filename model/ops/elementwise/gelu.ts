/**
 * The activation of a feed-forward of two matrices: `gelu(x + bias)`.
 *
 * @module
 */

import activateSource from "../../../shaders/elementwise/gelu_activate.wgsl" with { type: "text" };
import exactSource from "../../../shaders/elementwise/gelu_exact.wgsl" with { type: "text" };
import tanhSource from "../../../shaders/elementwise/gelu.wgsl" with { type: "text" };
import { type Binding, grid, read, write } from "../../gpu/kernel.ts";
import type { Plan } from "../../gpu/plan.ts";
import type { Tensor } from "../../gpu/tensor.ts";

/** Inputs that {@linkcode geluForward} and its gradient share. */
export interface GeluOperands {
  /** `[T, F]`, F a multiple of 4. */
  readonly x: Tensor;
  /** f32 `[F]`. */
  readonly bias?: Tensor | undefined;
  /** `tanh`: the approximation by it; `exact`: `x Φ(x)`. */
  readonly form: "tanh" | "exact";
}

/** Records `h = gelu(x + bias)`, `[T, F]`. */
export function geluForward(
  plan: Plan,
  label: string,
  operands: GeluOperands & { readonly h: Tensor },
): void {
  activate(plan, label, operands, { h: write(operands.h) });
}

/** Records `dx = dh ∘ gelu′(x + bias)`, which is also the gradient of every row's bias. */
export function geluBackward(
  plan: Plan,
  label: string,
  operands: GeluOperands & { readonly dh: Tensor; readonly dx: Tensor },
): void {
  activate(plan, label, operands, { dh: read(operands.dh), dx: write(operands.dx) });
}

function activate(
  plan: Plan,
  label: string,
  { x, bias, form }: GeluOperands,
  others: Readonly<Record<string, Binding>>,
): void {
  plan.dispatch({
    label,
    name: "gelu_activate",
    source: activateSource,
    constants: {
      BIAS: bias !== undefined,
      BACKWARD: "dx" in others,
      GELU_SOURCE: form === "exact" ? exactSource : tanhSource,
    },
    params: { count: x.size / 4, width: x.width / 4 },
    bindings: { x: read(x), ...(bias && { bias: read(bias) }), ...others },
    workgroups: grid(Math.ceil(x.size / 256)),
    flops: 12 * x.size,
  });
}
