/**
 * Panels of lines with their names at their ends, shared by the figures of Sparse Expansion.
 *
 * @module
 */

import type { ChartSpec, Row } from "../../report/figures/figure.ts";
import { LABEL_SIZE, spreadHeights } from "../../report/figures/labels.ts";
import { scale } from "../../report/figures/scale.ts";
import { COLOR } from "../../report/figures/style.ts";
import type { Interval } from "../cells.ts";

/** Pixels between a panel and the names of its lines. */
const LABEL_GAP = 12;

/** Numbers on an axis: 0.3, 10, 20,000. */
export const NUMBERS = ",.6~r";

/** A line of a panel; of a single point a point. */
export interface PanelLine {
  readonly label: string;
  /** One of the palette. */
  readonly color: string;
  /** Whether it is dashed, as controls are. */
  readonly dashed?: boolean;
  /** In the order of `x`. */
  readonly points: readonly { readonly x: number; readonly y: Interval }[];
}

/** An axis of a panel. */
export interface PanelAxis {
  readonly title: string | null;
  readonly domain: readonly [number, number];
  readonly logarithmic: boolean;
  /** Places of ticks. */
  readonly values: readonly number[];
  /** Texts of the ticks where numbers won't do, in their order. */
  readonly labels?: readonly string[];
}

/** A panel. */
export interface LinePanel {
  /** Unique in its figure. */
  readonly key: string;
  readonly title: string | undefined;
  readonly lines: readonly PanelLine[];
  /** A level that runs through, with its name. */
  readonly rule?: { readonly label: string; readonly y: number } | undefined;
  readonly x: PanelAxis;
  readonly y: PanelAxis;
  readonly width: number;
  readonly height: number;
}

/** Ticks of a logarithmic axis: 1, 2 and 5 of each power of ten, or more where those are few; at most about eight. */
export function logTicks([low, high]: readonly [number, number]): number[] {
  const steps = [[1], [1, 3], [1, 2, 5], [1, 1.5, 2, 3, 5, 7], [
    1,
    1.2,
    1.4,
    1.6,
    1.8,
    2,
    2.5,
    3,
    3.5,
    4,
    5,
    6,
    7,
    8,
    9,
  ]];
  const within = (factors: readonly number[]) => {
    const found: number[] = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
      found.push(...factors.map((factor) => Number((factor * 10 ** power).toPrecision(3))));
    }
    return found.filter((value) => value >= low && value <= high);
  };
  const candidates = steps.map(within);
  return candidates.find((ticks) => ticks.length >= 4) ?? candidates.at(-1)!;
}

/** An axis that holds positive values: logarithmic where they go over more than three times. */
export function positiveAxis(
  values: readonly number[],
  { title, pad = 0.06 }: { title: string | null; pad?: number },
): PanelAxis {
  const finite = values.filter((value) => Number.isFinite(value) && value > 0);
  const [low, high] = [Math.min(...finite), Math.max(...finite)];
  if (high / low > 3) {
    const room = (high / low) ** pad;
    const domain = [low / room, high * room] as const;
    return { title, domain, logarithmic: true, values: logTicks(domain) };
  }
  const room = pad * (high - low) || 0.1 * high;
  const domain = [low - room, high + room] as const;
  return { title, domain, logarithmic: false, values: linearTicks(domain) };
}

/** Ticks of a linear axis: four to eight round numbers. */
export function linearTicks([low, high]: readonly [number, number]): number[] {
  const rough = (high - low) / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough)!;
  const first = Math.ceil(low / step - 1e-9);
  const count = Math.floor(high / step + 1e-9) - first + 1;
  return Array.from({ length: count }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}

/** Rows of panels: a point each, with an interval that is not drawn (those of one text lie over each other, while their differences may be clear), and for each line and rule its name's height. */
export function panelRows(panels: readonly LinePanel[]): Row[] {
  return panels.flatMap(({ key, lines, rule, y, height }) => {
    const on = scale(y.domain, { length: height, logarithmic: y.logarithmic, down: true });
    const ends = [...lines.map(({ points }) => points.at(-1)!.y.mean), ...rule ? [rule.y] : []];
    const heights = spreadHeights(ends.map((end) => on.pixel(end)), height);
    const row = (own: Partial<Record<string, string | number | null>>): Row => ({
      panel: key,
      series: null,
      x: null,
      y: null,
      low: null,
      high: null,
      label_y: null,
      ...own as Row,
    });
    return [
      ...lines.flatMap(({ label, points }, i) =>
        points.map(({ x, y: { mean, low, high } }, at) =>
          row({
            series: label,
            x,
            y: mean,
            low,
            high,
            label_y: at === points.length - 1 ? on.value(heights[i]!) : null,
          })
        )
      ),
      ...rule ? [row({ series: rule.label, y: rule.y, label_y: on.value(heights.at(-1)!) })] : [],
    ];
  });
}

