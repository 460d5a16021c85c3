/**
 * The Switch layer: SwiGLU experts, of which a token uses the most probable one, times its probability.
 *
 * @module
 */

import type { FfnSection } from "../../section.ts";
import { type FeedForwardInput, need } from "../layer.ts";
import type { Weights } from "../matrix.ts";
import { dense } from "./dense.ts";
import { mixture, type MixturePass, partOf } from "./mixture.ts";

/** The layer over the rows of `x`. */
export function switchLayer(
  section: Extract<FfnSection, { kind: "switch" }>,
  weights: Weights<string>,
  input: FeedForwardInput,
): MixturePass {
  const { num_experts: experts, d_expert, load_balance_coef } = section;
  const named = need(weights, ["w_gate", "w_up", "w_down"]);
  return mixture({ experts, top_k: 1, weight: "probability", load_balance_coef }, weights, {
    ...input,
    expert: (e, x) => {
      const own = Object.fromEntries(
        Object.entries(named).map(([name, values]) => [name, partOf(values, e, experts)]),
      );
      return dense({ d_ffn: d_expert }, own, { x });
    },
  });
}
