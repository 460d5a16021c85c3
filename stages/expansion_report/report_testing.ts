/**
 * Made-up inputs for tests of the report of Sparse Expansion. Never a result of anything.
 *
 * @module
 */

import {
  gaussianDistance,
  histogram,
  standardised,
} from "../../model/sparse/entanglement/wasserstein.ts";
import { EXPANSION, matchAll, PRUNING } from "../../model/sparse/options.ts";
import type { JsonValue, NodeOutput } from "../../pipeline/stage.ts";
import type { TextsResult } from "../calibrate/result.ts";
import type { NeuronsResult } from "../expand/neurons_result.ts";
import type { ExpansionResult, SiteResult } from "../expand/result.ts";
import type { CellLabels, PerplexityResult } from "../perplexity/result.ts";
import type { DenseModelResult } from "../pretrained/result.ts";
import { madeUpNode } from "../report/report_testing.ts";

/** Nats of the made-up dense model. */
export const MADE_UP_NATS = 1.4;

const [BLOCKS, D, F, ROWS, WINDOWS] = [5, 64, 172, 4096, 12];
const MATRIX = D * F;

/** A made-up cell. */
interface MadeUpCell {
  readonly sparsity: number | string;
  readonly clusters: number;
  readonly method?: string;
  readonly control?: "rows" | "random" | "matched";
}

/** Changes of a test. */
export interface MadeUpOptions {
  readonly sparsities?: readonly (number | string)[];
  readonly clusters?: readonly number[];
  readonly controls?: readonly ("rows" | "random" | "matched")[];
  readonly windows?: number;
  readonly bits?: number;
  /** Nats that are added to what the formula gives. */
  readonly add?: (cell: MadeUpCell) => number;
}

/** Part of the weights that is pruned. */
function partOf(sparsity: number | string): number {
  if (typeof sparsity === "number") return sparsity;
  const [zeros, group] = sparsity.split(":").map(Number);
  return zeros! / group!;
}

function nameOf({ sparsity, clusters, method, control }: MadeUpCell): string {
  return [
    `sparsity=${sparsity}`,
    `clusters=${clusters}`,
    ...method ? [`method=${method}`] : [],
    ...control ? [`control=${control}`] : [],
  ].join(",");
}

/** Labels of a cell; of one that is matched to others the sparsity that it then has. */
function labelsOf(cell: MadeUpCell, bits: number | undefined): CellLabels {
  const { sparsity, clusters, method = "sparsegpt", control } = cell;
  const own = partOf(sparsity);
  const matched = control === "matched";
  const plain: MadeUpCell = { sparsity, clusters, ...(cell.method && { method }) };
  return {
    cell: nameOf(cell),
    dense: false,
    sparsity: matched ? Math.max(0, 1 - clusters * (1 - own)) : own,
    pattern: typeof sparsity === "string" ? sparsity : null,
    bits: bits ?? null,
    clusters: matched ? 1 : clusters,
    method,
    control: control ?? null,
    of: control ? nameOf(plain) : null,
  };
}

/** Cross-entropy above the dense model's, by a formula. */
function excess({ sparsity, clusters, method, control }: MadeUpCell): number {
  const pruned = partOf(sparsity);
  const unstructured = typeof sparsity === "number" ? 1 : 1.5;
  const base = 1.4 * unstructured * pruned ** 2 / (1 - pruned) ** 0.7;
  if (method === "magnitude") return 1.3 * base;
  const gain = { rows: 0.06, random: 0.05, matched: 0.14, none: 0.08 }[control ?? "none"];
  return base * Math.max(0.1, 1 - gain * Math.log2(clusters));
}

/** All cells of a made-up experiment. */
export function madeUpCells(options: MadeUpOptions = {}): MadeUpCell[] {
  const { sparsities = [0.5, 0.75, 0.9, "2:4"], clusters = [1, 4, 16] } = options;
  const { controls = ["rows", "random", "matched"] } = options;
  return sparsities.flatMap((sparsity) => [
    ...clusters.flatMap((count): MadeUpCell[] => [
      { sparsity, clusters: count },
      ...(count === 1 ? [] : controls).filter((control) =>
        control !== "matched" || !matchAll({
          expansion: { ...EXPANSION, clusters: count },
          pruning: { ...PRUNING, sparsity: partOf(sparsity) },
        }).dense
      ).map((control) => ({ sparsity, clusters: count, control })),
    ]),
    { sparsity, clusters: 1, method: "magnitude" },
  ]);
}

function perplexityOf(
  nats: number,
  windows: number,
  cell: MadeUpCell | undefined,
): PerplexityResult {
  const losses = Array.from(
    { length: windows },
    (_, i) => nats + 0.1 * Math.sin(5 * i) + (cell ? 0.004 * Math.sin(i * i + cell.clusters) : 0),
  );
  const mean = losses.reduce((a, b) => a + b) / windows;
  const dense = 3 * BLOCKS * MATRIX;
  const kept = cell ? 1 - partOf(cell.sparsity) : 1;
  const copies = cell?.clusters ?? 1;
  const router = cell ? BLOCKS * (D + F) * copies : 0;
  return {
    nats: mean,
    perplexity: Number.isFinite(Math.exp(mean)) ? Math.exp(mean) : null,
    predictions: windows * 511,
    windows,
    losses,
    mlp: {
      stored_bits: cell ? copies * dense * (1 + 16 * kept) + 32 * router : 16 * dense,
      multiply_adds: dense * kept * (cell?.control === "matched" ? copies : 1) + router,
      stored_weights: dense * kept * copies,
    },
  };
}

