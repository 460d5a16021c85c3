/**
 * The section `data.c4`.
 *
 * @module
 */

import { z } from "zod";

/** Commit of `allenai/c4` that the project was written against. */
export const C4_REVISION = "1588ec454efa1a09f29cd18ddd04fe05fc8653a2";

const repository = z.string().regex(/^[\w-][\w.-]*\/[\w-][\w.-]*$/, {
  error: (issue) => `"${issue.input}" is not a dataset's name; expected owner/name, as allenai/c4`,
});
const folder = z.string().regex(/^(?!\.)[\w.-]+$/, {
  error: (issue) => `"${issue.input}" is not a folder's name; expected one such as en`,
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

/** Schema of the section. */
export const c4Schema = z.strictObject({
  dataset: repository.default("allenai/c4").describe("dataset on the hub"),
  config: folder.default("en").describe("folder of the dataset that has the shards"),
  revision: revision.default(C4_REVISION).describe("commit; a branch is not reproducible"),
  files: z.string().min(1).default("c4-train.*.json.gz")
    .describe("names of the shards within the folder; * stands for anything"),
  fraction: z.number().gt(0, "fraction must be more than 0").max(1, "fraction is at most 1")
    .optional().describe("share of the shards, from the first on; rounded, at least one"),
  shards: z.array(z.int().min(0)).min(1, "shards must name at least one shard").optional()
    .describe("which shards, counted from 0"),
}).superRefine((c4, context) => {
  if (c4.fraction !== undefined && c4.shards !== undefined) {
    context.addIssue({
      code: "custom",
      path: ["shards"],
      message: "fraction and shards say the same thing twice; give one of them",
      input: c4.shards,
    });
  }
  if (c4.shards && new Set(c4.shards).size < c4.shards.length) {
    context.addIssue({
      code: "custom",
      path: ["shards"],
      message: `${c4.shards.join(", ")} names a shard twice`,
      input: c4.shards,
    });
  }
});

/** The section, validated. */
export type C4Section = z.infer<typeof c4Schema>;
