/**
 * The cells of an experiment: the base configuration, and every other that the factors make of it. A cell that comes to
 * the same configuration as another is that other: it is trained once.
 *
 * @module
 */

import canonicalize from "canonicalize";
import { z } from "zod";
import { architectureOf, modelSchema } from "../../model/config.ts";
import { denseEquivalent, equalSize } from "../../model/equal_size.ts";
import type { ModelSection } from "../../model/section.ts";
import { trainSchema, type TrainSection } from "../../model/training/config.ts";
import { explainIssues } from "../../pipeline/config/explain.ts";
import { choiceOrder, keysKept } from "../../pipeline/config/tree.ts";
import type { Factor, FactorValue } from "../ablate/config.ts";

/** Cells of one experiment. */
export const MAXIMUM_CELLS = 512;

/** The sections that a cell can change. */
export interface CellSections {
  readonly model: ModelSection;
  readonly train: TrainSection;
}

/** One configuration that is trained. */
export interface Cell extends CellSections {
  /** `base`, `d_latent=64` or, in a grid, `d_latent=64,top_k=8`. */
  readonly name: string;
  /** Whether the others are compared with it. */
  readonly base: boolean;
  /** Values of the factors that it stands for. */
  readonly factors: Readonly<Record<string, FactorValue>>;
  /** Training seeds. */
  readonly seeds: readonly number[];
}

/** A factor with the cell of each of its values. */
export interface CellFactor {
  readonly name: string;
  readonly title: string;
  readonly values: readonly { readonly value: FactorValue; readonly cell: string }[];
}

/** All cells, the base first. */
export interface Cells {
  readonly cells: readonly Cell[];
  readonly factors: readonly CellFactor[];
}

/** The input that cells are made from. */
export interface CellPlan extends CellSections {
  /** Added to every seed. */
  readonly seed: number;
  /** Seeds of the base. */
  readonly seeds: readonly number[];
  /** Seeds of the other cells; those of the base otherwise. */
  readonly ablation_seeds?: readonly number[] | undefined;
  /** One factor at a time around the base, or all combinations. */
  readonly combine: "one_at_a_time" | "grid";
  readonly ablations: readonly Factor[];
}

/** The knowledge that the model's own code has. */
export interface CellTools {
  /** Ids of the vocabulary, on which the size of a model depends. */
  readonly vocab_size: number;
}

/** A fault of a cell. */
export interface CellProblem {
  /** Key from the top of the configuration. */
  readonly path: readonly (string | number)[];
  readonly message: string;
}

/** Changes that a value of a factor makes. */
interface Variant {
  readonly value: FactorValue;
  readonly set: Readonly<Record<string, FactorValue>>;
  readonly equal_active_parameters: boolean;
  readonly equal?: EqualTerms | undefined;
  readonly seeds?: readonly number[] | undefined;
}

/** The quantity that a variant has in common with the base, and the key that is chosen for it. */
type EqualTerms = NonNullable<NonNullable<Factor["variants"]>[number]["equal"]>;

/** The part of a variant that makes sections. */
type Changes = Omit<Variant, "value" | "seeds">;

/** The variants of a factor, whichever way it was written. */
export function variantsOf(factor: Factor): Variant[] {
  return factor.variants ?? (factor.values ?? []).map((value) => ({
    value,
    set: { [factor.path ?? ""]: value },
    equal_active_parameters: false,
  }));
}

/** The sections of a cell as a variant changes them. */
const cellSchema = z.strictObject({ model: modelSchema, train: trainSchema });

/** Rules that tie the model to the training. */
export function checkSections({ model, train }: CellSections): CellProblem[] {
  const { trunk, num_layers } = model;
  const { sequence_length, micro_batch } = train;
  // No rule depends on the vocabulary, which only the tokenizer knows.
  const architecture = architectureOf({ ...model, vocab_size: 1 });
  const tokens = sequence_length * micro_batch;
  const ofLayers = [0, num_layers - 1].flatMap((i) => architecture.feedForward(i).problems(tokens));
  const problems = [...new Set(ofLayers)].map((message): CellProblem => ({
    path: ["train", "micro_batch"],
    message,
  }));
  if (trunk.positions === "learned" && sequence_length > trunk.max_positions) {
    problems.push({
      path: ["train", "sequence_length"],
      message:
        `${sequence_length} is more than the ${trunk.max_positions} positions that are learned; ` +
        "lower it or raise model.trunk.max_positions",
    });
  }
  return problems;
}

