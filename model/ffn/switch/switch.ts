/**
 * The Switch layer: `y = residual + p_e · (silu(x W_gate[e]) ⊙ (x W_up[e])) W_down[e]`, `p = softmax(x W_g)`, e its largest.
 *
 * @module
 */

import type { Tensor } from "../../gpu/tensor.ts";
import type { LayerContext } from "../../layer/context.ts";
import type { LayerInput } from "../../layer/kind.ts";
import { swigluBackward, swigluForward } from "../../ops/elementwise/swiglu.ts";
import { gemmGrouped, gemmGroupedSums } from "../../ops/gemm/gemm_grouped.ts";
import { type Experts, mixtureForward, type MixturePass } from "../mixture/mixture.ts";
import type { MixtureSection } from "../mixture/schema.ts";

/**
 * Records the layer.
 *
 * @param at Prefix of the weights' names: `layers.3.ffn`.
 * @param input `given` u32 `[T, 1]`: experts to keep instead of choosing them.
 */
export function switchForward(
  context: LayerContext,
  at: string,
  input: LayerInput & { readonly section: MixtureSection; readonly given?: Tensor },
): MixturePass {
  const { section, ...rest } = input;
  const { num_experts, load_balance_coef } = section;
  return mixtureForward(context, at, {
    ...rest,
    mixture: { experts: num_experts, top_k: 1, weight: "probability", load_balance_coef },
    experts: swigluExperts(context, at, section),
  });
}

/** SwiGLU experts. */
function swigluExperts(
  context: LayerContext,
  at: string,
  { d_expert }: MixtureSection,
): Experts {
  const { plan } = context;
  const weights = (name: string) => context.weightParts(`${at}.${name}`);
  return {
    forward(x, { groups }) {
      const hidden = (name: string) => context.operand(`${at}.${name}`, groups.rows, d_expert);
      const [gate, up, h] = [hidden("gate"), hidden("up"), hidden("h")];
      const out = context.operand(`${at}.out`, groups.rows, x.width);
      const product = (label: string, a: Tensor, b: string, c: Tensor) =>
        gemmGrouped(plan, `${at}.${label}`, { a, b: weights(b), c, layout: "nn", groups });
      product("gate", x, "w_gate", gate);
      product("up", x, "w_up", up);
      swigluForward(plan, `${at}.activation`, { gate, up, h });
      product("down", h, "w_down", out);
      return {
        out,
        backward(dout) {
          const [dh, dgate, dup] = [hidden("dh"), hidden("dgate"), hidden("dup")];
          const dx = context.activation(`${at}.drows`, groups.rows, x.width);
          const gradient = (name: string, a: Tensor, b: Tensor) =>
            gemmGroupedSums(plan, `${at}.d${name}`, {
              a,
              b,
              c: context.gradientParts(`${at}.${name}`),
              groups,
            });
          const back = (
            label: string,
            { a, b, c, epilogue = "none" }: {
              a: Tensor;
              b: string;
              c: Tensor;
              epilogue?: "none" | "accumulate";
            },
          ) =>
            gemmGrouped(plan, `${at}.${label}`, {
              a,
              b: weights(b),
              c,
              layout: "nt",
              groups,
              epilogue,
            });
          back("dh", { a: dout, b: "w_down", c: dh });
          gradient("w_down", h, dout);
          swigluBackward(plan, `${at}.dactivation`, { gate, up, dh, dgate, dup });
          gradient("w_gate", x, dgate);
          gradient("w_up", x, dup);
          back("dx_gate", { a: dgate, b: "w_gate", c: dx });
          back("dx_up", { a: dup, b: "w_up", c: dx, epilogue: "accumulate" });
          return dx;
        },
      };
    },
  };
}
