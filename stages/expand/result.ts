/**
 * The outputs of `expand`: schemas for those who read them.
 *
 * @module
 */

import { z } from "zod";

/** Name of the output that holds the expanded model. */
export const EXPANDED_OUTPUT = "expanded";

const layer = z.object({
  outputs: z.int(),
  losses: z.array(z.number())
    .describe("of each expert: estimated mean squared error of a row's outputs, summed over them"),
  kept: z.array(z.int()).describe("positions that each expert keeps"),
});

const site = z.object({
  inputs: z.int(),
  inertia: z.number().describe("sum of the squared distances of k-means; 0 of one cluster"),
  sizes: z.array(z.int()).describe("calibration rows of each cluster"),
  dampings: z.array(z.int())
    .describe("how often the damping was added to each cluster's Hessian; 1 is enough mostly"),
  layers: z.record(z.string(), layer).describe("by gate, up, down"),
  stored_bits: z.number().describe("experts, grids and router, 16 bits a value not quantised"),
  dense_bits: z.number().describe("the dense matrices, 16 bits a value"),
  multiply_adds: z.number().describe("for a token, the router's among them: mean over experts"),
  dense_multiply_adds: z.number(),
});

/** The `expansion` output: a block of the model after another, each with its two sites. */
export const expansionSchema = z.object({
  blocks: z.array(z.object({ in: site, mid: site })),
  stored_bits: z.number().describe("sums over all blocks, as the next three"),
  dense_bits: z.number(),
  multiply_adds: z.number(),
  dense_multiply_adds: z.number(),
});

/** An expanded model. */
export type ExpansionResult = z.infer<typeof expansionSchema>;

/** A site of an expanded block. */
export type SiteResult = z.infer<typeof site>;

/** The `timings` output, which is measured. */
export const expandTimingsSchema = z.object({
  seconds: z.number().describe("of this attempt: blocks that an earlier one left are not in it"),
  blocks: z.int().describe("that this attempt expanded"),
  peak_bytes: z.number().describe("most bytes that the device's tensors had at once"),
});

/** The time and memory of an expansion. */
export type ExpandTimings = z.infer<typeof expandTimingsSchema>;
