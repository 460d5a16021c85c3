/**
 * The top-k mixture of experts: `y = residual + Σ_j w_j · (drop(gelu(x W1[e_j] + b1[e_j])) W2[e_j] + b2[e_j])`, w the softmax over the kept logits.
 *
 * Rows are sorted by expert, so an expert's dropout takes the row of its mask from the token and the place j of the expert among those that it keeps.
 *
 * @module
 */

import type { Tensor } from "../../gpu/tensor.ts";
import type { LayerContext } from "../../layer/context.ts";
import type { LayerInput } from "../../layer/kind.ts";
import { dropoutRows } from "../../ops/dropout/dropout.ts";
import { gemmGrouped, gemmGroupedSums } from "../../ops/gemm/gemm_grouped.ts";
import { biasedGelu, biasedGeluBackward, groupSums } from "../../ops/mixture/rows.ts";
import { type Experts, mixtureForward, type MixturePass } from "../mixture/mixture.ts";
import type { TopkMoeSection } from "./schema.ts";

/**
 * Records the layer.
 *
 * @param at Prefix of the weights' names: `layers.3.ffn`.
 * @param input `given` u32 `[T, k]`: experts to keep instead of choosing them; E stands for none.
 */
export function topkMoeForward(
  context: LayerContext,
  at: string,
  input: LayerInput & { readonly section: TopkMoeSection; readonly given?: Tensor },
): MixturePass {
  const { section, ...rest } = input;
  const { num_experts, top_k, load_balance_coef, top_p } = section;
  return mixtureForward(context, at, {
    ...rest,
    mixture: { experts: num_experts, top_k, weight: "softmax", top_p, load_balance_coef },
    experts: geluExperts(context, at, section),
  });
}

/** Experts of two matrices with gelu between them. */
function geluExperts(
  context: LayerContext,
  at: string,
  { d_expert, biases, gelu, expert_dropout }: TopkMoeSection,
): Experts {
  const { plan } = context;
  const weights = (name: string) => context.weightParts(`${at}.${name}`);
  const bias = (name: string) => biases ? context.vector(`${at}.${name}`) : undefined;
  return {
    bias: bias("b2"),
    forward(x, segments) {
      const { groups } = segments;
      const hidden = (name: string) => context.operand(`${at}.${name}`, groups.rows, d_expert);
      const [before, h] = [hidden("before"), hidden("h")];
      const out = context.operand(`${at}.out`, groups.rows, x.width);
      const product = { layout: "nn", groups } as const;
      gemmGrouped(plan, `${at}.up`, { ...product, a: x, b: weights("w1"), c: before });
      const activation = { groups, gelu, x: before, bias: bias("b1") };
      biasedGelu(plan, `${at}.activation`, { ...activation, h });
      const dropout = context.dropout(`${at}.hidden`, expert_dropout);
      const drop = (label: string, rows: Tensor) => {
        if (!dropout) return;
        dropoutRows(plan, label, { x: rows, y: rows, dropout, numbers: segments.source });
      };
      drop(`${at}.dropout`, h);
      gemmGrouped(plan, `${at}.down`, { ...product, a: h, b: weights("w2"), c: out });
      return {
        out,
        backward(dout) {
          const [dh, dbefore] = [hidden("dh"), hidden("dbefore")];
          const dx = context.activation(`${at}.drows`, groups.rows, x.width);
          const back = { layout: "nt", groups } as const;
          const gradient = (name: string, a: Tensor, b: Tensor) =>
            gemmGroupedSums(plan, `${at}.d${name}`, {
              a,
              b,
              c: context.gradientParts(`${at}.${name}`),
              groups,
            });
          const biasGradient = (name: string, rows: Tensor) => {
            if (!biases) return;
            const target = context.gradient(`${at}.${name}`);
            groupSums(plan, `${at}.d${name}`, { segments, rows, target });
          };
          gemmGrouped(plan, `${at}.dh`, { ...back, a: dout, b: weights("w2"), c: dh });
          gradient("w2", h, dout);
          biasGradient("b2", dout);
          drop(`${at}.dh_dropout`, dh);
          biasedGeluBackward(plan, `${at}.dactivation`, { ...activation, dh, dx: dbefore });
          gradient("w1", x, dbefore);
          biasGradient("b1", dbefore);
          gemmGrouped(plan, `${at}.drows`, { ...back, a: dbefore, b: weights("w1"), c: dx });
          return dx;
        },
      };
    },
  };
}
