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
import type { InitialSection, TrainSection } from "../../model/training/config.ts";
import type { ExperimentConfiguration } from "./config.ts";
import type { PlannedStart } from "./initial_models.ts";

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
  /** The models that trainings start from, by {@linkcode startKey} of their sections. */
  readonly starts?: ReadonlyMap<string, PlannedStart>;
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
  const { stages, vocab_size, starts = new Map() } = options;
  const { cells, factors } = expandCells(configuration, { vocab_size });

  const download: NodeSpec = { stage: stages.download, params: configuration.data };
  const tokenize: NodeSpec = {
    stage: stages.tokenize,
    params: configuration.tokenizer,
    inputs: { download: [download] },
  };
  const runs = cells.flatMap((cell) => cell.seeds.map((seed) => ({ cell, seed })));
  const published = publishedNodes(cells, starts);
  /** The training of a cell; where it is extended, after the finished one, which it reads. */
  const trainings = runs.map(({ cell, seed }): NodeSpec[] => {
    const { extend, initial, ...rest } = cell.train;
    const key = initial && startKey(initial);
    const start = key === undefined ? undefined : published.get(key);
    const node = (
      label: string,
      train: TrainSection,
      inputs: Record<string, NodeSpec[]>,
    ): NodeSpec => ({
      stage: stages.train,
      label,
      labels: labelsOf(cell, seed),
      params: json({ model: cell.model, train, seed }),
      inputs: { dataset: [tokenize], ...inputs },
    });
    // With the digest of the model that it starts from: another file makes another node.
    const section = {
      ...rest,
      ...(initial && { initial: { ...initial, ...starts.get(key!)?.found } }),
    };
    const finished = node(
      `${cell.name},seed=${seed}`,
      section,
      start ? { initial: [start] } : {},
    );
    if (extend === undefined) return [finished];
    return [
      finished,
      node(`${cell.name},seed=${seed},extend=${extend}`, { ...rest, extend }, {
        finished: [finished],
      }),
    ];
  });
  const train = trainings.map((nodes) => nodes.at(-1)!);
  const evaluate = runs.map(({ cell, seed }, index): NodeSpec => ({
    stage: stages.evaluate,
    label: train[index]!.label!,
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
  // The times do not depend on the weights that a training starts from, nor on its length, nor on samples.
  const {
    initial: _,
    extend: __,
    sample_every: ___,
    sample_prompts: ____,
    sample_tokens: _____,
    sample_temperature: ______,
    ...timed
  } = base.cell.train;
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
    nodes: [
      download,
      tokenize,
      ...new Set(published.values()),
      ...trainings.flat(),
      ...evaluate,
      benchmark,
      ablate,
      report,
    ],
    results: [{ node: report, output: "report", to: configuration.results }],
  };
}

/** Name of the node that trains a cell. */
export function trainingName(cell: string, seed: number): string {
  return `train[${cell},seed=${seed}]`;
}

/** A section `train.initial` as a key of a map. */
export function startKey(initial: InitialSection): string {
  return JSON.stringify(initial);
}

/** A node for each published model that a cell starts from, by {@linkcode startKey}; sections of one model share it. */
function publishedNodes(
  cells: readonly Cell[],
  starts: ReadonlyMap<string, PlannedStart>,
): Map<string, NodeSpec> {
  const nodes = new Map<string, NodeSpec>();
  const found = new Map<string, NodeSpec>();
  for (const { train: { initial } } of cells) {
    const published = initial && starts.get(startKey(initial))?.pretrained;
    if (!initial || !published) continue;
    const { stage, params } = published;
    const { name, revision } = params;
    const label = (revision === undefined ? name : `${name} ${revision}`)
      .replace(/[\[\]\n\r\t,"]/g, "_");
    const node = nodes.get(label) ?? { stage, label, params: json(params) };
    nodes.set(label, node);
    found.set(startKey(initial), node);
  }
  return found;
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
