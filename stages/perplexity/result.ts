/**
 * The outputs of `perplexity`, and the labels of its nodes: schemas for those who read them.
 *
 * @module
 */

import { z } from "zod";

/** The `perplexity` output. */
export const perplexitySchema = z.object({
  nats: z.number().describe("mean over the windows of each one's mean cross-entropy"),
  perplexity: z.number().nullable().describe("exp(nats); null above 709.78 nats"),
  predictions: z.int(),
  windows: z.int(),
  losses: z.array(z.number())
    .describe("mean cross-entropy of each window, in their order: cells are paired by them"),
  mlp: z.object({
    stored_bits: z.number().describe("matrices and routers of all MLPs, 16 bits a plain value"),
    multiply_adds: z.number().describe("of all MLPs for a token, the routers' among them"),
    stored_weights: z.number().describe("positions that are kept, of all experts together"),
  }).describe("of this cell; of the dense matrices for the cell `dense`"),
});

/** A model measured on the evaluation windows. */
export type PerplexityResult = z.infer<typeof perplexitySchema>;

/** The `timings` output, which is measured. */
export const perplexityTimingsSchema = z.object({
  seconds: z.number(),
  tokens_per_second: z.number(),
  peak_bytes: z.number().describe(
    "most bytes that the device's tensors had at once, weights among them",
  ),
});

/** The speed of a measurement, and its memory. */
export type PerplexityTimings = z.infer<typeof perplexityTimingsSchema>;

/** Labels of the nodes `expand[cell]` and `perplexity[cell]`. */
export const cellLabelsSchema = z.object({
  cell: z.string().describe("name of the cell; dense for the model as it came"),
  dense: z.boolean(),
  sparsity: z.number().nullable().describe("part of the weights that is pruned, of a pattern too"),
  pattern: z.string().nullable().describe("N:M"),
  bits: z.int().nullable(),
  clusters: z.int().nullable(),
  method: z.string().nullable().describe("how weights are chosen: sparsegpt, magnitude"),
  control: z.string().nullable()
    .describe("part of the method that is taken away: rows, random, matched; null for none"),
  of: z.string().nullable().describe("cell that it is a control of"),
});

/** Labels of a cell. */
export type CellLabels = z.infer<typeof cellLabelsSchema>;
