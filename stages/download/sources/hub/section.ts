/**
 * The sections `data.c4` and `data.hub`.
 *
 * @module
 */

import { z } from "zod";
import { encoding, separator } from "../text_fields.ts";

/** Commit of `allenai/c4` that the project was written against. */
export const C4_REVISION = "1588ec454efa1a09f29cd18ddd04fe05fc8653a2";

const repository = z.string().regex(/^[\w-][\w.-]*\/[\w-][\w.-]*$/, {
  error: (issue) => `"${issue.input}" is not a dataset's name; expected owner/name, as allenai/c4`,
});
const FOLDER = /^(?!\.)[\w.-]+$/;
const folder = z.string().regex(FOLDER, {
  error: (issue) => `"${issue.input}" is not a folder's name; expected one such as en`,
});
const folders = z.string().refine((path) => path.split("/").every((part) => FOLDER.test(part)), {
  error: (issue) =>
    `${
      JSON.stringify(issue.input)
    } is not a folder of a dataset; expected one such as data or en/v1`,
});
/** Whether git takes a name for a commit, a branch, a tag or another reference (git-check-ref-format). */
function isRevision(name: string): boolean {
  return name.length <= 250 && name !== "@" && !name.startsWith("-") &&
    !/[\p{C}\p{Z}~^:?*[\\]|\.\.|@\{|\.$/u.test(name) &&
    name.split("/").every((part) => /^[^.]/u.test(part) && !part.endsWith(".lock"));
}

const revision = z.string().refine(isRevision, {
  error: (issue) =>
    `${
      JSON.stringify(issue.input)
    } is not a revision; expected a commit, a branch, a tag or a reference such as refs/pr/1`,
});
const fraction = z.number().gt(0, "fraction must be more than 0").max(1, "fraction is at most 1")
  .optional().describe("share of the shards, from the first on; rounded, at least one");
const shards = z.array(z.int().min(0)).min(1, "shards must name at least one shard").optional()
  .describe("which shards, counted from 0");

/** Which of the shards to take. */
interface Choice {
  readonly fraction?: number | undefined;
  readonly shards?: readonly number[] | undefined;
}

/** Refuses a choice that contradicts itself. */
function checkChoice(choice: Choice, context: z.core.$RefinementCtx): void {
  const issue = (message: string) =>
    context.addIssue({ code: "custom", path: ["shards"], message, input: choice.shards });
  if (choice.fraction !== undefined && choice.shards !== undefined) {
    issue("fraction and shards say the same thing twice; give one of them");
  }
  if (choice.shards && new Set(choice.shards).size < choice.shards.length) {
    issue(`${choice.shards.join(", ")} names a shard twice`);
  }
}

/** Schema of the section `data.c4`, a preset of `data.hub` whose shards are published as they are. */
export const c4Schema = z.strictObject({
  dataset: repository.default("allenai/c4").describe("dataset on the hub"),
  config: folder.default("en").describe("folder of the dataset that has the shards"),
  revision: revision.default(C4_REVISION).describe("commit; a branch is not reproducible"),
  files: z.string().min(1).default("c4-train.*.json.gz")
    .describe("names of the shards within the folder; * stands for anything"),
  fraction,
  shards,
}).superRefine(checkChoice);

/** The section `data.c4`, validated. */
export type C4Section = z.infer<typeof c4Schema>;

/** Schema of the section `data.hub`. */
export const hubSchema = z.strictObject({
  dataset: repository.describe("dataset on the hub, such as roneneldan/TinyStories"),
  revision: revision.describe("commit; a branch is not reproducible"),
  folder: folders.optional().describe(
    "folder of the dataset that has the files; its top unless given",
  ),
  files: z.string().min(1, "files must not be empty")
    .describe("names of the files within the folder; * stands for anything"),
  validation: z.string().min(1, "validation must not be empty").optional()
    .describe(
      "names of the files that are held out, all of them; a share of the documents unless given",
    ),
  text_field: z.string().min(1).default("text").describe(
    "key of the text in JSON, column in Parquet",
  ),
  separator: separator.optional(),
  encoding: encoding.optional(),
  fraction,
  shards,
}).superRefine(checkChoice);

/** The section `data.hub`, validated. */
export type HubSection = z.infer<typeof hubSchema>;