/** The sections that a variant makes of the base, or why it can't. */
export function applyVariant(
  base: CellSections,
  variant: Changes,
  tools: CellTools,
): CellSections | readonly CellProblem[] {
  const sections: Record<string, unknown> = structuredClone({
    model: base.model,
    train: base.train,
  });
  // A kind comes first, then a router: they say which other keys their section has.
  const order = (path: string) => choiceOrder(path.split(".").at(-1)!);
  const changes = Object.entries(variant.set).toSorted(([a], [b]) => order(a) - order(b));
  for (const [path, value] of changes) {
    const steps = path.split(".");
    if ((steps[0] !== "model" && steps[0] !== "train") || steps.length < 2) {
      return [{
        path: steps,
        message: "a factor changes keys of model or train, such as model.ffn.d_latent",
      }];
    }
    const last = steps.pop()!;
    let here: Record<string, unknown> = sections;
    for (const step of steps) {
      const next = Object.hasOwn(here, step) ? here[step] : undefined;
      if (typeof next !== "object" || next === null) {
        return [{ path: path.split("."), message: `unknown key; there is no section ${step}` }];
      }
      here = next as Record<string, unknown>;
    }
    const kept = here[last] === value ? undefined : keysKept(last);
    if (kept) {
      for (const key of Object.keys(here)) if (!kept.includes(key)) delete here[key];
    }
    here[last] = value;
  }
  const parsed = cellSchema.safeParse(sections);
  if (!parsed.success) {
    return explainIssues(parsed.error.issues, { schema: cellSchema, value: sections });
  }
  const result = { ...parsed.data };
  try {
    result.model = sized(result, base, { variant, tools });
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    const path = variant.equal?.by ?? "model.ffn.d_ffn";
    return [{ path: path.split("."), message: error.message }];
  }
  const problems = checkSections(result);
  return problems.length > 0 ? problems : result;
}

/** The model of a variant at the size that it asks for. */
function sized(
  { model, train }: CellSections,
  base: CellSections,
  { variant, tools }: { variant: Changes; tools: CellTools },
): ModelSection {
  const { equal, equal_active_parameters } = variant;
  const whole = (model: ModelSection) => ({ ...model, ...tools });
  if (equal === undefined && !equal_active_parameters) return model;
  const { vocab_size: _, ...section } = equal === undefined
    ? denseEquivalent(whole(model))
    : equalSize(whole(model), whole(base.model), {
      quantity: equal.quantity,
      key: equal.by.split(".").at(-1)!,
      sequence_length: train.sequence_length,
    });
  return section;
}

/**
 * Expands a validated configuration into cells.
 *
 * @throws {RangeError} If a cell is not a valid configuration; the schema of the experiment finds these first.
 */
export function expandCells(plan: CellPlan, tools: CellTools): Cells {
  return plan.combine === "grid" ? gridCells(plan, tools) : oneAtATime(plan, tools);
}

/** Collects cells and merges equal ones. */
class CellTable {
  readonly #plan: CellPlan;
  readonly #byKey = new Map<string, Mutable<Cell>>();

  constructor(plan: CellPlan) {
    this.#plan = plan;
    this.add("base", plan, { base: true, factors: {}, seeds: plan.seeds });
  }

