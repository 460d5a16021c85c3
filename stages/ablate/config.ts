/**
 * The `ablations` section: factors, the values that each takes, and what a value changes in the configuration.
 *
 * @module
 */

import { z } from "zod";

/** A name that can stand in the name of a node and of a file. */
export const slug = z.string().regex(/^[a-z0-9][a-z0-9_-]*$/, {
  error: (issue) =>
    `${JSON.stringify(issue.input)} is no plain name; use lower-case letters, digits, - and _`,
}).max(60);

/** A value that a configuration key can take in an ablation. */
export const factorValue = z.union([
  z.number(),
  z.boolean(),
  z.string().regex(/^[\w.][\w. +-]*$/, {
    error: (issue) =>
      `${
        JSON.stringify(issue.input)
      } can't be part of a name; use letters, digits, spaces, . + - _`,
  }).max(60),
]);

/** A value of a factor. */
export type FactorValue = z.infer<typeof factorValue>;

/** The largest training seed, after `seed` was added. */
export const LARGEST_TRAINING_SEED: number = 2 ** 31 - 1;

/** Training seeds: distinct whole numbers. */
export const seedList = z.array(z.int().min(0).max(LARGEST_TRAINING_SEED)).min(1).max(64)
  .refine((seeds) => new Set(seeds).size === seeds.length, { error: "a seed is listed twice" });

const variant = z.strictObject({
  value: factorValue.describe("what the variant is called"),
  set: z.record(z.string(), factorValue).default({})
    .describe("keys that it changes, such as model.ffn.d_context: 64"),
  equal_active_parameters: z.boolean().default(false)
    .describe(
      "a dense model with as many active parameters as the base: sets model.ffn and model.leading_dense",
    ),
  equal: z.strictObject({
    quantity: z.enum(["active_parameters", "flops"])
      .describe("parameters that a token uses, or operations of its forward pass"),
    by: z.string().regex(/^model\.ffn\.\w+$/, {
      error: (issue) =>
        `${JSON.stringify(issue.input)} is no width of model.ffn, such as model.ffn.d_expert`,
    }).describe("width that is chosen, such as model.ffn.d_expert"),
  }).optional().describe("what the variant has as much of as the base, within 1 %"),
  seeds: seedList.optional().describe("seeds of its cell; those of the factor otherwise"),
});

const factorFields = z.strictObject({
  name: slug.describe("name of the factor"),
  title: z.string().min(1).max(200).optional().describe("how figures call it"),
  path: z.string().min(1).max(200).optional().describe("the key that changes, model.ffn.d_latent"),
  values: z.array(factorValue).min(1).max(64).optional().describe("the values of that key"),
  variants: z.array(variant).min(1).max(64).optional()
    .describe("instead of path and values: named changes of several keys"),
  seeds: seedList.optional().describe("seeds of its cells; all of ablation_seeds otherwise"),
});

/** Schema of one factor: `path` and `values`, or `variants`. */
export const factorSchema = factorFields.superRefine((factor, context) => {
  const issue = (key: keyof typeof factor, message: string) =>
    context.addIssue({ code: "custom", path: [key], message, input: factor[key] });
  if (factor.variants !== undefined) {
    if (factor.path !== undefined) issue("path", "given together with variants; give one of them");
    if (factor.values !== undefined) {
      issue("values", "given together with variants; give one of them");
    }
  } else if (factor.path === undefined) {
    issue("path", "missing; give path and values, or variants");
  } else if (factor.values === undefined) {
    issue("values", `missing; expected a list of values for ${factor.path}`);
  }
  const names = (factor.values ?? factor.variants?.map(({ value }) => value) ?? []).map(String);
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  if (twice !== undefined) {
    issue(factor.values !== undefined ? "values" : "variants", `${twice} is listed twice`);
  }
});

/** One factor, validated. */
export type Factor = z.infer<typeof factorSchema>;
