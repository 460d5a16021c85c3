/**
 * The dense feed-forward with gelu: `y = residual + gelu(x W_up) W_down`.
 *
 * @module
 */

import type { LayerContext } from "../../layer/context.ts";
import type { LayerInput, Pass } from "../../layer/kind.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { cast } from "../../ops/elementwise/cast.ts";
import { type Gelu, geluBackward, geluForward } from "../../ops/elementwise/gelu.ts";
import { gemm } from "../../ops/gemm/gemm.ts";

/**
 * Records the layer.
 *
 * @param at Prefix of the weights' names: `layers.3.ffn`.
 */
export function geluLayer(
  context: LayerContext,
  at: string,
  { x, residual, gelu }: LayerInput & { readonly gelu: Gelu },
): Pass {
  const { plan } = context;
  const [w_up, w_down] = [context.weight(`${at}.w_up`), context.weight(`${at}.w_down`)];
  const hidden = (name: string) => context.operand(`${at}.${name}`, x.rows, w_up.width);
  const [up, h] = [hidden("up"), hidden("h")];
  const y = context.activation(`${at}.y`, x.rows, x.width);
  gemm(plan, `${at}.up`, { a: x, b: w_up, c: up });
  geluForward(plan, `${at}.activation`, { gelu, x: up, h });
  gemm(plan, `${at}.down`, { a: h, b: w_down, c: y, epilogue: "add", addend: residual });
  return {
    y,
    backward(gradient) {
      const dy = cast(plan, `${at}.dy`, gradient, context.operandType);
      const [dh, dup] = [hidden("dh"), hidden("dup")];
      const dx = context.activation(`${at}.dx`, x.rows, x.width);
      const weightGradient = (name: string, a: Tensor, b: Tensor) => {
        const { tensor, epilogue } = context.gradient(`${at}.${name}`);
        gemm(plan, `${at}.d${name}`, { a, b, c: tensor, layout: "tn", epilogue });
      };
      gemm(plan, `${at}.dh`, { a: dy, b: w_down, c: dh, layout: "nt" });
      weightGradient("w_down", h, dy);
      geluBackward(plan, `${at}.dactivation`, { gelu, x: up, dh, dx: dup });
      weightGradient("w_up", x, dup);
      gemm(plan, `${at}.dx`, { a: dup, b: w_up, c: dx, layout: "nt" });
      return dx;
    },
  };
}
