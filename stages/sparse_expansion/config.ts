/**
 * The configuration of Sparse Expansion: the sections of its stages, and the rules that tie them together.
 *
 * @module
 */

import { z } from "zod";
import { slug } from "../ablate/config.ts";
import { calibrationSchema, evaluationSchema } from "../calibrate/config.ts";
import { folder } from "../experiment/fields.ts";
import {
  clusters,
  expansionSectionSchema,
  neuronsSectionSchema,
  pruningSectionSchema,
  type Sparsity,
  sparsity,
} from "../expand/config.ts";
import { expansionReportSchema } from "../expansion_report/config.ts";
import { publishedModelSchema } from "../pretrained/config.ts";
import { type ExpansionCell, expansionCells, MOST_CELLS } from "./cells.ts";

/** The value of the key `experiment`. */
export const SPARSE_EXPANSION = "sparse_expansion";

const distinct = <Schema extends z.ZodType<Sparsity>>(item: Schema) =>
  z.array(item).max(64).refine((list) => new Set(list).size === list.length, {
    error: "a value is listed twice",
  });

const gridSchema = z.strictObject({
  sparsities: distinct(sparsity).min(1).optional()
    .describe("sparsities of the cells; that of pruning unless given"),
  clusters: distinct(clusters).min(1).optional()
    .describe("clusters of the cells; those of expansion unless given"),
  methods: distinct(z.enum(["sparsegpt", "magnitude"])).min(1).default(["sparsegpt"]).describe(
    "how weights are chosen; magnitude looks at no inputs, and so has no clusters",
  ),
  controls: distinct(z.enum(["rows", "random", "matched"])).default([]).describe(
    "of each cell with clusters: centroids that are rows or random directions, or one expert that keeps as many weights as all of them",
  ),
});

const fields = z.strictObject({
  name: slug.describe("name of the experiment"),
  experiment: z.literal(SPARSE_EXPANSION).describe("the kind of experiment"),
  seed: z.int().min(0).max(2 ** 31 - 1).default(0)
    .describe("of the calibration windows, of k-means, and of a made model"),
  results: folder.default("results/sparse_expansion").describe("where the report is copied to"),
  model: publishedModelSchema,
  calibration: calibrationSchema.prefault({}),
  evaluation: evaluationSchema.prefault({}),
  expansion: expansionSectionSchema.prefault({}),
  pruning: pruningSectionSchema.prefault({}),
  grid: gridSchema.prefault({}),
  neurons: neuronsSectionSchema.prefault({}),
  report: expansionReportSchema.prefault({}),
});

/** A validated configuration of Sparse Expansion. */
export type SparseExpansionConfiguration = z.infer<typeof fields>;

/** The schema of a configuration of Sparse Expansion. */
export const sparseExpansionSchema: z.ZodType<SparseExpansionConfiguration> = fields.superRefine(
  (configuration, context) => {
    const { pruning, grid } = configuration;
    // Cells are made of sparsities, which have problems of their own.
    const sparsities = [pruning.sparsity, ...grid.sparsities ?? []];
    if (!sparsities.every((value) => sparsity.safeParse(value).success)) return;
    for (const { path, message } of problemsOf(configuration)) {
      context.addIssue({ code: "custom", path: [...path], message, input: undefined });
    }
  },
);

/** A fault of a configuration. */
export interface ExpansionProblem {
  /** Key from the top of the configuration. */
  readonly path: readonly (string | number)[];
  readonly message: string;
}

/** Sizes of a model that rules depend on. */
export interface ModelWidths {
  readonly d_model: number;
  readonly d_ffn: number;
  /** Tokens of its longest sequence; undefined where nothing says. */
  readonly positions: number | undefined;
}

/** Rules between the sections, and those that need the model's sizes where they are known. */
export function problemsOf(
  configuration: SparseExpansionConfiguration,
  widths?: ModelWidths,
): ExpansionProblem[] {
  const { calibration, evaluation, expansion, pruning, grid } = configuration;
  const problems: ExpansionProblem[] = [];
  const cells = expansionCells(configuration);
  if (cells.length > MOST_CELLS) {
    return [{ path: ["grid"], message: `${cells.length} cells; at most ${MOST_CELLS}` }];
  }
  if (grid.controls.includes("random") && !expansion.pca) {
    const path = ["grid", "controls", grid.controls.indexOf("random")];
    problems.push({
      path,
      message: "random directions are of components; set expansion.pca: true",
    });
  }
  for (const [section, { length }] of Object.entries({ calibration, evaluation })) {
    const longest = widths?.positions ?? Infinity;
    if (length === undefined || length <= longest) continue;
    problems.push({
      path: [section, "length"],
      message: `${length} is more than the model's ${longest} positions`,
    });
  }
  const length = calibration.length ?? widths?.positions;
  const rows = length === undefined ? Infinity : calibration.samples * length;
  for (const cell of cells) {
    const message = cellProblem(cell, { rows, block: pruning.block, widths });
    if (message === undefined) continue;
    const path = placeOf(message.of, cell, grid);
    if (problems.some((known) => known.path.join() === path.join())) continue;
    problems.push({ path, message: message.text });
  }
  return problems;
}

/** The key that a cell's value came from. */
function placeOf(
  of: "sparsity" | "clusters" | "pca_factor",
  { sparsity, clusters }: ExpansionCell,
  { sparsities, clusters: counts }: SparseExpansionConfiguration["grid"],
): (string | number)[] {
  if (of === "pca_factor") return ["expansion", of];
  if (of === "sparsity") {
    return sparsities
      ? ["grid", "sparsities", sparsities.indexOf(sparsity)]
      : ["pruning", "sparsity"];
  }
  return counts ? ["grid", "clusters", counts.indexOf(clusters)] : ["expansion", "clusters"];
}

/** Says why a cell can't be. */
function cellProblem(
  { clusters, pruning, expansion }: ExpansionCell,
  { rows, block, widths }: { rows: number; block: number; widths: ModelWidths | undefined },
): { of: "sparsity" | "clusters" | "pca_factor"; text: string } | undefined {
  const { pattern } = pruning;
  const inputs = widths ? [widths.d_model, widths.d_ffn] : [];
  if (pattern) {
    const [zeros, group] = pattern;
    const shown = `${zeros}:${group}`;
    if (block % group !== 0) {
      const text = `blocks of ${block} columns do not divide into groups of ${group} for ${shown}`;
      return { of: "sparsity", text };
    }
    const odd = inputs.find((width) => width % group !== 0);
    if (odd !== undefined) {
      const text = `${odd} inputs of the model do not divide into groups of ${group} for ${shown}`;
      return { of: "sparsity", text };
    }
  }
  if (clusters > rows) {
    const text = `${clusters} clusters of ${rows} calibration rows; expected at most as many`;
    return { of: "clusters", text };
  }
  const { pca_factor } = expansion;
  const widest = Math.max(0, ...inputs);
  const components = pca_factor > 0 ? Math.floor(widest / pca_factor) : 0;
  if (components > rows - 1) {
    return {
      of: "pca_factor",
      text: `${pca_factor} keeps ${components} components of ${widest} inputs, expected at most ${
        rows - 1
      }, one less than the calibration's rows`,
    };
  }
  return undefined;
}
