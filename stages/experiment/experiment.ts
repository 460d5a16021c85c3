/**
 * The experiment: from a configuration to the nodes of the pipeline.
 *
 * ```text
 * download ─▶ tokenize ─▶ train[cell,seed] ─▶ evaluate[cell,seed] ─▶ ablate ─▶ report
 *                │              └────────────────────────────────────▶─┘         ▲
 *                └─▶ benchmark ─────────────────────────────────────────────────▶┘
 * ```
 *
 * @module
 */

import type { JsonValue, NodeSpec, ResultSpec, Stage } from "../../pipeline/stage.ts";
import { type Cell, type CellTools, expandCells } from "./cells.ts";
import type { TrainSection } from "../../model/training/config.ts";
import type { ExperimentConfiguration } from "./config.ts";

/** The stages that the experiment wires together. */
// deno-lint-ignore no-explicit-any -- the experiment hands parameters on; each stage's schema checks its own
export type ExperimentStages = Readonly<Record<StageName, Stage<any>>>;

/** Names of the stages. */
type StageName =
  | "download"
  | "tokenize"
  | "train"
  | "evaluate"
  | "ablate"
  | "benchmark"
  | "report";

/** The nodes of an experiment, each after its inputs. */
export interface Experiment {
  readonly nodes: readonly NodeSpec[];
  readonly results: readonly ResultSpec[];
}

/** The parts that {@linkcode experiment} builds on. */
export interface ExperimentOptions {
  /** The stages; tests pass their own. */
  readonly stages: ExperimentStages;
  /** Ids of the vocabulary, on which the size of a model depends. */
  readonly vocab_size: CellTools["vocab_size"];
  /** SHA-256 of the file that a `train.initial.checkpoint` names. */
  readonly initialDigests?: ReadonlyMap<string, string>;
}

/**
 * Wires the nodes of a configuration.
 *
 * A `train` and an `evaluate` node carry the labels `{cell, seed, base, factor, value, factors}`: the cell's name, the
 * training seed, whether it is the base, the factor and value that made the cell (null for the base) and, since the base
 * stands for a value of every factor, all of `factors` by name.
 */
export function experiment(
  configuration: ExperimentConfiguration,
  options: ExperimentOptions,
): Experiment {
  const { stages, vocab_size, initialDigests } = options;
  /** The section with the digest of the model that it starts from, so that another file makes another node. */
  const started = ({ initial, ...train }: TrainSection): TrainSection => {
    if (initial === undefined) return train;
    const fingerprint = initialDigests?.get(initial.checkpoint);
    return { ...train, initial: { ...initial, fingerprint } };
  };
  const { cells, factors } = expandCells(configuration, { vocab_size });

  const download: NodeSpec = { stage: stages.download, params: configuration.data };
  const tokenize: NodeSpec = {
    stage: stages.tokenize,
    params: configuration.tokenizer,
    inputs: { download: [download] },
  };
  const runs = cells.flatMap((cell) => cell.seeds.map((seed) => ({ cell, seed })));
  const train = runs.map(({ cell, seed }): NodeSpec => ({
    stage: stages.train,
    label: `${cell.name},seed=${seed}`,
    labels: labelsOf(cell, seed),
    params: json({ model: cell.model, train: started(cell.train), seed }),
    inputs: { dataset: [tokenize] },
  }));
  const evaluate = runs.map(({ cell, seed }, index): NodeSpec => ({
    stage: stages.evaluate,
    label: `${cell.name},seed=${seed}`,
    labels: labelsOf(cell, seed),
    params: json(configuration.evaluate),
    inputs: { train: [train[index] as NodeSpec], dataset: [tokenize] },
  }));
  const ablate: NodeSpec = {
    stage: stages.ablate,
    params: json({
      cells: cells.map(({ name, base, factors }) => ({ name, base, factors })),
      factors,
      runs: runs.map(({ cell, seed }) => ({ cell: cell.name, seed })),
    }),
    inputs: { train, evaluate },
  };
  const [base] = runs as [{ cell: Cell; seed: number }];
  // The times do not depend on the weights that a training starts from.
  const { initial: _, ...timed } = base.cell.train;
  const benchmark: NodeSpec = {
    stage: stages.benchmark,
    params: json({
      model: base.cell.model,
      train: timed,
      benchmark: configuration.benchmark,
      seed: base.seed,
    }),
    inputs: { dataset: [tokenize] },
  };
  const report: NodeSpec = {
    stage: stages.report,
    params: json(configuration.report),
    inputs: {
      download: [download],
      dataset: [tokenize],
      train,
      evaluate,
      ablate: [ablate],
      benchmark: [benchmark],
    },
  };
  return {
    nodes: [download, tokenize, ...train, ...evaluate, benchmark, ablate, report],
    results: [{ node: report, output: "report", to: configuration.results }],
  };
}

/** The labels of a run that downstream stages read. */
function labelsOf(cell: Cell, seed: number): Record<string, JsonValue> {
  const [first] = Object.entries(cell.factors);
  return {
    cell: cell.name,
    seed,
    base: cell.base,
    factor: cell.base ? null : first?.[0] ?? null,
    value: cell.base ? null : first?.[1] ?? null,
    factors: { ...cell.factors },
  };
}

/** A section as plain JSON: optional keys that are undefined are left out. */
function json(value: unknown): JsonValue {
  return JSON.parse(JSON.stringify(value)) as JsonValue;
}
