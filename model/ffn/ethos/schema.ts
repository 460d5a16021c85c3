/**
 * The section `model.ffn` of ETHOS layers, with either router. Defaults are the published values.
 *
 * @module
 */

import { z } from "zod";
import { width } from "../../layer/fields.ts";
import { beamFields, checkBeam } from "../beam/schema.ts";
import { checkProductKey, productKeyFields } from "../product_key/schema.ts";

/** Fields of the experts behind any router. */
const expertFields = {
  d_latent: width("width of an expert's latent code").default(128),
  d_hidden: width("hidden width of the hypernetwork").default(512),
  d_context: z.int().min(0).max(65536)
    .refine((n) => n % 4 === 0, { error: ({ input }) => `${input} is not a multiple of 4` })
    .default(0)
    .describe("width of the token's context in context-aware generation; 0 is static generation"),
};

const about = "how a token's experts are chosen: by pairs of sub-keys, or by ids on several axes";

/** Schema of the section with the product-key router, which a section without `router` has. */
export const productKeyEthosSchema = z.strictObject({
  kind: z.literal("ethos"),
  router: z.literal("product_key").optional().default("product_key").describe(about),
  ...productKeyFields,
  ...expertFields,
  execution: z.enum(["auto", "materialized", "fused", "naive"]).default("auto").describe(
    "how experts run: every one generated once a step, per kept expert inside the kernel, or with u and v formed; auto picks by tokens",
  ),
}).superRefine(checkProductKey);

/** Numbers that a table may have, so that it is one binding on every device: 128 MiB in f32. */
const TABLE = 2 ** 25;

/** Schema of the section with the beam router. */
const beamEthosSchema = z.strictObject({
  kind: z.literal("ethos"),
  router: z.literal("beam").describe(about),
  ...beamFields,
  ...expertFields,
  execution: z.enum(["auto", "fused", "naive"]).default("auto").describe(
    "how experts run: per kept expert inside the kernel (auto), or with u and v formed; there are too many to generate every one",
  ),
}).superRefine((section, context) => {
  checkBeam(section, context);
  const { axes, axis_size, d_latent } = section;
  const numbers = axes * axis_size * d_latent;
  if (numbers > TABLE) {
    context.addIssue({
      code: "custom",
      path: ["axis_size"],
      message:
        `${axes} axes of ${axis_size} ids with codes of ${d_latent} are a table of ${numbers} ` +
        `numbers; at most ${TABLE}`,
      input: axis_size,
    });
  }
});

/** Schema of the section, told apart by `router`. */
export const ethosSchema = z.discriminatedUnion("router", [productKeyEthosSchema, beamEthosSchema]);

/** Sizes of a layer with the product-key router. */
export type ProductKeyEthosSection = Readonly<z.infer<typeof productKeyEthosSchema>>;

/** Sizes of a layer with the beam router. */
export type BeamEthosSection = Readonly<z.infer<typeof beamEthosSchema>>;

/** Sizes of the layer. */
export type EthosSection = ProductKeyEthosSection | BeamEthosSection;

/** Experts of a layer: pairs of sub-keys, or tuples of an id on each axis. */
export function expertsOf(ethos: EthosSection): number {
  return ethos.router === "beam" ? ethos.axis_size ** ethos.axes : ethos.num_experts;
}
