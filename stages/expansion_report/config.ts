/**
 * The `report` section of an experiment of Sparse Expansion. A file of its own, so that the stage's code closure holds no other stage.
 *
 * @module
 */

import { z } from "zod";

/** Schema of the section. */
export const expansionReportSchema = z.strictObject({
  title: z.string().min(1).max(200).default("Sparse Expansion").describe("title of the report"),
  pdf: z.boolean().default(true).describe("whether report.pdf is written"),
  png_scale: z.number().min(1).max(8).default(2).describe("pixels a unit in the PNG figures"),
});

/** The section, validated. */
export type ExpansionReportSection = z.infer<typeof expansionReportSchema>;
