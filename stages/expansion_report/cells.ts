/**
 * The cells of an experiment of Sparse Expansion, compared: perplexities with their intervals, differences paired by window, and costs beside those of the dense model.
 *
 * @module
 */

import {
  pairedDifference,
  type PairedSummary,
  summarize,
  type Summary,
} from "../ablate/statistics.ts";
import type { CellLabels } from "../perplexity/result.ts";
import { fixed } from "../report/facts.ts";
import type { ExpansionData, MeasuredCell } from "./data.ts";

/** Kinds of cells of one sparsity. */
export type CellKind = "sparsegpt" | "clusters" | "magnitude" | "rows" | "random" | "matched";

/** A sparsity at which cells are compared. */
export interface Level {
  /** `50 %` or `2:4`; its space does not break. */
  readonly name: string;
  /** Part of the weights that is pruned. */
  readonly sparsity: number;
  readonly pattern: string | undefined;
}

/** A mean and the ends of its interval. */
export interface Interval {
  readonly mean: number;
  readonly low: number | null;
  readonly high: number | null;
}

/** Storage and work of all MLPs together. */
export interface Costs {
  readonly storedBits: number;
  readonly multiplyAdds: number;
}

/** A measured model. */
export interface Measurement extends Costs {
  /** Name of its cell. */
  readonly name: string;
  readonly node: MeasuredCell;
  /** Mean cross-entropy, over windows. */
  readonly nats: Summary;
  /** exp of `nats` and of the ends of its interval. */
  readonly perplexity: Interval;
  /** Costs over those of the dense model; undefined where that was not measured. */
  readonly relative: Costs | undefined;
}

/** An expanded model beside the others. */
export interface ComparedCell extends Measurement {
  readonly kind: CellKind;
  /** That of the cell that it is a control of, if it is one. */
  readonly level: Level;
  /** Clusters; of a control those of its cell. */
  readonly clusters: number;
  readonly bits: number | null;
  /** Nats more than SparseGPT with one cluster at its level, paired by window; undefined where that is not there, or is this. */
  readonly difference: PairedSummary | undefined;
  /** Of a control, nats more than its cell has. */
  readonly toOwn: PairedSummary | undefined;
}

/** All of an experiment. */
export interface Comparison {
  readonly dense: Measurement | undefined;
  readonly cells: readonly ComparedCell[];
  /** Levels in the order of their sparsity, patterns after numbers. */
  readonly levels: readonly Level[];
}

/** Compares the cells of an experiment. */
export function compareCells({ measured }: ExpansionData): Comparison {
  const dense = measured.find(({ labels }) => labels.dense);
  const cells = measured.filter(({ labels }) => !labels.dense);
  const byName = new Map(cells.map((node) => [node.labels.cell, node]));
  const ownOf = (node: MeasuredCell) => byName.get(node.labels.of ?? "") ?? node;
  const measuredDense = dense && measurement(dense, dense);
  const base = (node: MeasuredCell) =>
    cells.find(({ labels }) =>
      kindOf(labels) === "sparsegpt" && levelOf(labels).name === levelOf(ownOf(node).labels).name &&
      labels.bits === node.labels.bits
    );
  const compared = cells.map((node): ComparedCell => {
    const own = ownOf(node);
    return {
      ...measurement(node, dense),
      kind: kindOf(node.labels),
      level: levelOf(own.labels),
      clusters: own.labels.clusters ?? 1,
      bits: node.labels.bits,
      difference: difference(node, base(node)),
      toOwn: difference(node, own),
    };
  });
  const levels = [...new Map(compared.map(({ level }) => [level.name, level])).values()];
  return {
    dense: measuredDense,
    cells: compared,
    levels: levels.toSorted((a, b) =>
      Number(a.pattern !== undefined) - Number(b.pattern !== undefined) ||
      a.sparsity - b.sparsity || (a.name < b.name ? -1 : 1)
    ),
  };
}

function difference(
  node: MeasuredCell,
  base: MeasuredCell | undefined,
): PairedSummary | undefined {
  if (base === undefined || base === node) return undefined;
  const [own, other] = [node.result.losses, base.result.losses];
  return own.length === other.length ? pairedDifference(own, other) : undefined;
}

