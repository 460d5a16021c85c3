/**
 * The outputs of `ablate`: schemas for those who read it.
 *
 * @module
 */

import { z } from "zod";
import { pairedSummarySchema, summarySchema } from "./statistics.ts";

/** A value as it is named: in a grid, all values of a combination together. */
export const factorValue = z.union([z.number(), z.boolean(), z.string()]);

/** The `ablation` output: what is a function of the runs' keys. */
export const ablationSchema = z.object({
  confidence: z.number(),
  base: z.string().describe("name of the base cell"),
  cells: z.array(z.object({
    name: z.string(),
    base: z.boolean(),
    factors: z.record(z.string(), factorValue),
    seeds: z.array(z.int()),
    metrics: z.record(z.string(), summarySchema)
      .describe("every number of `evaluation` over the seeds: nats, perplexity, bits_per_byte"),
  })),
  factors: z.array(z.object({
    name: z.string(),
    title: z.string(),
    values: z.array(z.object({
      value: factorValue,
      cell: z.string(),
      base: z.boolean(),
      difference: z.record(z.string(), pairedSummarySchema).nullable()
        .describe("cell minus base, by metric, over the seeds that both have; null for the base"),
    })),
  })),
});

/** The `ablation` output. */
export type Ablation = z.infer<typeof ablationSchema>;

/** The `measured` output: over the seeds of a cell, the speed and the memory of its trainings. */
export const measuredSchema = z.array(
  summarySchema.extend({
    cell: z.string(),
    quantity: z.enum(["tokens_per_second", "memory_bytes"]),
  }),
);

/** One row of the `measured` output. */
export type MeasuredRow = z.infer<typeof measuredSchema>[number];
