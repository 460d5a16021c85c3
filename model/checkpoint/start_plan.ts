/**
 * Which tensors of a trained model a training starts from, and which not.
 *
 * @module
 */

import { z } from "zod";
import type { ModelConfig } from "../section.ts";
import type { Architecture } from "../trunk/architecture.ts";
import { parameterSpecs, statisticSpecs } from "../trunk/parameters.ts";

/** Name of the table of learned positions. */
export const POSITIONS = "position.weight";

/** How a training starts from a model. */
export interface StartOptions {
  /** The model has more learned positions than the source: the source's rows come first. */
  readonly lengthen: boolean;
  /** False to take those tensors that fit, and leave the others as the seed makes them; true unless given. */
  readonly strict?: boolean | undefined;
  /** The source is dense, and experts are copies of its feed-forwards. */
  readonly upcycle?: { readonly noise: number } | undefined;
}

/** A tensor that comes from the source. */
export interface TakenTensor {
  readonly name: string;
  /** Its name in the source. */
  readonly from: string;
  /** `copies`: one for each expert. */
  readonly way: "same" | "first_rows" | "copies";
  /** Copies; 1 unless the way is `copies`. */
  readonly experts: number;
}

/** Tensors of the model, and of the source, by what becomes of them. */
export interface StartPlan {
  /** Tensors that come from the source. */
  readonly taken: readonly TakenTensor[];
  /** Tensors that stay as the seed makes them, and the reasons. */
  readonly initial: readonly { readonly name: string; readonly why: string }[];
  /** Tensors of the source that nothing is made of, and the reasons. */
  readonly unused: readonly { readonly name: string; readonly why: string }[];
  /** Settings of the source that differ from the model's, with `strict: false`. */
  readonly differences: readonly string[];
}

interface PlanOptions extends StartOptions {
  /** Compares a configuration with a model's. */
  readonly differences: (config: unknown, expected: Architecture) => Promise<string[]>;
}

/** The parts of a source that a plan depends on. */
interface PlannedSource {
  readonly name: string;
  readonly config: unknown;
  readonly tensors: ReadonlyMap<string, readonly number[]>;
}

/** The parts of a source's configuration that are compared before its kinds are known. */
const outline = z.looseObject({
  ffn: z.looseObject({ kind: z.string() }),
  leading_dense: z.looseObject({ num_layers: z.int().min(0), d_ffn: z.int() }),
  trunk: z.looseObject({ positions: z.string(), max_positions: z.int() }),
});
type Outline = z.infer<typeof outline>;

/**
 * Plans the start of a training.
 *
 * @throws {Error} If the source does not fit: naming the keys or the tensors.
 */
export async function planStart(
  source: PlannedSource,
  architecture: Architecture,
  options: PlanOptions,
): Promise<StartPlan> {
  const { strict = true, upcycle, lengthen } = options;
  const parsed = outline.safeParse(source.config);
  if (!parsed.success) {
    throw new Error(
      `${source.name} has a model configuration that is not valid: ${
        z.prettifyError(parsed.error)
      }`,
    );
  }
  const stored = parsed.data;
  const refuse = (message: string) => new Error(`${source.name} ${message}`);
  assertPositions(stored, architecture.config, { lengthen, strict, refuse });
  const copies = upcycle ? copiesOf(stored, architecture, refuse) : new Map<string, Copy>();
  const differences = await compare(source, stored, architecture, options);
  if (strict && differences.length > 0) {
    throw refuse(`is of another model: ${differences.join("; ")}`);
  }
  const plan = { ...match(source, architecture, { lengthen, copies }), differences };
  if (strict) assertWhole(plan, { upcycled: upcycle !== undefined, refuse });
  if (plan.taken.length === 0) throw refuse("has no tensor that fits the model");
  return plan;
}

/** Learned positions that a table can't be cut to, or need not be lengthened to. */
function assertPositions(
  { trunk: stored }: Outline,
  { trunk }: ModelConfig,
  options: {
    readonly lengthen: boolean;
    readonly strict: boolean;
    readonly refuse: (message: string) => Error;
  },
): void {
  const { lengthen, strict, refuse } = options;
  const learned = stored.positions === "learned" && trunk.positions === "learned";
  const [found, wanted] = [stored.max_positions, trunk.max_positions];
  if (lengthen && !learned) {
    throw refuse("or the model has no learned positions, which alone can be lengthened");
  }
  if (lengthen && found === wanted) {
    throw refuse(`has ${found} positions already, as the model: there is nothing to lengthen`);
  }
  if (!learned || !(strict || lengthen)) return;
  if (found > wanted) {
    throw refuse(`has ${found} positions, the model ${wanted}; expected at least as many`);
  }
  if (found < wanted && !lengthen) {
    throw refuse(
      `has ${found} positions, the model ${wanted}; expected as many, or lengthen: true`,
    );
  }
}

/** A stack of experts, and the dense tensor that each is a copy of. */
interface Copy {
  readonly from: string;
  readonly experts: number;
}

