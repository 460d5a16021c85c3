/**
 * The end of a dense feed-forward, which its activations share: `y = residual + h W_down + b_down`.
 *
 * @module
 */

import type { Tensor } from "../../gpu/tensor.ts";
import type { LayerContext } from "../../layer/context.ts";
import { addResidual } from "../../ops/elementwise/add_residual.ts";
import { columnSums } from "../../ops/elementwise/column_sums.ts";
import { gemm } from "../../ops/gemm/gemm.ts";

/**
 * Records the last product.
 *
 * @param inputs `h` `[T, F]`; `residual` f32 `[T, D]`.
 * @returns The new residual stream, f32 `[T, D]`.
 */
export function denseOutput(
  context: LayerContext,
  prefix: string,
  inputs: { readonly h: Tensor; readonly residual: Tensor; readonly biases: boolean },
): Tensor {
  const { plan } = context;
  const { h, residual, biases } = inputs;
  const y = context.activation(`${prefix}.y`, ...residual.shape);
  const product = { a: h, b: context.weight(`${prefix}.w_down`) };
  if (!biases) {
    gemm(plan, `${prefix}.down`, { ...product, c: y, epilogue: "add", addend: residual });
    return y;
  }
  const projected = context.activation(`${prefix}.projected`, ...residual.shape);
  gemm(plan, `${prefix}.down`, { ...product, c: projected });
  const bias = context.vector(`${prefix}.b_down`);
  addResidual(plan, `${prefix}.output`, { x: projected, bias, residual, y });
  return y;
}

/** Records the gradient of a bias: the sums of `dy` over its rows. */
export function biasGradient(
  context: LayerContext,
  prefix: string,
  { name, dy }: { readonly name: string; readonly dy: Tensor },
): void {
  const y = context.gradient(`${prefix}.${name}`);
  columnSums(context.plan, `${prefix}.d${name}`, { x: dy, y });
}
