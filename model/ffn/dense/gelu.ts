/**
 * The dense feed-forward of two matrices: `y = residual + gelu(x W_up + b_up) W_down + b_down`.
 *
 * @module
 */

import type { Tensor } from "../../gpu/tensor.ts";
import { cast } from "../../ops/elementwise/cast.ts";
import { geluBackward, geluForward } from "../../ops/elementwise/gelu.ts";
import { gemm } from "../../ops/gemm/gemm.ts";
import type { LayerContext } from "../../layer/context.ts";
import { biasGradient, denseOutput } from "./output.ts";

/** The form of the activation, and whether there are biases. */
interface GeluLayer {
  readonly form: "tanh" | "exact";
  readonly biases: boolean;
}

/** The tensors that the backward pass reads. */
export interface GeluSaved {
  readonly x: Tensor;
  /** `x W_up`, without its bias. */
  readonly up: Tensor;
  readonly h: Tensor;
}

/**
 * Records the forward pass.
 *
 * @param tensors `x`: normalised input `[T, D]`, of the operand type; `residual`: f32 `[T, D]`.
 * @returns The new residual stream, and what the backward pass reads.
 */
export function geluLayerForward(
  context: LayerContext,
  prefix: string,
  tensors: GeluLayer & { readonly x: Tensor; readonly residual: Tensor },
): { y: Tensor; saved: GeluSaved } {
  const { plan } = context;
  const { x, residual, form, biases } = tensors;
  const w_up = context.weight(`${prefix}.w_up`);
  const up = context.operand(`${prefix}.up`, x.rows, w_up.width);
  const h = context.operand(`${prefix}.h`, x.rows, w_up.width);
  gemm(plan, `${prefix}.up`, { a: x, b: w_up, c: up });
  const bias = biases ? context.vector(`${prefix}.b_up`) : undefined;
  geluForward(plan, `${prefix}.activation`, { x: up, bias, form, h });
  return { y: denseOutput(context, prefix, { h, residual, biases }), saved: { x, up, h } };
}

/**
 * Records the backward pass.
 *
 * @param tensors `dy`: gradient of the residual stream `[T, D]`, f32.
 * @returns Gradient of `x` `[T, D]`, f32.
 */
export function geluLayerBackward(
  context: LayerContext,
  prefix: string,
  tensors: GeluLayer & { readonly dy: Tensor; readonly saved: GeluSaved },
): Tensor {
  const { plan } = context;
  const { form, biases, saved: { x, up, h } } = tensors;
  const dy = cast(plan, `${prefix}.dy`, tensors.dy, context.operandType);
  const dh = context.operand(`${prefix}.dh`, ...h.shape);
  const dup = context.operand(`${prefix}.dup`, ...h.shape);
  const dx = context.activation(`${prefix}.dx`, ...x.shape);
  const gradient = (name: string, a: Tensor, b: Tensor) => {
    const { tensor, epilogue } = context.gradient(`${prefix}.${name}`);
    gemm(plan, `${prefix}.d${name}`, { a, b, c: tensor, layout: "tn", epilogue });
  };
  const w_down = context.weight(`${prefix}.w_down`);
  gemm(plan, `${prefix}.dh`, { a: dy, b: w_down, c: dh, layout: "nt" });
  gradient("w_down", h, dy);
  if (biases) biasGradient(context, prefix, { name: "b_down", dy });
  const bias = biases ? context.vector(`${prefix}.b_up`) : undefined;
  geluBackward(plan, `${prefix}.dactivation`, { x: up, bias, form, dh, dx: dup });
  gradient("w_up", x, dup);
  if (biases) biasGradient(context, prefix, { name: "b_up", dy: dup });
  gemm(plan, `${prefix}.dx`, {
    a: dup,
    b: context.weight(`${prefix}.w_up`),
    c: dx,
    layout: "nt",
  });
  return dx;
}
