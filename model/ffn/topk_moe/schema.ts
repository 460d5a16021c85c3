/**
 * The section `model.ffn` of the top-k mixture of experts.
 *
 * @module
 */

import { z } from "zod";
import { count } from "../../layer/fields.ts";
import { loadBalanceField, mixtureFields } from "../mixture/schema.ts";

/** Schema of the section. */
export const topkMoeSchema = z.strictObject({
  kind: z.literal("topk_moe"),
  ...mixtureFields,
  top_k: count("experts kept by a token, k; with choice top_p the most of them", 64).default(2),
  biases: z.boolean().default(true).describe("biases b1 and b2 of each expert"),
  gelu: z.enum(["tanh", "exact"]).default("tanh")
    .describe("form of the activation: with tanh, or exact with the error function"),
  load_balance_coef: loadBalanceField(0),
  expert_dropout: z.number().min(0).lt(1).default(0)
    .describe("share of an expert's hidden numbers that training drops"),
  choice: z.enum(["top_k", "top_p"]).default("top_k").describe(
    "experts of a token: always k, or as many of the k best as their probabilities take to come to top_p",
  ),
  top_p: z.number().gt(0).max(1).optional()
    .describe("sum of probabilities that choice top_p keeps experts for"),
  expert_init: z.enum(["normal", "fan_in", "published"]).default("normal").describe(
    "initial experts and gate: normal as other matrices, uniform by a linear layer's fan-in, or uniform with experts by D·F as the published sparse transformer has them",
  ),
}).superRefine((section, context) => {
  const issue = (key: "top_k" | "top_p", message: string) =>
    context.addIssue({ code: "custom", path: [key], message, input: section[key] });
  const { num_experts, top_k, choice, top_p } = section;
  // A number of experts that cannot be is answered by itself.
  if (num_experts >= 1 && top_k > num_experts) {
    issue("top_k", `${top_k} is more than num_experts ${num_experts}; at most ${num_experts}`);
  }
  if (choice === "top_p" && top_p === undefined) {
    issue("top_p", "choice top_p needs it: a number above 0, at most 1");
  }
  if (choice === "top_k" && top_p !== undefined) {
    issue("top_p", `${top_p} means nothing with choice top_k; leave it out, or set choice: top_p`);
  }
});

/** Sizes of the layer. */
export type TopkMoeSection = Readonly<z.infer<typeof topkMoeSchema>>;
