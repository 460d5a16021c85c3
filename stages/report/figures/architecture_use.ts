/**
 * The use of experts by architecture: over training, and by layer at its end.
 *
 * @module
 */

import type { ArchitectureResult, Comparison, UseMetric } from "../architectures.ts";
import type { Chart, ChartSpec, Row } from "./figure.ts";
import { LABEL_SIZE, spreadHeights } from "./labels.ts";
import { COLOR, COUNT_FORMAT, SERIES } from "./style.ts";

/** Size of a panel in pixels, without axes and labels. */
const PANEL = { width: 230, height: 150 } as const;

/** Pixels between a panel's right edge and its labels. */
const LABEL_GAP = 16;

const METRICS: readonly {
  readonly metric: UseMetric;
  readonly title: string;
  readonly scale: number;
  /** The largest value that the axis shows at least. */
  readonly top: number;
}[] = [
  { metric: "expert_usage", title: "experts used, %", scale: 100, top: 100 },
  { metric: "expert_unevenness", title: "divergence from even use, nats", scale: 1, top: 0.5 },
  { metric: "expert_gini", title: "Gini coefficient", scale: 1, top: 1 },
];

const PLACES = [
  { place: "step", title: "over training, mean of layers" },
  { place: "layer", title: "by layer, after training" },
] as const;

/** Where a value was taken. */
type Place = typeof PLACES[number]["place"];

/**
 * Draws one line an architecture: a row of panels a metric.
 *
 * @returns Nothing when no architecture has experts.
 */
export function architectureUseFigure(comparison: Comparison): Chart | undefined {
  const { name, title: compared } = comparison;
  const values = comparison.values.filter((value) =>
    value.layers.length > 0 || value.curves.expert_usage.length > 0
  );
  const names = values.map(({ label }) => label);
  const rows: Row[] = [];
  const panels: { metric: UseMetric; panels: ChartSpec[] }[] = [];
  for (const { metric, scale, title, top } of METRICS) {
    const drawn = PLACES.flatMap(({ place, title: where }): ChartSpec[] => {
      const lines = values.map((value) => ({
        label: value.label,
        points: pointsOf(value, metric, place).map((p) => ({ ...p, y: scale * p.y })),
      })).filter(({ points }) => points.length > 0);
      if (lines.length === 0) return [];
      const highest = Math.max(top, ...lines.flatMap(({ points }) => points.map(({ y }) => y)));
      rows.push(...lineRows(lines, { metric, place, highest }));
      const layers = [...new Set(lines.flatMap(({ points }) => points.map(({ x }) => x)))];
      return [panelSpec({ metric, place, title, where, highest, names, layers })];
    });
    if (drawn.length > 0) panels.push({ metric, panels: drawn });
  }
  if (rows.length === 0) return undefined;
  const ends = values.flatMap(({ label, layers }) =>
    layers.length === 0 ? [] : [
      `${label} ${
        (100 * layers.reduce((sum, layer) => sum + layer.expert_usage, 0) / layers.length)
          .toFixed(0)
      } %`,
    ]
  );
  return {
    kind: "chart",
    name: `expert_use_${name}`.replaceAll("-", "_"),
    title: `Use of experts: ${compared}`,
    alt:
      `Share of experts used, divergence of their use from an even one and its Gini coefficient, over training and by layer, for ${
        names.join(", ")
      }.${ends.length > 0 ? ` Used in the end: ${ends.join(", ")}.` : ""}`,
    rows,
    spec: {
      spacing: 26,
      vconcat: panels.map(({ panels }) => ({ spacing: 36, hconcat: panels })),
    },
  };
}

/** A line of a panel. */
interface Line {
  readonly label: string;
  readonly points: readonly { readonly x: number; readonly y: number }[];
}

function pointsOf(
  { curves, layers }: ArchitectureResult,
  metric: UseMetric,
  place: Place,
): Line["points"] {
  return place === "step"
    ? curves[metric].map(({ step, value }) => ({ x: step, y: value }))
    : layers.map((use) => ({ x: use.layer, y: use[metric] }));
}

/** Rows of the points, and at each line's end one with the height of its label. */
function lineRows(
  lines: readonly Line[],
  { metric, place, highest }: { metric: UseMetric; place: Place; highest: number },
): Row[] {
  const pixel = (value: number) => PANEL.height * (1 - value / highest);
  const heights = spreadHeights(
    lines.map(({ points }) => pixel(points.at(-1)!.y)),
    PANEL.height,
  );
  return lines.flatMap(({ label, points }, i) =>
    points.map(({ x, y }, at): Row => ({
      metric,
      place,
      architecture: label,
      x,
      value: y,
      label_y: at === points.length - 1 ? highest * (1 - heights[i]! / PANEL.height) : null,
    }))
  );
}

function panelSpec(options: {
  metric: UseMetric;
  place: Place;
  title: string;
  where: string;
  highest: number;
  names: readonly string[];
  layers: readonly number[];
}): ChartSpec {
  const { metric, place, title, where, highest, names } = options;
  const color = {
    field: "architecture",
    type: "nominal",
    legend: null,
    scale: {
      domain: [...names],
      range: names.map((_, i) => SERIES[i % SERIES.length] ?? COLOR.ink),
    },
  };
  const range = [Math.min(...options.layers), Math.max(...options.layers)] as const;
  return {
    ...PANEL,
    title: { text: title, subtitle: where, fontSize: 12.5 },
    transform: [{ filter: `datum.metric === '${metric}' && datum.place === '${place}'` }],
    encoding: {
      x: {
        field: "x",
        type: "quantitative",
        title: place === "step" ? "optimiser step" : "layer",
        scale: place === "step"
          ? { domain: [0, range[1]], nice: false }
          : { domain: [range[0] - 0.25, range[1] + 0.25], nice: false, zero: false },
        axis: place === "step"
          ? { format: COUNT_FORMAT, tickCount: 5 }
          : { format: "d", values: [...options.layers] },
      },
      y: {
        field: "value",
        type: "quantitative",
        title: null,
        scale: { domain: [0, highest], nice: false },
        axis: { tickCount: 4 },
      },
      color,
    },
    layer: [
      {
        mark: {
          type: "line",
          strokeWidth: 1.6,
          point: { filled: true, size: 26 },
        },
      },
      {
        transform: [{ filter: "isValid(datum.label_y)" }],
        mark: { type: "rule", strokeWidth: 0.8, opacity: 0.6 },
        encoding: { x2: { value: PANEL.width + LABEL_GAP - 2 }, y2: { field: "label_y" } },
      },
      {
        transform: [{ filter: "isValid(datum.label_y)" }],
        mark: { type: "text", align: "left", baseline: "middle", fontSize: LABEL_SIZE },
        encoding: {
          x: { value: PANEL.width + LABEL_GAP },
          y: { field: "label_y", type: "quantitative" },
          text: { field: "architecture", type: "nominal" },
        },
      },
    ],
  };
}
