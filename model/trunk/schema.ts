/**
 * The parts of the section `model` that every kind shares. Defaults are the paper's values.
 *
 * @module
 */

import { z } from "zod";
import { count, width } from "../layer/fields.ts";

/** Schema of `model.trunk`: what surrounds the layers. */
const trunkSchema = z.strictObject({
  norm: z.enum(["rms", "layer"]).default("rms")
    .describe("rms: root mean square with a gain; layer: mean and variance with a gain and a bias"),
  epsilon: z.number().positive().max(1).default(1e-6).describe("added under the norms' roots"),
  positions: z.enum(["none", "learned"]).default("none")
    .describe(
      "learned: a row for each position is added to the embedding; attention may rotate besides",
    ),
  max_positions: count("longest sequence with learned positions", 2 ** 20).default(4096),
  residual: z.enum(["sequential", "parallel"]).default("sequential")
    .describe("parallel: attention and feed-forward of a layer read the same residual stream"),
  head: z.enum(["tied", "own"]).default("tied")
    .describe("tied: the output head is the embedding; own: a matrix of its own"),
  dropout: z.number().min(0).lt(1).default(0)
    .describe("share of the sum of embedding and positions that training drops"),
});

/** Options of the trunk. */
export type TrunkSection = Readonly<z.infer<typeof trunkSchema>>;

/** Fields of the section `model` besides `attention` and `ffn`. */
export const trunkFields = {
  d_model: width("width of the residual stream, D").default(1024),
  num_layers: count("layers", 512).default(16),
  leading_dense: z.strictObject({
    num_layers: z.int().min(0).max(512).default(2).describe("how many"),
    d_ffn: width("SwiGLU width F").default(4096),
  }).prefault({}).describe("leading layers whose feed-forward is a dense SwiGLU"),
  trunk: trunkSchema.prefault({}),
};

/** The section `model` besides `attention` and `ffn`. */
export interface TrunkConfig {
  /** Width of the residual stream, D. */
  readonly d_model: number;
  /** Layers, leading dense ones included. */
  readonly num_layers: number;
  /** Leading layers whose feed-forward is a dense SwiGLU of width F; fewer than `num_layers`. */
  readonly leading_dense: { readonly num_layers: number; readonly d_ffn: number };
  /** Options of the trunk. */
  readonly trunk: TrunkSection;
}

/** Rules between the fields, for `superRefine`. */
export function checkTrunk(
  { num_layers, leading_dense }: TrunkConfig,
  context: z.core.$RefinementCtx<TrunkConfig>,
): void {
  if (leading_dense.num_layers < num_layers) return;
  context.addIssue({
    code: "custom",
    path: ["leading_dense", "num_layers"],
    input: leading_dense.num_layers,
    message:
      `${leading_dense.num_layers} leaves none of the ${num_layers} layers for model.ffn; at most ${
        num_layers - 1
      }`,
  });
}