  /** Adds a cell, or joins it with the one that is the same. */
  add(
    name: string,
    { model, train }: CellSections,
    more: Pick<Cell, "base" | "factors" | "seeds">,
  ): Cell {
    const key = canonicalize({ model, train }) ?? "";
    const seeds = more.seeds.map((seed) => seed + this.#plan.seed);
    const known = this.#byKey.get(key);
    if (known !== undefined) {
      known.factors = { ...known.factors, ...more.factors };
      known.seeds = [...new Set([...known.seeds, ...seeds])].sort((a, b) => a - b);
      return known;
    }
    const cell = { name, model, train, ...more, seeds };
    this.#byKey.set(key, cell);
    return cell;
  }

  cells(): Cell[] {
    return [...this.#byKey.values()];
  }
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** One factor at a time; the base's own value is always among a factor's values. */
function oneAtATime(plan: CellPlan, tools: CellTools): Cells {
  const table = new CellTable(plan);
  const [base] = table.cells() as [Cell];
  const factors = plan.ablations.map((factor): CellFactor => {
    const seeds = factor.seeds ?? plan.ablation_seeds ?? plan.seeds;
    const values = variantsOf(factor).map((variant) => {
      const sections = requireSections(applyVariant(plan, variant, tools));
      const cell = table.add(`${factor.name}=${variant.value}`, sections, {
        base: false,
        factors: { [factor.name]: variant.value },
        seeds: variant.seeds ?? seeds,
      });
      return { value: variant.value, cell: cell.name };
    });
    if (!values.some(({ cell }) => cell === base.name)) {
      const value = baseValue(plan, factor);
      table.add(base.name, plan, { base: true, factors: { [factor.name]: value }, seeds: [] });
      values.unshift({ value, cell: base.name });
      if (values.every(({ value }) => typeof value === "number")) {
        values.sort((a, b) => Number(a.value) - Number(b.value));
      }
    }
    return { name: factor.name, title: factor.title ?? factor.path ?? factor.name, values };
  });
  return { cells: table.cells(), factors };
}

/** All combinations, shown as one factor whose values are the combinations. */
function gridCells(plan: CellPlan, tools: CellTools): Cells {
  const table = new CellTable(plan);
  const { ablations } = plan;
  if (ablations.length === 0) return { cells: table.cells(), factors: [] };
  const values = combinations(ablations).map((combination) => {
    const name = combination.map(({ factor, variant }) => `${factor.name}=${variant.value}`)
      .join(",");
    const sections = requireSections(applyVariant(plan, joinVariants(combination), tools));
    const cell = table.add(name, sections, {
      base: false,
      factors: Object.fromEntries(
        combination.map(({ factor, variant }) => [factor.name, variant.value]),
      ),
      seeds: plan.ablation_seeds ?? plan.seeds,
    });
    return { value: name, cell: cell.name };
  });
  const [base] = table.cells() as [Cell];
  if (!values.some(({ cell }) => cell === base.name)) {
    values.unshift({ value: base.name, cell: base.name });
  }
  return {
    cells: table.cells(),
    factors: [{
      name: ablations.map(({ name }) => name).join("-"),
      title: ablations.map(({ title, name }) => title ?? name).join(" × "),
      values,
    }],
  };
}

/** One choice of a grid. */
interface Choice {
  readonly factor: Factor;
  readonly variant: Variant;
}

/** Every choice of one variant a factor, the last factor fastest. */
export function combinations(factors: readonly Factor[]): Choice[][] {
  return factors.reduce<Choice[][]>(
    (rows, factor) =>
      rows.flatMap((row) => variantsOf(factor).map((variant) => [...row, { factor, variant }])),
    [[]],
  );
}

/** The changes of several variants together. */
export function joinVariants(choices: readonly Choice[]): Changes {
  return {
    set: Object.assign({}, ...choices.map(({ variant }) => variant.set)),
    equal_active_parameters: choices.some(({ variant }) => variant.equal_active_parameters),
    equal: choices.map(({ variant }) => variant.equal).findLast((equal) => equal !== undefined),
  };
}

/** The base's value of a factor's key, or `base` where the factor changes several keys. */
function baseValue(plan: CellPlan, factor: Factor): FactorValue {
  let here: unknown = { model: plan.model, train: plan.train };
  for (const step of (factor.path ?? "").split(".")) {
    here = typeof here === "object" && here !== null && Object.hasOwn(here, step)
      ? (here as Record<string, unknown>)[step]
      : undefined;
  }
  return typeof here === "number" || typeof here === "string" || typeof here === "boolean"
    ? here
    : "base";
}

function requireSections(result: CellSections | readonly CellProblem[]): CellSections {
  if ("model" in result) return result;
  throw new RangeError(
    result.map(({ path, message }) => `${path.join(".")}: ${message}`).join("\n"),
  );
}
