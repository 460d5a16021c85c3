/**
 * The experiment's configuration: the sections of the stages, and the rules that tie them together.
 *
 * Only the command line and the experiment import this module. A stage imports the schema of its own section, so that a
 * stage's code closure holds no other stage's.
 *
 * @module
 */

import { z } from "zod";
import { modelSchema } from "../../model/config.ts";
import type { ModelSection } from "../../model/section.ts";
import { trainSchema, type TrainSection } from "../../model/training/config.ts";
import type { JsonValue } from "../../pipeline/stage.ts";
import {
  type Factor,
  factorSchema,
  LARGEST_TRAINING_SEED,
  seedList,
  slug,
} from "../ablate/config.ts";
import { benchmarkSchema, type BenchmarkSection } from "../benchmark/config.ts";
import {
  applyVariant,
  type CellPlan,
  type CellProblem,
  type CellTools,
  checkSections,
  combinations,
  joinVariants,
  MAXIMUM_CELLS,
  variantsOf,
} from "./cells.ts";
import { evaluateSchema, type EvaluateSection } from "../evaluate/config.ts";
import { folder } from "./fields.ts";
import { reportSchema, type ReportSection } from "../report/config.ts";

/** Sections and knowledge that other modules own. */
export interface ExperimentParts {
  /** Schema of the `data` section, which `download` reads. */
  readonly data: z.ZodType;
  /** Schema of the `tokenizer` section, which `tokenize` reads. */
  readonly tokenizer: z.ZodType;
  /** Ids of the vocabulary that a `tokenizer` section gives. */
  vocabularySize(tokenizer: JsonValue): number;
}

/** A validated configuration of the experiment. */
export interface ExperimentConfiguration {
  /** Name of the experiment, shown by `runs`. */
  readonly name: string;
  /** Added to every training seed, so that `--seed 100` repeats everything with fresh randomness. */
  readonly seed: number;
  /** Training seeds of the base. */
  readonly seeds: readonly number[];
  /** Training seeds of the other cells; those of the base when absent. */
  readonly ablation_seeds?: readonly number[] | undefined;
  /** Folder, relative to the project, where the report is copied to. */
  readonly results: string;
  readonly data: JsonValue;
  readonly tokenizer: JsonValue;
  readonly model: ModelSection;
  readonly train: TrainSection;
  readonly evaluate: EvaluateSection;
  /** One factor at a time around the base, or all combinations of the factors. */
  readonly combine: "one_at_a_time" | "grid";
  readonly ablations: readonly Factor[];
  readonly benchmark: BenchmarkSection;
  readonly report: ReportSection;
  /** Forms of the metrics beside the store's own. No stage reads them. */
  readonly metrics: { readonly tensorboard: boolean };
}

/**
 * The schema of a configuration of the experiment.
 *
 * @example
 * ```ts
 * import { z } from "zod";
 * import { experimentSchema } from "./config.ts";
 * const schema = experimentSchema({
 *   data: z.strictObject({}),
 *   tokenizer: z.strictObject({}),
 *   vocabularySize: () => 512,
 * });
 * const { seeds } = schema.parse({
 *   name: "mine",
 *   data: {},
 *   tokenizer: {},
 *   train: { steps: 2000 },
 * });
 * console.assert(seeds.length === 3);
 * ```
 */
export function experimentSchema(parts: ExperimentParts): z.ZodType<ExperimentConfiguration> {
  const fields = z.strictObject({
    name: slug.describe("name of the experiment"),
    seed: z.int().min(0).max(2 ** 30).default(0).describe("added to every training seed"),
    seeds: seedList.default([1, 2, 3]).describe("training seeds of the base"),
    ablation_seeds: seedList.optional().describe("training seeds of the other cells"),
    results: folder.default("results").describe("where the report is copied to"),
    data: parts.data as z.ZodType<JsonValue>,
    tokenizer: parts.tokenizer as z.ZodType<JsonValue>,
    model: modelSchema.prefault({}),
    train: trainSchema,
    evaluate: evaluateSchema.prefault({}),
    combine: z.enum(["one_at_a_time", "grid"]).default("one_at_a_time")
      .describe("how the factors are combined"),
    ablations: z.array(factorSchema).max(64).default([]).describe("factors that are varied"),
    benchmark: benchmarkSchema.prefault({}),
    report: reportSchema.prefault({}),
    metrics: z.strictObject({
      tensorboard: z.boolean().default(false)
        .describe("whether event files are written to the store's folder tensorboard"),
    }).prefault({}),
  });
  return fields.superRefine((configuration, context) => {
    // The sizes of cells depend on the vocabulary, whose section has its own problems. A wrong base is wrong in every cell.
    const { tokenizer } = configuration;
    const wrongBase = context.issues.some(({ path }) => path?.[0] === "model");
    const problems = !wrongBase && parts.tokenizer.safeParse(tokenizer).success
      ? checkExperiment(configuration, { vocab_size: parts.vocabularySize(tokenizer) })
      : checkSections(configuration);
    for (const { path, message } of problems) {
      context.addIssue({ code: "custom", path: [...path], message, input: undefined });
    }
  });
}

