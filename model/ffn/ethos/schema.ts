/**
 * The section `model.ffn` of ETHOS layers. Defaults are the paper's values.
 *
 * @module
 */

import { z } from "zod";
import { width } from "../../layer/fields.ts";
import { checkProductKey, productKeyFields } from "../product_key/schema.ts";

/** Schema of the section. */
export const ethosSchema = z.strictObject({
  kind: z.literal("ethos"),
  ...productKeyFields,
  d_latent: width("width of an expert's latent code").default(128),
  d_hidden: width("hidden width of the hypernetwork").default(512),
  d_context: z.int().min(0).max(65536)
    .refine((n) => n % 4 === 0, { error: ({ input }) => `${input} is not a multiple of 4` })
    .default(0)
    .describe("width of the token's context in context-aware generation; 0 is static generation"),
  execution: z.enum(["auto", "materialized", "fused", "naive"]).default("auto").describe(
    "how experts run: every one generated once a step, per kept expert inside the kernel, or with u and v formed; auto picks by tokens",
  ),
}).superRefine(checkProductKey);

/** Sizes of the layer. */
export type EthosSection = Readonly<z.infer<typeof ethosSchema>>;
