/**
 * The section `model.attention` of multi-head attention.
 *
 * @module
 */

import { z } from "zod";
import { count, width } from "../../layer/fields.ts";
import type { TrunkSizes } from "../../layer/kind.ts";
import type { HeadGroups } from "../../ops/attention/heads.ts";
import type { RotaryAngles } from "../../ops/attention/rope.ts";

const factor = z.number().min(1).max(1e6).describe("how many times longer the texts are");
const turns = (about: string) => z.number().positive().max(1e6).describe(about);

/** Schema of `rope_scaling`: how a model that was trained on shorter texts turns more slowly. */
const ropeScalingSchema = z.discriminatedUnion("type", [
  z.strictObject({ type: z.literal("linear"), factor }),
  z.strictObject({
    type: z.literal("llama3"),
    factor,
    low_freq_factor: turns("turns over the original length below which a frequency is divided"),
    high_freq_factor: turns("turns over the original length above which a frequency stays"),
    original_max_position_embeddings: count("the original length", 2 ** 24),
  }).refine((s) => s.high_freq_factor > s.low_freq_factor, {
    path: ["high_freq_factor"],
    error: "it must be more than low_freq_factor",
  }),
]);

/** Schema of the section. */
export const mhaSchema = z.strictObject({
  kind: z.literal("mha"),
  num_heads: count("attention heads", 1024).default(8),
  num_kv_heads: count("heads of keys and values, which groups of heads share", 1024).optional()
    .describe("heads of keys and values, which groups of heads share; num_heads unless given"),
  d_head: width("width of a head").optional()
    .describe("width of a head; d_model / num_heads unless given"),
  bias: z.boolean().default(true).describe("whether the projections have biases"),
  d_rope: z.int().min(0).max(65536)
    .refine((n) => n % 2 === 0, { error: ({ input }) => `${input} is odd; columns turn in pairs` })
    .default(0)
    .describe("columns of a head's queries and keys that turn with the position; 0: none"),
  rope_base: z.number().min(1).max(1e9).default(10000)
    .describe("base of the rotary frequencies, theta"),
  rope_scaling: ropeScalingSchema.optional()
    .describe(
      "slower rotary frequencies for texts that are longer than those of the first training: linear divides all of them, llama3 the low ones; none unless given",
    ),
  dropout: z.number().min(0).lt(1).default(0)
    .describe("share of the attention probabilities, and of the output, that training drops"),
}).superRefine((section, context) => {
  const { num_heads, num_kv_heads = num_heads, d_head, d_rope, rope_scaling } = section;
  if (num_heads % num_kv_heads !== 0) {
    context.addIssue({
      code: "custom",
      path: ["num_kv_heads"],
      input: num_kv_heads,
      message:
        `${num_kv_heads} heads of keys and values cannot be shared by num_heads ${num_heads}`,
    });
  }
  if (rope_scaling !== undefined && d_rope === 0) {
    context.addIssue({
      code: "custom",
      path: ["rope_scaling"],
      input: rope_scaling,
      message: "it means nothing with d_rope 0; leave it out, or set d_rope",
    });
  }
  if (d_head !== undefined && d_rope > d_head) {
    context.addIssue({
      code: "custom",
      path: ["d_rope"],
      input: d_rope,
      message: `${d_rope} is more than the width of a head, d_head ${d_head}`,
    });
  }
});

/** Sizes of the layer. */
export type MhaSection = Readonly<z.infer<typeof mhaSchema>>;

/** The heads of a section in a model of this width, with the keys that are not given. */
export function headsOf(
  { num_heads, num_kv_heads = num_heads, d_head }: MhaSection,
  { d_model }: Pick<TrunkSizes, "d_model">,
): HeadGroups {
  return { heads: num_heads, kv_heads: num_kv_heads, d_head: d_head ?? d_model / num_heads };
}

/** How fast the rotary columns of a section turn. */
export function rotaryAngles({ rope_base, rope_scaling }: MhaSection): RotaryAngles {
  return { base: rope_base, ...(rope_scaling && { scaling: rope_scaling }) };
}

/** A width of heads that the model's width does not give, or that rotary columns do not fit. */
export function problemOf(
  section: MhaSection,
  { d_model }: Pick<TrunkSizes, "d_model">,
): { readonly key: string; readonly message: string } | undefined {
  const { num_heads, d_head, d_rope } = section;
  if (d_head !== undefined) return undefined;
  const width = d_model / num_heads;
  if (width % 4 !== 0) {
    return {
      key: "num_heads",
      message:
        `${num_heads} heads of d_model ${d_model} are ${width} wide, not a multiple of 4; give d_head`,
    };
  }
  if (d_rope > width) {
    return {
      key: "d_rope",
      message: `${d_rope} is more than the width of a head, d_model / num_heads ${width}`,
    };
  }
  return undefined;
}
