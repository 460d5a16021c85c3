/**
 * The section `model` of a configuration: its schema, over every kind that there is.
 *
 * The keys of a kind are declared in its folder (`attention/mla/schema.ts`, `ffn/ethos/schema.ts`), those of the trunk in
 * `trunk/schema.ts`. A stage does not import this module: its key would cover every kind.
 *
 * @module
 */

import { z } from "zod";
import { checkSections, loadAllKinds } from "./load.ts";
import type { AttentionSection, FfnSection, ModelConfig, ModelSection } from "./section.ts";
import { Architecture } from "./trunk/architecture.ts";
import { checkTrunk, trunkFields } from "./trunk/schema.ts";

const KINDS = await loadAllKinds();

/** One of several sections, told apart by `kind`; a section that names none is of the kind `fallback`. */
function unionOf<Section>(
  kinds: ReadonlyMap<string, { readonly schema: z.ZodType<Section> }>,
  fallback: string,
): z.ZodType<Section> {
  const schemas = [...kinds.values()].map(({ schema }) => schema);
  type Options = Parameters<typeof z.discriminatedUnion>[1];
  const union = z.discriminatedUnion("kind", schemas as unknown as Options);
  const named = (section: unknown) =>
    typeof section === "object" && section !== null && !Array.isArray(section)
      ? { kind: fallback, ...section }
      : section;
  return z.preprocess(named, union).prefault({}) as unknown as z.ZodType<Section>;
}

/** A key of the flat form that configurations had, whose name says nothing of its place now. */
const movedTo = (place: string) =>
  z.custom<undefined>((value) => value === undefined, { error: `the key is now ${place}` })
    .optional().meta({ deprecated: true });

/**
 * Schema of the section `model`. Defaults are the paper's values.
 *
 * @example
 * ```ts
 * import { modelSchema } from "./config.ts";
 * const model = modelSchema.parse({ ffn: { kind: "ethos", d_latent: 64 } });
 * console.assert(model.leading_dense.num_layers === 2);
 * ```
 */
export const modelSchema: z.ZodType<ModelSection> = z.strictObject({
  ...trunkFields,
  attention: unionOf<AttentionSection>(KINDS.attention, "mla"),
  ffn: unionOf<FfnSection>(KINDS.ffn, "ethos"),
  kind: movedTo("model.ffn.kind"),
  num_dense_layers: movedTo("model.leading_dense.num_layers"),
  d_ffn: movedTo("model.leading_dense.d_ffn, or model.ffn.d_ffn of a dense model"),
}).superRefine(checkTrunk).superRefine((model, context) =>
  checkSections(model, {
    attention: KINDS.attention.get(model.attention.kind),
    ffn: KINDS.ffn.get(model.ffn.kind),
  }, context)
);

/** The architecture of a validated configuration, of whatever kinds. */
export function architectureOf(config: ModelConfig): Architecture {
  return new Architecture(config, {
    attention: KINDS.attention.get(config.attention.kind)!,
    ffn: KINDS.ffn.get(config.ffn.kind)!,
    dense: KINDS.ffn.get("dense")!,
  });
}
