/**
 * `ablate`: what each value of each factor does to held-out loss, speed and memory.
 *
 * `ablation.json` holds what is a function of the runs' keys: per cell a summary over seeds of every number that an
 * evaluation reports, per factor and value the paired difference to the base. `measured` holds what a clock or an
 * allocator said of the same cells, so that `ablation` is the same bits from run to run.
 *
 * @module
 */

import { z } from "zod";
import { defineStage, type NodeOutput } from "../../pipeline/stage.ts";
import { type Ablation, factorValue, type MeasuredRow } from "./result.ts";
import {
  CONFIDENCE,
  median,
  pairedDifference,
  type PairedSummary,
  summarize,
  type Summary,
} from "./statistics.ts";

const ablateParams = z.strictObject({
  cells: z.array(z.strictObject({
    name: z.string(),
    base: z.boolean(),
    factors: z.record(z.string(), factorValue),
  })).min(1),
  factors: z.array(z.strictObject({
    name: z.string(),
    title: z.string(),
    values: z.array(z.strictObject({ value: factorValue, cell: z.string() })).min(1),
  })),
  runs: z.array(z.strictObject({ cell: z.string(), seed: z.int() })).min(1)
    .describe("what the train and evaluate inputs are, in their order"),
});

/** Parameters of the stage: the cells and which input is which run. */
export type AblateParams = z.infer<typeof ablateParams>;

/** One run's numbers: the evaluation of one cell with one seed. */
export interface AblationRun {
  readonly cell: string;
  readonly seed: number;
  readonly metrics: Readonly<Record<string, number>>;
}

/** The stage. */
export const ablate = defineStage<AblateParams>({
  name: "ablate",
  description: "Compares every cell with the base: means, 95 % intervals, paired differences",
  module: import.meta.url,
  params: ablateParams,
  outputs: { ablation: "json", measured: "measured" },
  readsMeasured: true,
  async run({ params, inputs, json, measured, log }) {
    const evaluations = requireInputs(inputs.evaluate, "evaluate", params.runs.length);
    const trained = requireInputs(inputs.train, "train", params.runs.length);
    const runs = params.runs.map((run, index) => ({
      ...run,
      metrics: numbersOf(evaluations[index] as NodeOutput),
    }));
    json("ablation", compare(params, runs));

    const rows: MeasuredRow[] = [];
    for (const { name: cell } of params.cells) {
      const nodes = trained.filter((_, index) => params.runs[index]?.cell === cell);
      const found = await measuredOf(nodes);
      rows.push(...found.map(({ quantity, values }) => ({ cell, quantity, ...summarize(values) })));
      if (found.length === 0) log.warn(`No speed or memory was measured for ${cell}`);
    }
    measured("measured", rows);
  },
});

/**
 * Summaries of all cells and the paired differences of all factors.
 *
 * @throws {Error} If a cell has no runs, or a run names no cell.
 */
export function compare(params: AblateParams, runs: readonly AblationRun[]): Ablation {
  const base = params.cells.find((cell) => cell.base);
  if (base === undefined) throw new Error("No cell is the base");
  const byCell = Map.groupBy(runs, ({ cell }) => cell);
  const runsOf = (cell: string): readonly AblationRun[] => {
    const found = byCell.get(cell);
    if (found === undefined) throw new Error(`Cell ${cell} has no runs`);
    return found;
  };
  const baseRuns = runsOf(base.name);
  return {
    confidence: CONFIDENCE,
    base: base.name,
    cells: params.cells.map((cell) => ({
      ...cell,
      seeds: runsOf(cell.name).map(({ seed }) => seed),
      metrics: summarizeRuns(runsOf(cell.name)),
    })),
    factors: params.factors.map(({ name, title, values }) => ({
      name,
      title,
      values: values.map(({ value, cell }) => ({
        value,
        cell,
        base: cell === base.name,
        difference: cell === base.name ? null : differences(runsOf(cell), baseRuns),
      })),
    })),
  };
}

/** Summaries by metric, of the metrics that every run has. */
function summarizeRuns(runs: readonly AblationRun[]): Record<string, Summary> {
  return Object.fromEntries(
    sharedMetrics(runs).map((name) => [
      name,
      summarize(runs.map(({ metrics }) => metrics[name] as number)),
    ]),
  );
}

/** Paired differences by metric, over the seeds that both have. */
function differences(
  runs: readonly AblationRun[],
  base: readonly AblationRun[],
): Record<string, PairedSummary> {
  const pairs = runs.flatMap((run) => {
    const other = base.find(({ seed }) => seed === run.seed);
    return other === undefined ? [] : [[run, other] as const];
  });
  if (pairs.length === 0) return {};
  return Object.fromEntries(
    sharedMetrics(pairs.flat()).map((name) => [
      name,
      pairedDifference(
        pairs.map(([run]) => run.metrics[name] as number),
        pairs.map(([, other]) => other.metrics[name] as number),
      ),
    ]),
  );
}

/** Metrics that every run has, in alphabetical order. */
function sharedMetrics(runs: readonly AblationRun[]): string[] {
  return Object.keys(runs[0]?.metrics ?? {})
    .filter((name) => runs.every(({ metrics }) => metrics[name] !== undefined))
    .sort();
}

/** The finite numbers at the top of an evaluation. */
function numbersOf(node: NodeOutput): Record<string, number> {
  const evaluation = node.json("evaluation");
  if (typeof evaluation !== "object" || evaluation === null || Array.isArray(evaluation)) {
    throw new Error(`The evaluation of ${node.name} is no object`);
  }
  const numbers = Object.entries(evaluation).filter((entry): entry is [string, number] =>
    Number.isFinite(entry[1])
  );
  if (!numbers.some(([name]) => name === "nats")) {
    throw new Error(`The evaluation of ${node.name} has no finite nats`);
  }
  return Object.fromEntries(numbers);
}

/**
 * The measurements of each run: the median of its tokens/s, so that the first steps (compilation) weigh nothing, and the
 * largest of its memory.
 */
async function measuredOf(
  nodes: readonly NodeOutput[],
): Promise<{ quantity: MeasuredRow["quantity"]; values: number[] }[]> {
  const runs = await Promise.all(nodes.map((node) => node.metrics()));
  const reduced = (
    quantity: MeasuredRow["quantity"],
    reduce: (values: readonly number[]) => number,
  ) => {
    const values = runs.map((rows) =>
      rows.flatMap(({ name, value }) => name === quantity && value !== null ? [value] : [])
    );
    return { quantity, values: values.filter(({ length }) => length > 0).map(reduce) };
  };
  return [
    reduced("tokens_per_second", median),
    reduced("memory_bytes", (values) => Math.max(...values)),
  ].filter(({ values }) => values.length > 0);
}

function requireInputs(
  nodes: readonly NodeOutput[] | undefined,
  name: string,
  count: number,
): readonly NodeOutput[] {
  if (nodes?.length !== count) {
    throw new Error(`Expected ${count} ${name} inputs, one a run, got ${nodes?.length ?? 0}`);
  }
  return nodes;
}
