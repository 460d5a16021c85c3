/**
 * Colours of what the figures of Sparse Expansion compare: the same in each of them.
 *
 * @module
 */

import { COLOR } from "../../report/figures/style.ts";
import { type ComparedCell, seriesName } from "../cells.ts";

/** Colours of numbers of clusters, the most first. */
const CLUSTER_COLORS = [COLOR.blue, COLOR.sky, COLOR.purple, COLOR.orange] as const;

/** Cells that a line connects. */
export interface Series {
  readonly label: string;
  readonly color: string;
  /** Whether it is a control. */
  readonly dashed: boolean;
  readonly cells: readonly ComparedCell[];
}

/** The cells by what they are: SparseGPT, numbers of clusters, magnitude, controls. */
export function seriesOf(cells: readonly ComparedCell[]): Series[] {
  const kinds = ["sparsegpt", "clusters", "magnitude", "rows", "random", "matched"];
  const ordered = cells.toSorted((a, b) =>
    kinds.indexOf(a.kind) - kinds.indexOf(b.kind) || a.clusters - b.clusters
  );
  const counts = [
    ...new Set(ordered.filter(({ kind }) => kind === "clusters").map((cell) => cell.clusters)),
  ]
    .toReversed();
  return [...Map.groupBy(ordered, seriesName)].map(([label, own]) => {
    const { kind, clusters } = own[0]!;
    return {
      label,
      color: kind === "clusters"
        ? CLUSTER_COLORS[counts.indexOf(clusters) % CLUSTER_COLORS.length]!
        : KIND_COLORS[kind],
      dashed: kind === "rows" || kind === "random" || kind === "matched",
      cells: own,
    };
  });
}

/** Colours of the other kinds. */
export const KIND_COLORS = {
  sparsegpt: COLOR.vermilion,
  magnitude: COLOR.muted,
  rows: COLOR.orange,
  random: COLOR.purple,
  matched: COLOR.green,
} as const;