/** Stacks of experts by name. @throws {Error} If experts of the model are no copies of the source's feed-forwards. */
function copiesOf(
  stored: Outline,
  architecture: Architecture,
  refuse: (message: string) => Error,
): Map<string, Copy> {
  const { config } = architecture;
  const first = config.leading_dense.num_layers;
  const { upcycled } = architecture.feedForward(first);
  const kind = config.ffn.kind;
  if (upcycled === undefined || typeof upcycled === "string") {
    throw refuse(
      `can't be upcycled to model.ffn.kind ${kind}: ${
        upcycled ?? "it has no experts"
      }; expected switch or topk_moe`,
    );
  }
  if (stored.ffn.kind !== "dense") {
    throw refuse(`has ffn.kind ${stored.ffn.kind}, of which no expert is a copy; expected dense`);
  }
  const leading = stored.leading_dense;
  const of_layer = (i: number) =>
    i < leading.num_layers
      ? { activation: "swiglu", d_ffn: leading.d_ffn }
      : { activation: stored.ffn["activation"] ?? "swiglu", d_ffn: stored.ffn["d_ffn"] };
  const copies = new Map<string, Copy>();
  for (let i = 0; i < config.num_layers; i++) {
    const dense = of_layer(i);
    const wanted = i < first
      ? { activation: "swiglu", d_ffn: config.leading_dense.d_ffn }
      : { activation: upcycled.activation, d_ffn: upcycled.d_ffn };
    for (const key of ["activation", "d_ffn"] as const) {
      if (dense[key] === wanted[key]) continue;
      throw refuse(
        `has a feed-forward of ${key} ${dense[key]} in layer ${i}; the ${
          i < first ? "leading layer" : `experts of ${kind}`
        } of the model expects ${wanted[key]}`,
      );
    }
    if (i < first) continue;
    for (const [own, from] of Object.entries(upcycled.copies)) {
      const at = `layers.${i}.ffn`;
      copies.set(`${at}.${own}`, { from: `${at}.${from}`, experts: upcycled.experts });
    }
  }
  return copies;
}

/** Settings in which the source differs from the model, except for those that the start changes. */
async function compare(
  { config, name }: PlannedSource,
  stored: Outline,
  architecture: Architecture,
  { lengthen, upcycle, strict = true, differences }: PlanOptions,
): Promise<string[]> {
  const { trunk, ffn, leading_dense } = architecture.config;
  const positions = lengthen ? { max_positions: trunk.max_positions } : {};
  const own = Object(config) as Record<string, unknown>;
  const seen = {
    ...own,
    trunk: { ...stored.trunk, ...positions },
    ...(upcycle && { ffn, leading_dense }),
  };
  try {
    return await differences(seen, architecture);
  } catch (error) {
    // Tensors that fit may be taken from a model that could not be made here.
    if (strict) throw error;
    return [error instanceof Error ? error.message : `${name}: ${error}`];
  }
}

/** Pairs tensors of the model with those of the source by name and shape. */
function match(
  source: PlannedSource,
  architecture: Architecture,
  { lengthen, copies }: { lengthen: boolean; copies: ReadonlyMap<string, Copy> },
): Omit<StartPlan, "differences"> {
  const taken: TakenTensor[] = [];
  const initial: { name: string; why: string }[] = [];
  const unused = new Map([...source.tensors.keys()].map((name) => [name, "the model has none"]));
  for (const spec of [...parameterSpecs(architecture), ...statisticSpecs(architecture)]) {
    const { name, shape } = spec;
    const copy = copies.get(name);
    const from = copy?.from ?? name;
    const found = source.tensors.get(from);
    if (found === undefined) {
      initial.push({ name, why: `the source has ${copy ? `no ${from}` : "none"}` });
      continue;
    }
    const rows = lengthen && name === POSITIONS;
    const wanted = copy ? shape.slice(1) : rows ? [found[0], ...shape.slice(1)] : shape;
    if (found.join() !== wanted.join()) {
      initial.push({
        name,
        why: `[${found.join(", ")}] in the source, [${wanted.join(", ")}] here`,
      });
      unused.set(from, "another shape");
      continue;
    }
    unused.delete(from);
    taken.push({
      name,
      from,
      way: copy ? "copies" : rows ? "first_rows" : "same",
      experts: copy?.experts ?? 1,
    });
  }
  return { taken, initial, unused: [...unused].map(([name, why]) => ({ name, why })) };
}

/** Refuses a start that leaves out more than it must: gates of upcycled experts, and their biases, have nothing to come from. */
function assertWhole(
  plan: Pick<StartPlan, "initial" | "unused">,
  { upcycled, refuse }: { upcycled: boolean; refuse: (message: string) => Error },
): void {
  const missing = plan.initial.filter(({ name }) =>
    !(upcycled && /^layers\.\d+\.ffn\.(?:w_g|b1|b2)$/.test(name))
  );
  const problems = [
    ...missing.map(({ name, why }) => `${name}: ${why}`),
    ...plan.unused.map(({ name, why }) => `${name} is left over: ${why}`),
  ];
  if (problems.length === 0) return;
  const more = problems.length > 4 ? `; and ${problems.length - 4} more` : "";
  throw refuse(
    `does not fit: ${problems.slice(0, 4).join("; ")}${more}; strict: false takes what fits`,
  );
}