/** Sizes that are the less even the later the block. */
function sizesOf(clusters: number, block: number): number[] {
  const weights = Array.from({ length: clusters }, (_, j) => 1 / (1 + 0.1 * (block + 1) * j));
  const all = weights.reduce((a, b) => a + b);
  const sizes = weights.map((weight) => Math.floor(ROWS * weight / all));
  sizes[0]! += ROWS - sizes.reduce((a, b) => a + b);
  return sizes;
}

function expansionOf(cell: MadeUpCell): ExpansionResult {
  const clusters = cell.control === "matched" ? 1 : cell.clusters;
  const site = (inputs: number, outputs: number, block: number, names: string[]): SiteResult => ({
    inputs,
    inertia: 12.5,
    sizes: sizesOf(clusters, block),
    dampings: Array.from({ length: clusters }, (_, j) => j === 3 ? 2 : 1),
    layers: Object.fromEntries(names.map((name) => [name, {
      outputs,
      losses: new Array<number>(clusters).fill(0.1),
      kept: new Array<number>(clusters).fill(MATRIX / 2),
    }])),
    stored_bits: 1e6,
    dense_bits: 2e6,
    multiply_adds: 1e4,
    dense_multiply_adds: 2e4,
  });
  return {
    blocks: Array.from({ length: BLOCKS }, (_, block) => ({
      in: site(D, F, block, ["gate", "up"]),
      mid: site(F, D, block, ["down"]),
    })),
    stored_bits: 1e7,
    dense_bits: 2e7,
    multiply_adds: 1e5,
    dense_multiply_adds: 2e5,
  };
}

const bins = { reach: 5, bins: 50 };

/** Neurons of two modes that move apart from one to the next. */
function neuronsOf(cell: MadeUpCell): NeuronsResult {
  const count = 9;
  return {
    bins,
    blocks: Array.from({ length: BLOCKS }, (_, block) => ({
      layers: [["in", "gate"], ["in", "up"], ["mid", "down"]].map(([site, layer], at) => {
        const outputs = Array.from(
          { length: count },
          (_, i) =>
            Array.from(
              { length: 600 },
              (_, t) =>
                Math.sin(t * t + i) + Math.sin(3 * t * t) + (t % 2) * i * (block + 1 + at) / 8,
            ),
        );
        const dense = outputs.map(gaussianDistance);
        const kept = [0, count - 1];
        return {
          site: site as "in" | "mid",
          layer: layer!,
          neurons: Array.from({ length: count }, (_, i) => 7 * i + 3),
          rows: sizesOf(cell.clusters, block),
          dense,
          split: dense.map((value) => value + 0.02),
          clustered: dense.map((value, i) => value * 0.8 + 0.03 * (i % 3)),
          expert: dense.map((value, i) => value * 0.75 + 0.03 * (i % 3)),
          histograms: kept.map((i) => ({
            neuron: 7 * i + 3,
            dense: histogram(standardised(outputs[i]!), bins),
            expert: histogram(standardised(outputs[i]!.filter((_, t) => t % 2 === 0)), bins),
          })),
        };
      }),
    })),
  };
}

/** A value as an output holds it. */
const json = (value: unknown): JsonValue => JSON.parse(JSON.stringify(value));

/** Inputs of the report of a made-up experiment. */
export function madeUpExpansion(
  options: MadeUpOptions = {},
): Readonly<Record<string, readonly NodeOutput[]>> {
  const { windows = WINDOWS, bits, add = () => 0 } = options;
  const cells = madeUpCells(options);
  const model: DenseModelResult = {
    name: "made-up/stories",
    commit: "fedcba9876543210".repeat(2),
    family: "llama",
    files: [{ path: "config.json", bytes: 700, sha256: "ab".repeat(32), published: true }],
    blocks: BLOCKS,
    d_model: D,
    d_ffn: F,
    vocab_size: 512,
    positions: 512,
    parameters: 260_032,
    mlp_parameters: 165_120,
  };
  const text = {
    dataset: "files" as const,
    files: [{ path: "made-up.txt", sha256: null }],
    revision: null,
    documents: 100,
    bytes: 200_000,
    tokens: 90_000,
    windows,
    length: 512,
  };
  const texts: TextsResult = {
    calibration: { ...text, windows: 64, starts: [0, 100] },
    evaluation: text,
  };
  const dense: CellLabels = {
    cell: "dense",
    dense: true,
    sparsity: null,
    pattern: null,
    bits: null,
    clusters: null,
    method: null,
    control: null,
    of: null,
  };
  const measured = (name: string, labels: CellLabels, result: PerplexityResult) =>
    madeUpNode("perplexity", {
      name: `perplexity[${name}]`,
      labels: { ...labels },
      json: { perplexity: json(result) },
      measured: { timings: { seconds: 2, tokens_per_second: 3000, peak_bytes: 2 ** 27 } },
    });
  return {
    model: [madeUpNode("pretrained", { json: { model: json(model) } })],
    calibrate: [madeUpNode("calibrate", { json: { texts: json(texts) } })],
    expand: cells.map((cell) =>
      madeUpNode("expand", {
        name: `expand[${nameOf(cell)}]`,
        labels: { ...labelsOf(cell, bits) },
        json: { expansion: json(expansionOf(cell)), neurons: json(neuronsOf(cell)) },
        measured: { timings: { seconds: 10, blocks: BLOCKS, peak_bytes: 2 ** 28 } },
      })
    ),
    perplexity: [
      measured("dense", dense, perplexityOf(MADE_UP_NATS, windows, undefined)),
      ...cells.map((cell) =>
        measured(
          nameOf(cell),
          labelsOf(cell, bits),
          perplexityOf(MADE_UP_NATS + excess(cell) + add(cell), windows, cell),
        )
      ),
    ],
  };
}
