/**
 * The Switch layer, as a kind of feed-forward layer: SwiGLU experts, of which a token uses the most probable one.
 *
 * @module
 */

import { z } from "zod";
import type { FeedForward, Kind, TrunkSizes } from "../../layer/kind.ts";
import { type ParameterSpec, residualStd, weight } from "../../layer/parameter.ts";
import { mixtureProblems } from "../mixture/mixture.ts";
import { loadBalanceField, mixtureFields } from "../mixture/schema.ts";
import { switchForward } from "./switch.ts";

const schema = z.strictObject({
  kind: z.literal("switch"),
  ...mixtureFields,
  load_balance_coef: loadBalanceField(0.01),
});

/** Sizes of the layer. */
export type SwitchSection = Readonly<z.infer<typeof schema>>;

function parameters(section: SwitchSection, trunk: TrunkSizes, at: string): ParameterSpec[] {
  const { num_experts, d_expert } = section;
  const { d_model } = trunk;
  const role = "experts";
  return [
    weight(`${at}.w_g`, [d_model, num_experts], { role: "gate" }),
    weight(`${at}.w_gate`, [num_experts, d_model, d_expert], { role }),
    weight(`${at}.w_up`, [num_experts, d_model, d_expert], { role }),
    weight(`${at}.w_down`, [num_experts, d_expert, d_model], { role, std: residualStd(trunk) }),
  ];
}

/** The Switch layer. */
export const kind: Kind<SwitchSection, FeedForward> = {
  schema,
  runtime: {},
  create(section, trunk) {
    const gate = trunk.d_model * section.num_experts;
    const expert = 3 * trunk.d_model * section.d_expert;
    return {
      parameters: (at) => parameters(section, trunk, at),
      statistics: () => [],
      counts: { active: gate + expert, theoretical: gate + section.num_experts * expert },
      flops: () => ({ gate: 2 * gate, experts: 2 * expert }),
      problems: (tokens) => mixtureProblems({ top_k: 1 }, tokens),
      // A token gets its expert's output times the gate's probability, so copies do not give the dense model's numbers.
      upcycled: {
        experts: section.num_experts,
        activation: "swiglu",
        d_ffn: section.d_expert,
        copies: { w_gate: "w_gate", w_up: "w_up", w_down: "w_down" },
      },
      forward: (context, at, input) => switchForward(context, at, { ...input, section }),
    };
  },
};
