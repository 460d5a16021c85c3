/**
 * Perplexity against sparsity: SparseGPT, numbers of clusters, magnitude and the controls of the most clusters, with the dense model as a level.
 *
 * @module
 */

import type { Chart } from "../../report/figures/figure.ts";
import { type Comparison, perplexityText } from "../cells.ts";
import {
  type LinePanel,
  type PanelAxis,
  panelRows,
  panelSpecs,
  positiveAxis,
} from "./line_panels.ts";
import { type Series, seriesOf } from "./series.ts";

const HEIGHT = 280;

/** Draws the figure; nothing where no model was expanded. */
export function perplexityFigure({ cells, levels, dense }: Comparison): Chart | undefined {
  const most = Math.max(...cells.map(({ clusters }) => clusters));
  const shown = cells.filter(({ kind, clusters, perplexity }) =>
    (kind === "sparsegpt" || kind === "magnitude" || kind === "clusters" || clusters === most) &&
    Number.isFinite(perplexity.mean)
  );
  if (shown.length === 0) return undefined;
  const panels: LinePanel[] = [];
  const series = seriesOf(shown);
  for (const patterns of [false, true]) {
    const own = levels.filter(({ pattern }) => (pattern !== undefined) === patterns);
    const lines = series.flatMap((line) => linesOf(line, own));
    if (lines.length === 0) continue;
    panels.push({
      key: patterns ? "patterns" : "unstructured",
      title: patterns ? "N zeros in M neighbours" : "unstructured",
      lines,
      rule: dense &&
        { label: `dense ${perplexityText(dense.perplexity.mean)}`, y: dense.perplexity.mean },
      x: levelAxis(own),
      y: positiveAxis(
        [
          ...lines.flatMap(({ points }) => points.map(({ y }) => y.mean)),
          ...dense ? [dense.perplexity.mean] : [],
        ],
        { title: "perplexity" },
      ),
      width: patterns ? 50 + 60 * own.length : Math.max(140, Math.min(360, 80 * own.length)),
      height: HEIGHT,
    });
  }
  const best = shown.toSorted((a, b) => a.nats.mean - b.nats.mean)[0]!;
  return {
    kind: "chart",
    name: "perplexity",
    title: "Perplexity against sparsity",
    alt: `Perplexity of ${series.map(({ label }) => label).join(", ")} at ${
      levels.map(({ name }) => name).join(", ")
    }. ${
      dense ? `The dense model has ${perplexityText(dense.perplexity.mean)}. ` : ""
    }The lowest of the others is ${perplexityText(best.perplexity.mean)}.`,
    rows: panelRows(panels),
    spec: { spacing: 28, hconcat: panelSpecs(panels) },
  };
}

/** A series at the levels of a panel, whose places are their numbers. */
function linesOf(
  { label, color, dashed, cells }: Series,
  levels: readonly { readonly name: string }[],
): LinePanel["lines"][number][] {
  const points = levels.flatMap(({ name }, x) => {
    const cell = cells.find(({ level }) => level.name === name);
    return cell ? [{ x, y: cell.perplexity }] : [];
  });
  return points.length > 0 ? [{ label, color, dashed, points }] : [];
}

/** Levels side by side: few sparsities are tried, and seldom at equal distances. */
function levelAxis(levels: readonly { readonly name: string }[]): PanelAxis {
  return {
    title: "weights that are pruned",
    domain: [-0.35, levels.length - 0.65],
    logarithmic: false,
    values: levels.map((_, i) => i),
    labels: levels.map(({ name }) => name),
  };
}