/** Rules between sections: first of the base, then of every cell that the factors make. */
function checkExperiment(plan: CellPlan, tools: CellTools): CellProblem[] {
  const base = checkSections(plan);
  if (base.length > 0) return base;
  const problems = plan.ablations.flatMap((_, index) => checkFactor(plan, index, tools));
  problems.push(...checkSeeds(plan));
  const seedProblem = missingBaseSeed(plan, plan.ablation_seeds, ["ablation_seeds"]);
  if (seedProblem !== undefined) problems.push(seedProblem);
  if (problems.length === 0 && plan.combine === "grid") problems.push(...checkGrid(plan, tools));
  return problems;
}

/** Every value of a factor must come to a valid configuration. */
function checkFactor(plan: CellPlan, index: number, tools: CellTools): CellProblem[] {
  const factor = plan.ablations[index] as Factor;
  const problems: CellProblem[] = [];
  if (plan.ablations.findIndex(({ name }) => name === factor.name) < index) {
    problems.push({
      path: ["ablations", index, "name"],
      message: `two factors are named ${factor.name}`,
    });
  }
  const seeds = missingBaseSeed(plan, factor.seeds, ["ablations", index, "seeds"]);
  if (seeds !== undefined) problems.push(seeds);
  const refuseInGrid = (path: (string | number)[]) => {
    if (plan.combine !== "grid") return;
    problems.push({
      path: ["ablations", index, ...path, "seeds"],
      message: "a grid's cells belong to all factors; set ablation_seeds instead",
    });
  };
  if (factor.seeds !== undefined) refuseInGrid([]);
  for (const [position, variant] of variantsOf(factor).entries()) {
    if (variant.seeds !== undefined) {
      refuseInGrid(["variants", position]);
      const path = ["ablations", index, "variants", position, "seeds"];
      const problem = missingBaseSeed(plan, variant.seeds, path);
      if (problem !== undefined) problems.push(problem);
    }
    const result = applyVariant(plan, variant, tools);
    if ("model" in result) continue;
    const list = factor.variants === undefined ? "values" : "variants";
    for (const { path, message } of result) {
      // A wrong key is wrong for every value: say it once, at the key.
      const wrongKey = /^unknown key|^the key is now|^a factor changes/.test(message);
      if (wrongKey && list === "values" && position > 0) continue;
      problems.push({
        path: wrongKey && list === "values"
          ? ["ablations", index, "path"]
          : ["ablations", index, list, position],
        message: `${variant.value} gives ${path.join(".")}: ${message}`,
      });
    }
  }
  return problems;
}

/** Every combination of a grid must come to a valid configuration. */
function checkGrid(plan: CellPlan, tools: CellTools): CellProblem[] {
  const count = plan.ablations.reduce((n, factor) => n * variantsOf(factor).length, 1);
  if (count > MAXIMUM_CELLS) {
    return [{
      path: ["ablations"],
      message: `the grid has ${count} cells; at most ${MAXIMUM_CELLS}`,
    }];
  }
  return combinations(plan.ablations).flatMap((choices) => {
    const result = applyVariant(plan, joinVariants(choices), tools);
    if ("model" in result) return [];
    const name = choices.map(({ factor, variant }) => `${factor.name}=${variant.value}`).join(",");
    return result.map(({ path, message }) => ({
      path: ["ablations"],
      message: `${name} gives ${path.join(".")}: ${message}`,
    }));
  });
}

/** `seed` is added to every training seed. */
function checkSeeds(plan: CellPlan): CellProblem[] {
  const lists = [
    plan.seeds,
    plan.ablation_seeds,
    ...plan.ablations.flatMap((factor) => [
      factor.seeds,
      ...variantsOf(factor).map(({ seeds }) => seeds),
    ]),
  ];
  const largest = Math.max(...lists.flatMap((list) => list ?? []));
  if (plan.seed + largest <= LARGEST_TRAINING_SEED) return [];
  return [{
    path: ["seed"],
    message: `${plan.seed} and the training seed ${largest} come to ${plan.seed + largest}; ` +
      `at most ${LARGEST_TRAINING_SEED}`,
  }];
}

/** A cell is compared with the base of the same seed, so the base must have been trained with it. */
function missingBaseSeed(
  plan: CellPlan,
  seeds: readonly number[] | undefined,
  path: readonly (string | number)[],
): CellProblem | undefined {
  const missing = seeds?.filter((seed) => !plan.seeds.includes(seed)) ?? [];
  if (missing.length === 0) return undefined;
  return {
    path,
    message: `the base has no run with seed ${missing.join(", ")} to compare with; its seeds are ${
      plan.seeds.join(", ")
    }`,
  };
}
