/**
 * The sections `calibration` and `evaluation`: the texts that a model is expanded for, and those that it is measured on. A file of its own, so that
 * the stage's code closure holds no other stage.
 *
 * @module
 */

import { z } from "zod";
import { encoding } from "../download/sources/text_fields.ts";

/** Texts that windows are taken from. */
export const DATASETS = ["wikitext2", "c4", "files", "embedded"] as const;

/** One of {@linkcode DATASETS}. */
export type Dataset = typeof DATASETS[number];

/** Tokens of a window at most, where neither the configuration nor the model says less. */
export const LONGEST_WINDOW = 4096;

const filesSchema = z.strictObject({
  glob: z.string().min(1, "glob must not be empty").describe(
    "local files, a path or a pattern; for wikitext2 and c4 those of the hub, kept locally",
  ),
  text_field: z.string().min(1).default("text")
    .describe("key of the text in JSON, column in Parquet"),
  encoding: encoding.optional(),
  fingerprint: z.string().regex(/^[0-9a-f]{64}$/).optional()
    .describe("digest of names and contents, which an experiment finds out by itself"),
});

/** Local files, validated. */
export type TextFiles = z.infer<typeof filesSchema>;

const dataset = z.enum(DATASETS).default("wikitext2").describe(
  "wikitext2 and c4 of the hub, files of your own, or the English that comes with packages",
);

const length = z.int().min(2).max(131072).optional()
  .describe("tokens of a window; the model's longest sequence unless given, at most 4096");

/** A section about a text. */
interface TextSection {
  readonly dataset: Dataset;
  readonly files?: TextFiles | undefined;
}

function checkFiles({ dataset, files }: TextSection, context: z.core.$RefinementCtx): void {
  const issue = (message: string) =>
    context.addIssue({ code: "custom", path: ["files"], message, input: files });
  if (dataset === "files" && !files) {
    issue("dataset: files needs files.glob, as files: { glob: text/*.txt }");
  }
  if (dataset === "embedded" && files) issue("has no effect with dataset: embedded; remove it");
}

const calibrationFields = {
  dataset,
  files: filesSchema.optional(),
  samples: z.int().min(1).max(65536).default(128).describe("windows"),
  length,
};

/** Schema of the part of the section `calibration` that says which windows of which text. */
export const calibrationTextSchema = z.strictObject(calibrationFields).superRefine(checkFiles);

/** Schema of the section `calibration`. */
export const calibrationSchema = z.strictObject({
  ...calibrationFields,
  seed: z.int().min(0).max(2 ** 31 - 1).optional()
    .describe("of the windows; the experiment's unless given"),
}).superRefine(checkFiles);

/** The section `calibration`, validated. */
export type CalibrationSection = z.infer<typeof calibrationSchema>;

const evaluationFields = {
  dataset,
  files: filesSchema.optional(),
  windows: z.int().min(1).max(1e6).optional()
    .describe("windows at most, from the start of the text; for c4 256 unless given"),
  length,
};

/** Schema of the part of the section `evaluation` that says which text it is. */
export const evaluationTextSchema = z.strictObject(evaluationFields).superRefine(checkFiles);

/** The text that a model is measured on, validated. */
export type EvaluationTextSection = z.infer<typeof evaluationTextSchema>;

/** Schema of the section `evaluation`. */
export const evaluationSchema = z.strictObject({
  ...evaluationFields,
  micro_batch: z.int().min(1).max(65536).default(1).describe("windows scored at once"),
}).superRefine(checkFiles);

/** The section `evaluation`, validated. */
export type EvaluationSection = z.infer<typeof evaluationSchema>;
