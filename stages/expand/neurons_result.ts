/**
 * The output `neurons` of `expand`: how far neurons are from a Gaussian. A schema for those who read it; `model/sparse/entanglement` measures them.
 *
 * @module
 */

import { z } from "zod";

const distances = z.array(z.number());
const counts = z.array(z.int());

const layer = z.object({
  site: z.enum(["in", "mid"]),
  layer: z.string().describe("gate, up or down"),
  neurons: z.array(z.int()).describe("numbers of the measured neurons"),
  rows: counts.describe("calibration rows that were measured, by cluster"),
  dense: distances.describe("Wasserstein-1 distance of each neuron's dense outputs over all rows"),
  split: distances.describe("dense, within random parts as large as the clusters"),
  clustered: distances.describe("dense, within the clusters"),
  expert: distances.describe("of each cluster's expert, within the clusters"),
  histograms: z.array(z.object({ neuron: z.int(), dense: counts, expert: counts }))
    .describe("of standardised outputs; the least Gaussian neurons first"),
});

/** The `neurons` output: the layers of a block after those of another. */
export const neuronsSchema = z.object({
  bins: z.object({ reach: z.number(), bins: z.int() })
    .describe("bins of a histogram, from −reach to reach standard deviations"),
  blocks: z.array(z.object({ layers: z.array(layer) })),
});

/** The neurons of an expanded model. */
export type NeuronsResult = z.infer<typeof neuronsSchema>;
