/**
 * The section `model.ffn` of the dense feed-forward.
 *
 * @module
 */

import { z } from "zod";
import { width } from "../../layer/fields.ts";

/** Schema of the section. Keys that are not given stay so, and the configurations of earlier versions are the same values. */
export const denseSchema = z.strictObject({
  kind: z.literal("dense"),
  d_ffn: width("width of the hidden layer, F").default(4096),
  activation: z.enum(["swiglu", "gelu", "gelu_exact"]).optional().describe(
    "swiglu: three matrices, of which one gates; gelu: two matrices with the tanh form between them; gelu_exact: with the error function; swiglu unless given",
  ),
  biases: z.boolean().optional().describe("whether every matrix has a bias; none unless given"),
  weight_init: z.enum(["normal", "fan_in"]).optional()
    .describe("normal unless given; fan_in: uniform, by the width that a product sums over"),
});

/** Sizes of the layer. */
export type DenseSection = Readonly<z.infer<typeof denseSchema>>;
