/**
 * The `report` section. A file of its own, so that the stage's code closure holds no other stage.
 *
 * @module
 */

import { z } from "zod";

/** Schema of the `report` section. */
export const reportSchema = z.strictObject({
  title: z.string().min(1).max(200).default("ETHOS, reproduced").describe("title of the report"),
  gpu_hour_price: z.number().gt(0).max(1e6).optional()
    .describe("US dollars that an hour of the GPU is assumed to cost; no costs unless given"),
  latent_tolerance: z.number().gt(0).max(10).default(0.02)
    .describe("nats above the limit of a wide latent code at which a width counts as sufficient"),
  pdf: z.boolean().default(true).describe("whether report.pdf is written"),
  png_scale: z.number().min(1).max(8).default(2).describe("pixels a unit in the PNG figures"),
});

/** The `report` section, validated. */
export type ReportSection = z.infer<typeof reportSchema>;
