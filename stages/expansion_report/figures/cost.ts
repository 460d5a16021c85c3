/**
 * Perplexity against what a model takes: bits that its MLPs store, and multiply-adds of a token in them, both over those of the dense model.
 *
 * @module
 */

import type { Chart, ChartSpec, Row } from "../../report/figures/figure.ts";
import { textWidth } from "../../report/figures/fonts.ts";
import { LABEL_SIZE, placeLabels, type Segment } from "../../report/figures/labels.ts";
import { scale } from "../../report/figures/scale.ts";
import { COLOR } from "../../report/figures/style.ts";
import {
  type ComparedCell,
  type Comparison,
  type Costs,
  type Measurement,
  perplexityText,
} from "../cells.ts";
import { NUMBERS, type PanelAxis, positiveAxis } from "./line_panels.ts";
import { seriesOf } from "./series.ts";

const PANEL = { width: 290, height: 260 } as const;

/** A label further from its point than this, in pixels, has a line to it. */
const NEAR = 9;

/** Pixels of the pieces that lines are cut into. */
const PIECE = 5;

const AXES = [
  ["storedBits", "bits stored by the MLPs, dense = 1"],
  ["multiplyAdds", "multiply-adds of a token in the MLPs, dense = 1"],
] as const satisfies readonly (readonly [keyof Costs, string])[];

/** A point: a cell of a series, or the dense model. */
interface Point {
  readonly series: string;
  readonly color: string;
  /** Sparsity; empty for the dense model. */
  readonly level: string;
  /** Whether a line joins it to the others of its series: patterns are no sparsity between two. */
  readonly joined: boolean;
  /** Text beside it. */
  readonly text: string;
  readonly model: Measurement;
}

/** Draws the figure; nothing without the dense model's costs. */
export function costFigure({ cells, dense }: Comparison): Chart | undefined {
  if (!dense) return undefined;
  // Centroids that k-means did not place cost what its own do.
  const known = cells.filter(({ perplexity, kind }) =>
    Number.isFinite(perplexity.mean) && kind !== "rows" && kind !== "random"
  );
  if (known.length === 0) return undefined;
  const points = pointsOf(known, dense);
  const y = positiveAxis(
    points.map(({ model }) => model.perplexity.mean),
    { title: "perplexity" },
  );
  const panels = AXES.map(([cost, title], i) => {
    const x = positiveAxis(points.map(({ model }) => model.relative![cost]), { title, pad: 0.1 });
    return {
      rows: rowsOf(points, { cost, x, y }),
      spec: panel(points, { cost, x, y: i ? { ...y, title: null } : y }),
    };
  });
  const least = AXES.map(([cost]) => {
    const found = known.toSorted((a, b) => a.relative![cost] - b.relative![cost]);
    return [found[0]!, found.at(-1)!].map(({ relative }) => Number(relative![cost].toPrecision(3)));
  });
  return {
    kind: "chart",
    name: "perplexity_by_cost",
    title: "Perplexity against storage and work",
    alt: `Perplexity of ${points.length} models. Expanded and pruned ones store ${
      least[0]!.join(" to ")
    } times the dense MLPs' bits, and a token takes ${
      least[1]!.join(" to ")
    } times the multiply-adds. The dense model has ${perplexityText(dense.perplexity.mean)}.`,
    rows: panels.flatMap(({ rows }) => rows),
    spec: { spacing: 30, hconcat: panels.map(({ spec }) => spec) },
  };
}

/** The cells and the dense model. The worst of each series has its name, and those of SparseGPT have their sparsities. */
function pointsOf(cells: readonly ComparedCell[], dense: Measurement): Point[] {
  return [
    { series: "dense", color: COLOR.ink, level: "", joined: false, text: "dense", model: dense },
    ...seriesOf(cells).flatMap(({ label, color, cells }) => {
      const worst = cells.toSorted((a, b) => b.nats.mean - a.nats.mean)[0];
      return cells.map((model): Point => {
        const { kind, level } = model;
        const named = model === worst;
        const text = kind === "sparsegpt"
          ? named ? `${label}, ${level.name}` : level.name
          : named
          ? label
          : "";
        const joined = level.pattern === undefined;
        return { series: label, color, level: level.name, joined, text, model };
      });
    }),
  ];
}

/** Where on the page: which cost, and both axes. */
interface Place {
  readonly cost: keyof Costs;
  readonly x: PanelAxis;
  readonly y: PanelAxis;
}

