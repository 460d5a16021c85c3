/**
 * The activation gelu, in both forms: with tanh, and exact with the error function.
 *
 * @module
 */

import exactSource from "../../../shaders/elementwise/gelu_exact.wgsl" with { type: "text" };
import rowsSource from "../../../shaders/elementwise/gelu_rows.wgsl" with { type: "text" };
import tanhSource from "../../../shaders/elementwise/gelu.wgsl" with { type: "text" };
import { type Binding, grid, read, write } from "../../gpu/kernel.ts";
import type { Plan } from "../../gpu/plan.ts";
import type { Tensor } from "../../gpu/tensor.ts";

/** The form of gelu. */
export type Gelu = "tanh" | "exact";

/** WGSL of `gelu(x: vec4f)` and of `gelu_derivative(x: vec4f)`. */
export function geluSource(form: Gelu): string {
  return form === "exact" ? exactSource : tanhSource;
}

/** Operands that {@linkcode geluForward} and its gradient share. */
interface GeluRows {
  readonly gelu: Gelu;
  /** `[T, F]`, a multiple of 4 elements. */
  readonly x: Tensor;
}

/** Records `h = gelu(x)`; both of one shape and any float types. */
export function geluForward(
  plan: Plan,
  label: string,
  { h, ...input }: GeluRows & { readonly h: Tensor },
): void {
  record(plan, label, { ...input, others: { h: write(h) }, backward: false });
}

/** Records `dx = dh ∘ gelu′(x)`. */
export function geluBackward(
  plan: Plan,
  label: string,
  { dh, dx, ...input }: GeluRows & { readonly dh: Tensor; readonly dx: Tensor },
): void {
  record(plan, label, { ...input, others: { dh: read(dh), dx: write(dx) }, backward: true });
}

function record(plan: Plan, label: string, { gelu, x, others, backward }: GeluRows & {
  readonly others: Readonly<Record<string, Binding>>;
  readonly backward: boolean;
}): void {
  plan.dispatch({
    label,
    name: "gelu_rows",
    source: rowsSource,
    constants: { BACKWARD: backward, GELU_SOURCE: geluSource(gelu) },
    params: { count: x.size / 4 },
    bindings: { x: read(x), ...others },
    workgroups: grid(Math.ceil(x.size / 256)),
    flops: 12 * x.size,
  });
}
