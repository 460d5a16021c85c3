/**
 * Sparse Expansion as nodes of the pipeline.
 *
 * ```text
 * pretrained ─▶ calibrate ─▶ expand[cell] ─▶ perplexity[cell] ─▶ report
 *      │            └────────▶ perplexity[dense] ────────────────▶─┘
 *      └─ or: download ─▶ tokenize ─▶ train[made] ─▶ publish
 * ```
 *
 * @module
 */

import { BYTE_VOCABULARY, llamaSection } from "../../model/pretrained/export.ts";
import type { JsonValue, NodeSpec, ResultSpec, Stage } from "../../pipeline/stage.ts";
import type { MadeSection } from "../pretrained/config.ts";
import { DENSE_LABELS, expansionCells } from "./cells.ts";
import type { SparseExpansionConfiguration } from "./config.ts";

/** The stages that are wired together. */
// deno-lint-ignore no-explicit-any -- each stage's schema checks its own parameters
export type SparseExpansionStages = Readonly<Record<StageName, Stage<any>>>;

type StageName =
  | "download"
  | "tokenize"
  | "train"
  | "publish"
  | "pretrained"
  | "calibrate"
  | "expand"
  | "perplexity"
  | "report";

/** Share of a made model's text that its training holds out: even little text has a document of it. */
const MADE_VALIDATION = 0.1;

/** The nodes of an experiment, each after its inputs. */
export interface SparseExpansionNodes {
  readonly nodes: readonly NodeSpec[];
  readonly results: readonly ResultSpec[];
  /** The nodes that measure, the dense model's first. */
  readonly perplexity: readonly NodeSpec[];
  /** The nodes that expand, in the order of the cells. */
  readonly expand: readonly NodeSpec[];
}

/** The parts that {@linkcode sparseExpansion} builds on. */
interface SparseExpansionOptions {
  readonly stages: SparseExpansionStages;
  /** Digest of the files of a model in a folder. */
  readonly fingerprint?: string | undefined;
}

/**
 * Wires the nodes of a configuration. The nodes `expand` and `perplexity` carry the labels of their cell (`cellLabelsSchema`).
 *
 * Only those keys of a cell go into a node that its stage reads, so that a second experiment with some of the same cells finds them.
 */
export function sparseExpansion(
  configuration: SparseExpansionConfiguration,
  { stages, fingerprint }: SparseExpansionOptions,
): SparseExpansionNodes {
  const { model, calibration, evaluation, neurons, seed } = configuration;
  const { seed: drawn = seed, ...windows } = calibration;
  const { micro_batch, ...text } = evaluation;
  const before: NodeSpec[] = model.made ? madeNodes(model.made, { stages, seed }) : [{
    stage: stages.pretrained,
    params: json({ name: model.name, revision: model.revision, fingerprint }),
  }];
  const dense = before.at(-1)!;
  const calibrate: NodeSpec = {
    stage: stages.calibrate,
    params: json({ calibration: windows, evaluation: text, seed: drawn }),
    inputs: { model: [dense] },
  };
  const cells = expansionCells(configuration);
  const expand = cells.map(({ name, labels, expansion, pruning }): NodeSpec => ({
    stage: stages.expand,
    label: name,
    labels: { ...labels },
    params: json({ expansion, pruning, seed, neurons }),
    inputs: { model: [dense], calibrate: [calibrate] },
  }));
  const measured = (label: string, more: Pick<NodeSpec, "labels" | "inputs">): NodeSpec => ({
    stage: stages.perplexity,
    label,
    params: { micro_batch },
    labels: { ...more.labels },
    inputs: { calibrate: [calibrate], ...more.inputs },
  });
  const perplexity = [
    measured(DENSE_LABELS.cell, { labels: { ...DENSE_LABELS }, inputs: { model: [dense] } }),
    ...cells.map(({ name, labels }, i) =>
      measured(name, { labels: { ...labels }, inputs: { expanded: [expand[i]!] } })
    ),
  ];
  const report: NodeSpec = {
    stage: stages.report,
    params: json(configuration.report),
    inputs: { model: [dense], calibrate: [calibrate], expand, perplexity },
  };
  return {
    nodes: [...before, calibrate, ...expand, ...perplexity, report],
    results: [{ node: report, output: "report", to: configuration.results }],
    perplexity,
    expand,
  };
}

/** Nodes that train a small Llama of single bytes and write it as a published model, the last. */
function madeNodes(
  { max_bytes, train, ...sizes }: MadeSection,
  { stages, seed }: { readonly stages: SparseExpansionStages; readonly seed: number },
): NodeSpec[] {
  const download: NodeSpec = {
    stage: stages.download,
    params: { source: "embedded", max_bytes },
  };
  const tokenize: NodeSpec = {
    stage: stages.tokenize,
    params: {
      vocabulary: "compact",
      vocab_size: BYTE_VOCABULARY,
      validation_fraction: MADE_VALIDATION,
    },
    inputs: { download: [download] },
  };
  const trained: NodeSpec = {
    stage: stages.train,
    label: "made",
    params: json({ model: llamaSection(sizes), train, seed }),
    inputs: { dataset: [tokenize] },
  };
  const publish: NodeSpec = {
    stage: stages.publish,
    params: json({ ...sizes, positions: train.sequence_length }),
    inputs: { train: [trained] },
  };
  return [download, tokenize, trained, publish];
}

/** A section as plain JSON: optional keys that are undefined are left out. */
function json(value: unknown): JsonValue {
  return JSON.parse(JSON.stringify(value)) as JsonValue;
}