/** Vega-Lite of panels whose rows {@linkcode panelRows} made. */
export function panelSpecs(panels: readonly LinePanel[]): ChartSpec[] {
  // Panels of one figure share their colours, so each has the names of all.
  const named = panels.flatMap(({ lines, rule }) => [
    ...lines.map(({ label, color, dashed = false }) => ({ label, color, dashed })),
    ...rule ? [{ label: rule.label, color: COLOR.ink, dashed: false }] : [],
  ]);
  const all = [...new Map(named.map((line) => [line.label, line])).values()];
  return panels.map((panel) => panelSpec(panel, all));
}

/** A name of the figure and how it is drawn. */
type Named = Pick<PanelLine, "label" | "color"> & { readonly dashed: boolean };

function panelSpec(panel: LinePanel, all: readonly Named[]): ChartSpec {
  const { key, title, width, height } = panel;
  const color = {
    field: "series",
    type: "nominal",
    legend: null,
    scale: { domain: all.map(({ label }) => label), range: all.map((line) => line.color) },
  };
  const dash = {
    field: "series",
    type: "nominal",
    legend: null,
    scale: {
      domain: all.map(({ label }) => label),
      range: all.map(({ dashed }) => dashed ? [5, 3] : [1, 0]),
    },
  };
  const axisOf = ({ values, labels }: PanelAxis, grid: boolean) => ({
    values: [...values],
    grid,
    ...(labels
      ? { labelExpr: `${JSON.stringify(labels)}[indexof(${JSON.stringify(values)}, datum.value)]` }
      : { format: NUMBERS }),
  });
  const scaleOf = ({ domain, logarithmic }: PanelAxis) => ({
    type: logarithmic ? "log" : "linear",
    domain: [...domain],
    nice: false,
    ...(!logarithmic && { zero: false }),
  });
  const points = "isValid(datum.x)";
  return {
    width,
    height,
    ...(title !== undefined && { title: { text: title, fontSize: 12.5 } }),
    transform: [{ filter: `datum.panel === ${JSON.stringify(key)}` }],
    encoding: {
      x: {
        field: "x",
        type: "quantitative",
        title: panel.x.title,
        scale: scaleOf(panel.x),
        axis: axisOf(panel.x, false),
      },
      y: {
        field: "y",
        type: "quantitative",
        title: panel.y.title,
        scale: scaleOf(panel.y),
        axis: axisOf(panel.y, true),
      },
      color,
    },
    layer: [
      {
        transform: [{ filter: "!isValid(datum.x) && isValid(datum.y)" }],
        mark: { type: "rule", strokeWidth: 1.2, strokeDash: [2, 3] },
        encoding: { x: { value: 0 }, x2: { value: width } },
      },
      {
        transform: [{ filter: "isValid(datum.label_y) && isValid(datum.x)" }],
        mark: { type: "rule", strokeWidth: 0.8, opacity: 0.5 },
        encoding: { x2: { value: width + LABEL_GAP - 3 }, y2: { field: "label_y" } },
      },
      {
        transform: [{ filter: points }],
        mark: { type: "line", strokeWidth: 1.8 },
        encoding: { strokeDash: dash },
      },
      {
        transform: [{ filter: points }],
        mark: { type: "point", filled: true, size: 34, opacity: 1 },
      },
      {
        transform: [{ filter: "isValid(datum.label_y)" }],
        mark: { type: "text", align: "left", baseline: "middle", fontSize: LABEL_SIZE },
        encoding: {
          x: { value: width + LABEL_GAP },
          y: { field: "label_y", type: "quantitative" },
          text: { field: "series", type: "nominal" },
        },
      },
    ],
  };
}