/** One row a point, with the place of its text if it has one. */
function rowsOf(points: readonly Point[], { cost, x, y }: Place): Row[] {
  const across = scale(x.domain, { length: PANEL.width, logarithmic: x.logarithmic });
  const down = scale(y.domain, { length: PANEL.height, logarithmic: y.logarithmic, down: true });
  const at = points.map(({ model }) => ({
    x: across.pixel(model.relative![cost]),
    y: down.pixel(model.perplexity.mean),
  }));
  const labelled = points.flatMap(({ text }, i) => text ? [{ text, ...at[i]! }] : []);
  const places = placeLabels(labelled, {
    ...PANEL,
    lines: [
      ...at.map(({ x, y }) => [x - 2, y - 2, x + 2, y + 2] as const),
      ...joints(points, at),
    ],
  });
  let next = 0;
  return points.map(({ series, level, model, text, joined }, i): Row => {
    const place = text ? places[next++]! : undefined;
    const [px, py] = [at[i]!.x, at[i]!.y];
    const width = textWidth(text, LABEL_SIZE);
    const near = place && (place.x > px ? place.x - 2 : place.x + width + 2);
    const far = place && near !== undefined && Math.hypot(near - px, place.y - py) > NEAR;
    const { mean, low, high } = model.perplexity;
    return {
      panel: cost,
      series,
      level,
      joined: joined ? "yes" : "no",
      text,
      cell: model.name,
      x: model.relative![cost],
      absolute: model[cost],
      perplexity: mean,
      low,
      high,
      label_x: place ? across.value(place.x) : null,
      label_y: place ? down.value(place.y) : null,
      line_x: far ? across.value(near) : null,
    };
  });
}

/** The lines of the series in pieces of a few pixels, for labels keep clear of boxes. */
function joints(
  points: readonly Point[],
  at: readonly { readonly x: number; readonly y: number }[],
): Segment[] {
  const indices = points.map((_, i) => i).filter((i) => points[i]!.joined);
  return [...Map.groupBy(indices, (i) => points[i]!.series).values()].flatMap((own) => {
    const ordered = own.map((i) => at[i]!).toSorted((a, b) => a.y - b.y);
    return ordered.slice(1).flatMap((to, i) => {
      const from = ordered[i]!;
      const pieces = Math.max(1, Math.ceil(Math.hypot(to.x - from.x, to.y - from.y) / PIECE));
      const along = (part: number) =>
        [
          from.x + (to.x - from.x) * part / pieces,
          from.y + (to.y - from.y) * part / pieces,
        ] as const;
      return Array.from(
        { length: pieces },
        (_, piece): Segment => [...along(piece), ...along(piece + 1)],
      );
    });
  });
}

function panel(points: readonly Point[], { cost, x, y }: Place): ChartSpec {
  const series = [...new Map(points.map((point) => [point.series, point])).values()];
  const domain = series.map((point) => point.series);
  const color = {
    field: "series",
    type: "nominal",
    legend: null,
    scale: { domain, range: series.map((point) => point.color) },
  };
  const axis = (
    { domain, logarithmic, values, title }: PanelAxis,
    field: string,
    grid: boolean,
  ) => ({
    field,
    type: "quantitative",
    title,
    scale: {
      type: logarithmic ? "log" : "linear",
      domain: [...domain],
      nice: false,
      ...(!logarithmic && { zero: false }),
    },
    axis: { values: [...values], format: NUMBERS, grid },
  });
  return {
    ...PANEL,
    transform: [{ filter: `datum.panel === '${cost}'` }],
    encoding: { x: axis(x, "x", false), y: axis(y, "perplexity", true), color },
    layer: [
      {
        transform: [{ filter: "isValid(datum.line_x)" }],
        mark: { type: "rule", strokeWidth: 0.8, opacity: 0.6 },
        encoding: { x2: { field: "line_x" }, y2: { field: "label_y" } },
      },
      {
        transform: [{ filter: "datum.joined === 'yes'" }],
        mark: { type: "line", strokeWidth: 1.6, opacity: 0.8 },
        encoding: { order: { field: "perplexity", type: "quantitative" } },
      },
      {
        transform: [{ filter: "datum.joined === 'yes' || datum.series === 'dense'" }],
        mark: { type: "point", filled: true, size: 40, opacity: 1 },
      },
      {
        transform: [{ filter: "datum.joined === 'no' && datum.series !== 'dense'" }],
        mark: { type: "point", fill: COLOR.paper, size: 40, opacity: 1 },
      },
      {
        transform: [{ filter: "isValid(datum.label_x)" }],
        mark: { type: "text", align: "left", baseline: "middle", fontSize: LABEL_SIZE },
        encoding: {
          x: { field: "label_x", type: "quantitative" },
          y: { field: "label_y", type: "quantitative" },
          text: { field: "text", type: "nominal" },
        },
      },
    ],
  };
}
