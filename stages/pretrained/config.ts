/**
 * The section `model` of an experiment with a published model: where the model is, or how a small one is made.
 *
 * @module
 */

import { z } from "zod";
import { trainSchema } from "../../model/training/config.ts";

/** The largest part of the embedded text that a model is made of: the rest is there to measure it on. */
const MOST_BYTES = 16e6;

const madeSchema = z.strictObject({
  d_model: z.int().min(8).max(1024).multipleOf(4).default(64)
    .describe("width of the residual stream"),
  num_layers: z.int().min(1).max(64).default(3).describe("layers"),
  num_heads: z.int().min(1).max(64).default(4).describe("attention heads"),
  d_ffn: z.int().min(8).max(8192).multipleOf(4).default(172).describe("width of the MLPs"),
  max_bytes: z.int().min(200_000).max(MOST_BYTES).default(2_000_000)
    .describe("bytes of the embedded text that it learns from"),
  train: trainSchema.describe("how it is trained"),
});

/** The section `model.made`, validated. */
export type MadeSection = z.infer<typeof madeSchema>;

/** Schema of the section `model`: `name` of a published model, or `made`. */
export const publishedModelSchema = z.strictObject({
  name: z.string().min(1).max(4096).optional()
    .describe("folder of a published model, or ORG/NAME on the hub"),
  revision: z.string().min(1).max(250).optional()
    .describe("branch, tag or commit on the hub; main unless given"),
  made: madeSchema.optional()
    .describe("a small Llama of single bytes that is trained here on embedded English"),
}).superRefine(({ name, revision, made }, context) => {
  const issue = (path: string[], message: string, input: unknown) =>
    context.addIssue({ code: "custom", path, message, input });
  if ((name === undefined) === (made === undefined)) {
    const message = name === undefined
      ? "expected name, a folder or a name of the hub, or made, a small model that is trained here"
      : "name and made say two models; give one of them";
    issue(name === undefined ? [] : ["made"], message, made);
  }
  if (revision !== undefined && name === undefined) {
    issue(["revision"], "has no effect without name; remove it", revision);
  }
  if (made === undefined) return;
  const { d_model, num_heads } = made;
  if (d_model % num_heads !== 0 || d_model / num_heads % 4 !== 0) {
    const message = `${num_heads} heads of a width of ${d_model} are ${
      d_model / num_heads
    } wide; expected a multiple of 4`;
    issue(["made", "num_heads"], message, num_heads);
  }
  if (made.train.initial !== undefined) {
    issue(["made", "train", "initial"], "a made model starts from random weights; remove it", null);
  }
  if (made.train.extend !== undefined) {
    const message =
      `${made.train.extend} extends a training that is finished, which a made model's is not; raise steps`;
    issue(["made", "train", "extend"], message, made.train.extend);
  }
});

/** The section `model`, validated. */
export type PublishedModelSection = z.infer<typeof publishedModelSchema>;