function measurement(node: MeasuredCell, dense: MeasuredCell | undefined): Measurement {
  const { losses, mlp } = node.result;
  const nats = summarize(losses);
  const exp = (value: number | null) => value === null ? null : Math.exp(value);
  const costs = { storedBits: mlp.stored_bits, multiplyAdds: mlp.multiply_adds };
  return {
    ...costs,
    name: node.labels.cell,
    node,
    nats,
    perplexity: { mean: Math.exp(nats.mean), low: exp(nats.low), high: exp(nats.high) },
    relative: dense && {
      storedBits: costs.storedBits / dense.result.mlp.stored_bits,
      multiplyAdds: costs.multiplyAdds / dense.result.mlp.multiply_adds,
    },
  };
}

function kindOf({ control, method, clusters }: CellLabels): CellKind {
  if (control === "rows" || control === "random" || control === "matched") return control;
  if (method === "magnitude") return "magnitude";
  return clusters === 1 ? "sparsegpt" : "clusters";
}

function levelOf({ sparsity, pattern }: CellLabels): Level {
  const value = sparsity ?? 0;
  return {
    name: pattern ?? `${Number((100 * value).toFixed(3))}\u00a0%`,
    sparsity: value,
    pattern: pattern ?? undefined,
  };
}

/** The name of a cell's series: what it is, whatever its sparsity. */
export function seriesName({ kind, clusters }: Pick<ComparedCell, "kind" | "clusters">): string {
  switch (kind) {
    case "sparsegpt":
      return "SparseGPT";
    case "magnitude":
      return "magnitude";
    case "clusters":
      return `${clusters} clusters`;
    case "rows":
      return `${clusters}, rows`;
    case "random":
      return `${clusters}, random`;
    case "matched":
      return `one as large as ${clusters}`;
  }
}

/** A cell in a sentence or a table: `16 clusters, 50 %`. */
export function cellTitle(cell: Pick<ComparedCell, "kind" | "clusters" | "level">): string {
  return `${seriesName(cell)}, ${cell.level.name}`;
}

/** Whether an interval of differences leaves zero out. */
export function isClear({ low, high }: { low: number | null; high: number | null }): boolean {
  return low !== null && high !== null && (low > 0 || high < 0);
}

/** A difference in nats in words: how much better or worse than another model, or that nothing was shown. */
export function comparedText(difference: PairedSummary, other: string): string {
  const { mean, low, high } = difference;
  if (low === null || high === null) {
    return `${signed(mean)} nats from ${other} in a single window, from which nothing follows`;
  }
  const half = (high - low) / 2;
  const digits = decimalsOf(half);
  const range = `\u00a0±\u00a0${fixed(half, digits)} nats`;
  return isClear(difference)
    ? `${mean < 0 ? "better" : "worse"} than ${other} by ${fixed(Math.abs(mean), digits)}${range}`
    : `not shown to differ from ${other} (${signed(mean, digits)}${range})`;
}

/** A text whose spaces do not break, for narrow columns. */
export function unbroken(text: string): string {
  return text.replaceAll(" ", "\u00a0");
}

/** A number with its sign. */
export function signed(value: number, digits = 3): string {
  const text = fixed(value, digits);
  return value > 0 ? `+${text}` : text;
}

/** A perplexity to so many significant digits; null and infinity are beyond float64. */
export function perplexityText(value: number | null, digits = 5): string {
  if (value === null || !Number.isFinite(value)) return "beyond float64";
  if (value >= 1e7) return value.toExponential(digits - 1).replace("e+", " · 10^");
  const decimals = Math.max(0, digits - 1 - Math.floor(Math.log10(value)));
  return value.toLocaleString("en-US", {
    minimumFractionDigits: decimals,
    maximumFractionDigits: decimals,
  });
}

/** Decimals of a difference: so many that half of its interval has two digits, from three to six. */
export function decimalsOf(half: number): number {
  return half < 1e-9 ? 3 : Math.min(6, Math.max(3, 1 - Math.floor(Math.log10(half))));
}

/** So many times the dense model's, to three significant digits. */
export function timesText(ratio: number | undefined): string {
  return ratio === undefined ? "not measured" : `${Number(ratio.toPrecision(3))}\u00a0×`;
}

/** The cells of Sparse Expansion itself with the most clusters, one a level. */
export function largestCells({ cells, levels }: Comparison): ComparedCell[] {
  return levels.flatMap(({ name }) =>
    cells.filter((cell) => cell.kind === "clusters" && cell.level.name === name)
      .toSorted((a, b) => b.clusters - a.clusters)[0] ?? []
  );
}
