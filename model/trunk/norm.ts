/**
 * The trunk's norms, forward and backward: root mean square, or mean and variance.
 *
 * @module
 */

import type { Tensor } from "../gpu/tensor.ts";
import type { LayerContext } from "../layer/context.ts";
import { layernormBackward, layernormForward } from "../ops/norm/layernorm.ts";
import { rmsnormBackward, rmsnormForward } from "../ops/norm/rmsnorm.ts";
import type { Architecture } from "./architecture.ts";

/** A recorded norm. */
export interface NormPass {
  /** The normalised rows, in the operands' type. */
  readonly y: Tensor;
  /**
   * Records the gradients of gain and bias, and that of the input into `dx`, f32 `[T, D]`.
   *
   * @param epilogue `accumulate` adds to `dx`, which is the residual stream's gradient.
   */
  backward(dy: Tensor, dx: Tensor, epilogue: "none" | "accumulate"): void;
}

/**
 * Records a norm of the residual stream.
 *
 * @param name Prefix of its parameters: `layers.3.attn_norm`.
 */
export function recordNorm(
  context: LayerContext,
  name: string,
  options: { architecture: Architecture; x: Tensor },
): NormPass {
  const { plan } = context;
  const { architecture, x } = options;
  const y = context.operand(`${name}.y`, ...x.shape);
  const scale = context.activation(`${name}.scale`, x.rows);
  const gain = context.vector(`${name}.weight`);
  const { norm, epsilon } = architecture.config.trunk;
  if (norm === "rms") {
    rmsnormForward(plan, name, { x, gain, y, scale, epsilon });
    return {
      y,
      backward(dy, dx, epilogue) {
        const dgain = context.gradient(`${name}.weight`);
        const { gains } = context;
        rmsnormBackward(plan, name, { x, scale, dy, dx, gain, epilogue, dgain, gains });
      },
    };
  }
  const bias = context.vector(`${name}.bias`);
  const mean = context.activation(`${name}.mean`, x.rows);
  layernormForward(plan, name, { x, gain, bias, y, mean, scale, epsilon });
  return {
    y,
    backward(dy, dx, epilogue) {
      const dgain = context.gradient(`${name}.weight`);
      const dbias = context.gradient(`${name}.bias`);
      layernormBackward(plan, name, { x, mean, scale, dy, dx, gain, epilogue, dgain, dbias });
    },
  };
}
