/**
 * The output of `evaluate`: a schema for those who read it.
 *
 * @module
 */

import { z } from "zod";

const layerEvaluation = z.object({
  layer: z.int(),
  expert_usage: z.number().describe("fraction of experts that were kept at least once, 0 to 1"),
  expert_unevenness: z.number().describe("divergence of their use from an even one, nats"),
  expert_gini: z.number().describe("Gini coefficient of how often each was kept: 0 is even"),
  experts: z.int().exactOptional()
    .describe(
      "experts that are counted, or rows of a router's tables; left out by earlier versions",
    ),
  experts_per_token: z.number().exactOptional()
    .describe("experts that a token keeps in the mean; left out by earlier versions"),
  hottest: z.array(z.object({
    expert: z.int(),
    share: z.number().describe("part of all choices, 0 to 1"),
  })).exactOptional()
    .describe("the most used experts, at most 8; left out by earlier versions"),
  routing_histogram: z.array(z.number()).describe(
    "how often experts were kept, the most used first",
  ),
});

/** The `evaluation` output. */
export const evaluationSchema = z.object({
  split: z.enum(["train", "validation"]),
  tokens: z.int().describe("predictions, the tokens between documents among them"),
  bytes: z.int().describe("UTF-8 bytes of the text that they spell"),
  nats: z.number().describe("mean cross-entropy of a token"),
  perplexity: z.number().nullable().describe("null above 709.78 nats, where float64 ends"),
  bits_per_byte: z.number().nullable().describe("null when the tokens spell no text"),
  expert_usage: z.number().exactOptional()
    .describe("mean over the layers, as the next two; left out for a model without experts"),
  expert_unevenness: z.number().exactOptional(),
  expert_gini: z.number().exactOptional(),
  layers: z.array(layerEvaluation).describe("layers with experts"),
});

/** A model measured on a text. */
export type Evaluation = Omit<z.infer<typeof evaluationSchema>, "split">;
