/**
 * The section `model.attention` of multi-head latent attention. Defaults are the paper's values.
 *
 * @module
 */

import { z } from "zod";
import { count, width } from "../../layer/fields.ts";

/** Schema of the section. */
export const mlaSchema = z.strictObject({
  kind: z.literal("mla"),
  num_heads: count("attention heads", 1024).default(16),
  q_lora_rank: width("rank of the query's low-rank projection").default(768),
  kv_lora_rank: width("rank of the keys' and values' latent, which decoding caches").default(256),
  d_nope: width("per-head query and key width without rotary position").default(64),
  d_rope: width("per-head query and key width with rotary position").default(64),
  d_v: width("per-head value width").default(64),
  rope_base: z.number().min(1).max(1e9).default(10000)
    .describe("base of the rotary frequencies, theta"),
});

/** Sizes of the layer. */
export type MlaSection = Readonly<z.infer<typeof mlaSchema>>;
