/**
 * Perplexity against the number of clusters, a panel a sparsity, with the controls beside k-means.
 *
 * @module
 */

import type { Chart } from "../../report/figures/figure.ts";
import { COLOR } from "../../report/figures/style.ts";
import { type CellKind, type ComparedCell, type Comparison, perplexityText } from "../cells.ts";
import {
  type LinePanel,
  type PanelLine,
  panelRows,
  panelSpecs,
  positiveAxis,
} from "./line_panels.ts";
import { KIND_COLORS } from "./series.ts";

const PANEL = { width: 200, height: 190 } as const;

/** Lines of a panel. All but that of magnitude begin at SparseGPT, which has one cluster. */
const LINES = [
  ["clusters", "k-means", COLOR.blue],
  ["rows", "rows", KIND_COLORS.rows],
  ["random", "random", KIND_COLORS.random],
  ["matched", "one expert", KIND_COLORS.matched],
] as const satisfies readonly (readonly [CellKind, string, string])[];

/** Draws the figure; nothing where no cell has several clusters. */
export function clustersFigure({ cells, levels, dense }: Comparison): Chart | undefined {
  const panels = levels.flatMap(({ name }): LinePanel[] => {
    const own = cells.filter(({ level, perplexity }) =>
      level.name === name && Number.isFinite(perplexity.mean)
    );
    const counts = [
      ...new Set(own.filter(({ kind }) => kind !== "magnitude").map(({ clusters }) => clusters)),
    ]
      .toSorted((a, b) => a - b);
    if (!own.some(({ kind }) => kind === "clusters")) return [];
    const lines = LINES.flatMap((line) => lineOf(line, own));
    const rule = dense && Number.isFinite(dense.perplexity.mean)
      ? { label: `dense ${perplexityText(dense.perplexity.mean)}`, y: dense.perplexity.mean }
      : undefined;
    const y = lines.flatMap(({ points }) => points.map(({ y }) => y.mean));
    const [low, high] = [counts[0]!, counts.at(-1)!];
    const room = high > low ? (high / low) ** 0.06 : 1.5;
    return [{
      key: name,
      title: name,
      lines,
      rule,
      x: {
        title: "clusters",
        domain: [low / room, high * room],
        logarithmic: true,
        values: counts,
      },
      y: positiveAxis([...y, ...rule ? [rule.y] : []], { title: "perplexity" }),
      ...PANEL,
    }];
  });
  if (panels.length === 0) return undefined;
  return {
    kind: "chart",
    name: "perplexity_by_clusters",
    title: "Perplexity against the number of clusters",
    alt: `A panel for each of ${panels.map(({ key }) => key).join(", ")}. ${
      panels.map(({ key, lines }) =>
        `At ${key}, ${
          lines.map(({ label, points }) =>
            `${label} ends at ${perplexityText(points.at(-1)!.y.mean)}`
          ).join(", ")
        }.`
      ).join(" ")
    }`,
    rows: panelRows(panels),
    spec: {
      spacing: 26,
      vconcat: Array.from({ length: Math.ceil(panels.length / 2) }, (_, i) => ({
        spacing: 28,
        hconcat: panelSpecs(panels).slice(2 * i, 2 * i + 2),
      })),
    },
  };
}

function lineOf(
  [kind, label, color]: typeof LINES[number],
  cells: readonly ComparedCell[],
): PanelLine[] {
  const own = cells.filter((cell) => cell.kind === kind).toSorted((a, b) =>
    a.clusters - b.clusters
  );
  if (own.length === 0) return [];
  const first = cells.filter((cell) => cell.kind === "sparsegpt");
  const points = [...first, ...own].map(({ clusters, perplexity }) => ({
    x: clusters,
    y: perplexity,
  }));
  return [{ label, color, dashed: kind !== "clusters", points }];
}
