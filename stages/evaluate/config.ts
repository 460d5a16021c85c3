/**
 * The `evaluate` section: how a trained model is measured on held-out text. A file of its own, so that the stage's code
 * closure holds no other stage.
 *
 * @module
 */

import { z } from "zod";

/** Schema of the `evaluate` section. */
export const evaluateSchema = z.strictObject({
  split: z.enum(["validation", "train"]).default("validation").describe("which split is read"),
  tokens: z.int().min(1).max(1e11).default(1_000_000)
    .describe("predictions that are scored, from the start of the split; less when it is shorter"),
  micro_batch: z.int().min(1).max(65536).default(8).describe("sequences scored at once"),
});

/** The `evaluate` section, validated. */
export type EvaluateSection = z.infer<typeof evaluateSchema>;
