/**
 * The section `model.ffn` of PEER layers. Defaults are the paper's values.
 *
 * @module
 */

import { z } from "zod";
import { checkProductKey, productKeyFields } from "../product_key/schema.ts";

/** Schema of the section. */
export const peerSchema = z.strictObject({
  kind: z.literal("peer"),
  ...productKeyFields,
  execution: z.enum(["auto", "fused", "naive"]).default("auto").describe(
    "how kept experts run: in one kernel, or in one each for products, activations and sums; auto picks by device and tokens",
  ),
}).superRefine(checkProductKey);

/** Sizes of the layer. */
export type PeerSection = Readonly<z.infer<typeof peerSchema>>;
