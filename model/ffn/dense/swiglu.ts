/**
 * The dense feed-forward that gates: `y = residual + (silu(x W_gate) ⊙ (x W_up)) W_down`, with a bias after each product where there are
 * biases.
 *
 * @module
 */

import type { Tensor } from "../../gpu/tensor.ts";
import { cast } from "../../ops/elementwise/cast.ts";
import { gemm } from "../../ops/gemm/gemm.ts";
import { swigluBackward, swigluForward } from "../../ops/elementwise/swiglu.ts";
import type { LayerContext } from "../../layer/context.ts";
import { biasGradient, denseOutput } from "./output.ts";

/** The tensors that the backward pass reads. */
export interface SwigluSaved {
  readonly x: Tensor;
  readonly gate: Tensor;
  readonly up: Tensor;
  readonly h: Tensor;
}

/** The biases of gate and up, where there are some. */
function biasesOf(context: LayerContext, prefix: string, biases: boolean) {
  if (!biases) return undefined;
  return { gate: context.vector(`${prefix}.b_gate`), up: context.vector(`${prefix}.b_up`) };
}

/**
 * Records the forward pass.
 *
 * @param x Normalised input `[T, D]`, of the operand type.
 * @param residual Residual stream `[T, D]`, f32.
 * @returns The new residual stream, and what the backward pass reads.
 */
export function swigluLayerForward(
  context: LayerContext,
  prefix: string,
  tensors: { x: Tensor; residual: Tensor; biases: boolean },
): { y: Tensor; saved: SwigluSaved } {
  const { plan } = context;
  const { x, residual, biases } = tensors;
  const [gateWeight, upWeight] = weights(context, prefix);
  const width = gateWeight.width;
  const rows = x.rows;
  const gate = context.operand(`${prefix}.gate`, rows, width);
  const up = context.operand(`${prefix}.up`, rows, width);
  const h = context.operand(`${prefix}.h`, rows, width);
  gemm(plan, `${prefix}.gate`, { a: x, b: gateWeight, c: gate });
  gemm(plan, `${prefix}.up`, { a: x, b: upWeight, c: up });
  const before = biasesOf(context, prefix, biases);
  swigluForward(plan, `${prefix}.activation`, { gate, up, biases: before, h });
  const y = denseOutput(context, prefix, { h, residual, biases });
  return { y, saved: { x, gate, up, h } };
}

/**
 * Records the backward pass.
 *
 * @param dy Gradient of the residual stream `[T, D]`, f32.
 * @returns Gradient of `x` `[T, D]`, f32.
 */
export function swigluLayerBackward(
  context: LayerContext,
  prefix: string,
  tensors: { dy: Tensor; saved: SwigluSaved; biases: boolean },
): Tensor {
  const { plan } = context;
  const { saved: { x, gate, up, h }, biases } = tensors;
  const dy = cast(context.plan, `${prefix}.dy`, tensors.dy, context.operandType);
  const [gateWeight, upWeight, downWeight] = weights(context, prefix);
  const dh = context.operand(`${prefix}.dh`, ...h.shape);
  const dgate = context.operand(`${prefix}.dgate`, ...h.shape);
  const dup = context.operand(`${prefix}.dup`, ...h.shape);
  const dx = context.activation(`${prefix}.dx`, ...x.shape);
  const gradient = (name: string, a: Tensor, b: Tensor) => {
    const { tensor, epilogue } = context.gradient(`${prefix}.${name}`);
    gemm(plan, `${prefix}.d${name}`, { a, b, c: tensor, layout: "tn", epilogue });
  };
  gemm(plan, `${prefix}.dh`, { a: dy, b: downWeight, c: dh, layout: "nt" });
  gradient("w_down", h, dy);
  if (biases) biasGradient(context, prefix, { name: "b_down", dy });
  const before = biasesOf(context, prefix, biases);
  swigluBackward(plan, `${prefix}.dactivation`, { gate, up, biases: before, dh, dgate, dup });
  gradient("w_gate", x, dgate);
  gradient("w_up", x, dup);
  if (biases) {
    biasGradient(context, prefix, { name: "b_gate", dy: dgate });
    biasGradient(context, prefix, { name: "b_up", dy: dup });
  }
  gemm(plan, `${prefix}.dx_gate`, { a: dgate, b: gateWeight, c: dx, layout: "nt" });
  gemm(plan, `${prefix}.dx_up`, {
    a: dup,
    b: upWeight,
    c: dx,
    layout: "nt",
    epilogue: "accumulate",
  });
  return dx;
}

function weights(context: LayerContext, prefix: string): [Tensor, Tensor, Tensor] {
  return [
    context.weight(`${prefix}.w_gate`),
    context.weight(`${prefix}.w_up`),
    context.weight(`${prefix}.w_down`),
  ];
}
