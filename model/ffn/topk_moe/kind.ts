/**
 * The top-k mixture of experts, as a kind of feed-forward layer: GELU experts, of which a token uses the k best.
 *
 * @module
 */

import type { FeedForward, Kind, TrunkSizes } from "../../layer/kind.ts";
import {
  type ParameterSpec,
  residualStd,
  uniformWeight,
  weight,
  zeros,
} from "../../layer/parameter.ts";
import { mixtureProblems } from "../mixture/mixture.ts";
import { topkMoeSchema, type TopkMoeSection } from "./schema.ts";
import { topkMoeForward } from "./topk_moe.ts";

function parameters(section: TopkMoeSection, trunk: TrunkSizes, at: string): ParameterSpec[] {
  const { num_experts, d_expert, biases, expert_init } = section;
  const { d_model } = trunk;
  const role = "experts";
  /** A matrix by what a number of its output sums over, D or F; torch takes a stack of matrices to sum over both. */
  const expert = (name: string, shape: [number, number], std?: number) =>
    expert_init === "normal"
      ? weight(`${at}.${name}`, [num_experts, ...shape], { role, ...(std && { std }) })
      : uniformWeight(`${at}.${name}`, [num_experts, ...shape], {
        role,
        bound: 1 / Math.sqrt(expert_init === "fan_in" ? shape[0] : shape[0] * shape[1]),
      });
  const bias = (name: string, width: number): ParameterSpec[] =>
    biases
      ? [{
        name: `${at}.${name}`,
        shape: [num_experts, width],
        role,
        init: zeros,
        decay: false,
        held: false,
      }]
      : [];
  const gate = [d_model, num_experts];
  return [
    expert_init === "normal"
      ? weight(`${at}.w_g`, gate, { role: "gate" })
      : uniformWeight(`${at}.w_g`, gate, { role: "gate", bound: 1 / Math.sqrt(d_model) }),
    expert("w1", [d_model, d_expert]),
    ...bias("b1", d_expert),
    expert("w2", [d_expert, d_model], residualStd(trunk)),
    ...bias("b2", d_model),
  ];
}

/** The top-k mixture of experts. */
export const kind: Kind<TopkMoeSection, FeedForward> = {
  schema: topkMoeSchema,
  runtime: {},
  create(section, trunk) {
    const { num_experts, top_k, d_expert, biases, gelu, expert_init } = section;
    const gate = trunk.d_model * num_experts;
    const product = 2 * trunk.d_model * d_expert;
    const expert = product + (biases ? d_expert + trunk.d_model : 0);
    return {
      parameters: (at) => parameters(section, trunk, at),
      statistics: () => [],
      counts: { active: gate + top_k * expert, theoretical: gate + num_experts * expert },
      flops: () => ({ gate: 2 * gate, experts: 2 * top_k * product }),
      problems: (tokens) => mixtureProblems(section, tokens),
      dense: {
        kind: "dense",
        d_ffn: top_k * d_expert,
        activation: gelu === "exact" ? "gelu_exact" : "gelu",
        ...(expert_init !== "normal" && { weight_init: "fan_in" }),
      },
      upcycled: {
        experts: num_experts,
        activation: gelu === "exact" ? "gelu_exact" : "gelu",
        d_ffn: d_expert,
        copies: { w1: "w_up", w2: "w_down", ...(biases && { b1: "b_up", b2: "b_down" }) },
      },
      forward: (context, at, input) => topkMoeForward(context, at, { ...input, section }),
    };
  },
};
