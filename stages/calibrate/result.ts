/**
 * The output `texts` of `calibrate`: a schema for those who read it.
 *
 * @module
 */

import { z } from "zod";

const text = z.object({
  dataset: z.enum(["wikitext2", "c4", "files", "embedded"]),
  files: z.array(z.object({ path: z.string(), sha256: z.string().nullable() }))
    .describe("files that were read; a digest where the whole file was"),
  revision: z.string().nullable().describe("commit of a dataset of the hub"),
  documents: z.int().describe("rows or documents that were read"),
  bytes: z.int().describe("UTF-8 bytes of the text"),
  tokens: z.int().describe("tokens of the text, its beginning mark among them"),
  windows: z.int().describe("windows that were taken"),
  length: z.int().describe("tokens of a window"),
});

/** The `texts` output. */
export const textsSchema = z.object({
  calibration: text.extend({
    starts: z.array(z.int())
      .describe("first token of each window: of the text, or for c4 of its document"),
  }),
  evaluation: text,
});

/** The windows that a model is expanded for, and those that it is measured on. */
export type TextsResult = z.infer<typeof textsSchema>;
