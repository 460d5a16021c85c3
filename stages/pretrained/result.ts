/**
 * The output `model` of a dense model: a schema for those who read it.
 *
 * @module
 */

import { z } from "zod";

/** The `model` output. */
export const denseModelSchema = z.object({
  name: z.string().describe("as the configuration names it"),
  commit: z.string().nullable().describe("of a model of the hub"),
  family: z.string().describe("model_type of its config.json"),
  files: z.array(z.object({
    path: z.string(),
    bytes: z.int().min(0),
    sha256: z.string(),
    published: z.boolean().describe("false where the file stays in its own folder"),
  })).describe("all files that the model is made of, sorted"),
  blocks: z.int(),
  d_model: z.int(),
  d_ffn: z.int(),
  vocab_size: z.int(),
  positions: z.int().nullable().describe("tokens of its longest sequence; null where nothing says"),
  parameters: z.int(),
  mlp_parameters: z.int().describe("of the matrices that can be expanded"),
});

/** A dense model. */
export type DenseModelResult = z.infer<typeof denseModelSchema>;
