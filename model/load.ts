/**
 * Loads the kinds that a model names, and no others.
 *
 * @module
 */

import { z } from "zod";
import { ATTENTION } from "./attention/registry.ts";
import { FFN } from "./ffn/registry.ts";
import type { Attention, FeedForward, Kind } from "./layer/kind.ts";
import type { AttentionSection, FfnSection, ModelConfig, ModelSection } from "./section.ts";
import { Architecture } from "./trunk/architecture.ts";
import { checkTrunk, trunkFields } from "./trunk/schema.ts";

/** A line of a registry. */
interface Entry<Section, Layer> {
  readonly module: string;
  load(): Promise<{ readonly kind: Kind<Section, Layer> }>;
}

// Each kind is of its own section; the discriminator says which, so all are used as of any section.
const attentions = ATTENTION as unknown as Record<string, Entry<AttentionSection, Attention>>;
const feedForwards = FFN as unknown as Record<string, Entry<FfnSection, FeedForward>>;

/** Options of {@linkcode loadArchitecture}. */
export interface LoadOptions {
  /** Called with the URL of each kind's module before it is loaded; may refuse by throwing. */
  onLoad?(module: string): void;
}

/** Schema of a section `model` that the configuration's schema has accepted: it loads no kind, and changes nothing. */
export const acceptedModel = z.custom<ModelSection>((value) => namedKinds.safeParse(value).success);

/** The parts of a section `model` that say which kinds it is made of. */
const namedKinds = z.looseObject({
  attention: z.looseObject({ kind: z.string() }),
  ffn: z.looseObject({ kind: z.string() }),
  leading_dense: z.looseObject({ num_layers: z.number() }),
});

/** The modules of the kinds that a section `model` names: those that {@linkcode loadArchitecture} loads. */
export function kindModules(model: unknown): string[] {
  return Object.values(entriesOf(model)).map(({ module }) => module);
}

function entriesOf(model: unknown) {
  const { attention, ffn, leading_dense } = namedKinds.parse(model);
  return {
    attention: entryOf(attentions, attention.kind, "attention"),
    ffn: entryOf(feedForwards, ffn.kind, "ffn"),
    ...(leading_dense.num_layers > 0 && { dense: entryOf(feedForwards, "dense", "ffn") }),
  };
}

function entryOf<Section, Layer>(
  registry: Readonly<Record<string, Entry<Section, Layer>>>,
  kind: string,
  section: string,
): Entry<Section, Layer> {
  const entry = Object.hasOwn(registry, kind) ? registry[kind] : undefined;
  if (entry !== undefined) return entry;
  throw new RangeError(
    `${section}.kind is ${JSON.stringify(kind)}; expected ${Object.keys(registry).join(" or ")}`,
  );
}

/**
 * Loads the kinds of a configuration and checks its sections with their schemas.
 *
 * @throws {RangeError} If it names a kind that does not exist.
 * @throws {z.ZodError} If a section is not valid.
 */
export async function loadArchitecture(
  config: unknown,
  options: LoadOptions = {},
): Promise<Architecture> {
  const { attention, ffn, dense } = entriesOf(config);
  const load = async <Section, Layer>(entry: Entry<Section, Layer>) => {
    options.onLoad?.(entry.module);
    return (await entry.load()).kind;
  };
  const kinds = {
    attention: await load(attention),
    ffn: await load(ffn),
    ...(dense && { dense: await load(dense) }),
  };
  const schema = z.strictObject({
    ...trunkFields,
    vocab_size: z.int().min(1),
    attention: kinds.attention.schema,
    ffn: kinds.ffn.schema,
  }).superRefine(checkTrunk).superRefine((config, context) =>
    checkSections(config as ModelConfig, kinds, context)
  );
  return new Architecture(schema.parse(config) as ModelConfig, kinds);
}

/** Every kind, for a schema of all configurations. */
export async function loadAllKinds() {
  const load = async <Section, Layer>(registry: Readonly<Record<string, Entry<Section, Layer>>>) =>
    new Map(
      await Promise.all(
        Object.entries(registry).map(async ([name, entry]) =>
          [name, (await entry.load()).kind] as const
        ),
      ),
    );
  return { attention: await load(attentions), ffn: await load(feedForwards) };
}

/** Rules between the trunk and the sections of its kinds, for `superRefine`. */
export function checkSections(
  config: ModelSection,
  kinds: {
    readonly attention: Kind<AttentionSection, Attention> | undefined;
    readonly ffn: Kind<FfnSection, FeedForward> | undefined;
  },
  context: Pick<z.core.$RefinementCtx, "addIssue">,
): void {
  const problems = {
    attention: kinds.attention?.problem?.(config.attention, config),
    ffn: kinds.ffn?.problem?.(config.ffn, config),
  };
  for (const name of ["attention", "ffn"] as const) {
    const problem = problems[name];
    if (!problem) continue;
    const { key, message } = problem;
    const input = (config[name] as Readonly<Record<string, unknown>>)[key];
    context.addIssue({ code: "custom", path: [name, key], input, message });
  }
}
