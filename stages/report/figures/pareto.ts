/**
 * Architectures by what they cost and what they reach: held-out loss against stored parameters, active parameters, operations and
 * speed, with the front of those that no other beats.
 *
 * @module
 */

import { type ArchitectureResult, type Comparison, paretoFront } from "../architectures.ts";
import type { Chart, ChartSpec, Row } from "./figure.ts";
import { LABEL_SIZE, placeLabels, type Segment } from "./labels.ts";
import { type Scale, scale } from "./scale.ts";
import { textWidth } from "./fonts.ts";
import { COLOR, COUNT_FORMAT } from "./style.ts";

/** Size of a panel in pixels, without axes. */
const PANEL = { width: 290, height: 220 } as const;

/** A label further from its point than this, in pixels, has a line to it. */
const NEAR = 9;

/** A quantity on the horizontal axis. */
interface Axis {
  readonly name: string;
  readonly title: string;
  readonly value: (result: ArchitectureResult) => Interval | undefined;
  /** Whether more is better. */
  readonly rising: boolean;
}

/** A value with the ends of its interval, where it has one. */
interface Interval {
  readonly mean: number;
  readonly low: number | null;
  readonly high: number | null;
}

const exact = (value: number | undefined): Interval | undefined =>
  value === undefined ? undefined : { mean: value, low: null, high: null };

const AXES: readonly Axis[] = [
  {
    name: "stored",
    title: "stored parameters",
    value: ({ costs }) => exact(costs.stored),
    rising: false,
  },
  {
    name: "active",
    title: "active parameters of a token",
    value: ({ costs }) => exact(costs.active),
    rising: false,
  },
  {
    name: "flops",
    title: "operations of a token, forward",
    value: ({ costs }) => exact(costs.flops),
    rising: false,
  },
  {
    name: "tokens_per_second",
    title: "tokens a second in training (more is better)",
    value: ({ speed }) => speed,
    rising: true,
  },
];

/** The architectures that no other beats on a quantity of the figure. */
export interface Front {
  readonly axis: string;
  readonly labels: readonly string[];
}

/**
 * Draws one panel a quantity.
 *
 * @returns Nothing when no quantity is known of two architectures.
 */
export function paretoFigure(
  comparison: Comparison,
): { readonly figure: Chart; readonly fronts: readonly Front[] } | undefined {
  const { name, title, values } = comparison;
  const y = lossScale(values);
  const drawn = AXES.flatMap((axis) => {
    const known = values.flatMap((result) => {
      const at = axis.value(result);
      return at === undefined || !(at.mean > 0) ? [] : [{ result, at }];
    });
    return known.length < 2 ? [] : [drawPanel(axis, known, y)];
  });
  if (drawn.length === 0) return undefined;
  const rows = drawn.flatMap(({ rows }) => rows);
  const panels = drawn.map(({ panel }) => panel);
  const best = values.toSorted((a, b) => a.nats.mean - b.nats.mean)[0]!;
  const figure: Chart = {
    kind: "chart",
    name: `pareto_${name}`.replaceAll("-", "_"),
    title: `Loss against cost: ${title}`,
    alt:
      `Held-out loss of ${values.map(({ label }) => label).join(", ")} against ${
        drawn.map(({ axis }) => axis.title.replace(/[,(].*/, "").trim()).join(", ")
      }. Lowest mean: ${best.nats.mean.toFixed(3)} nats, ${best.label}. ` +
      drawn.map(({ axis, front }) =>
        `No other beats ${front.join(", ")} by ${axis.name.replaceAll("_", " ")}.`
      ).join(" "),
    rows,
    spec: {
      spacing: 34,
      vconcat: Array.from({ length: Math.ceil(panels.length / 2) }, (_, i) => ({
        spacing: 44,
        hconcat: panels.slice(2 * i, 2 * i + 2),
      })),
    },
  };
  const fronts = drawn.map(({ axis, front }) => ({ axis: axis.name, labels: front }));
  return { figure, fronts };
}

/** An architecture and its place on an axis. */
interface Known {
  readonly result: ArchitectureResult;
  readonly at: Interval;
}

function drawPanel(
  axis: Axis,
  known: readonly Known[],
  y: Scale,
): { axis: Axis; rows: Row[]; panel: ChartSpec; front: readonly string[] } {
  const x = costScale(known.map(({ at }) => at));
  const front = paretoFront(known, {
    cost: ({ at }) => axis.rising ? 1 / at.mean : at.mean,
    loss: ({ result }) => result.nats.mean,
  }).toSorted((a, b) =>
    (axis.rising ? -1 : 1) * (a.at.mean - b.at.mean) || b.result.nats.mean - a.result.nats.mean
  );
  const corners = staircase(front, { axis, x, y });
  const points = known.map(({ result, at }) => ({
    text: result.base ? `${result.label} (base)` : result.label,
    x: x.pixel(at.mean),
    y: y.pixel(result.nats.mean),
  }));
  const lines = [
    ...intervalLines(known, { x, y }),
    ...corners.slice(1).map(([at, nats], i): Segment => {
      const [from, above] = corners[i]!;
      return [x.pixel(from), y.pixel(above), x.pixel(at), y.pixel(nats)];
    }),
  ];
  const places = placeLabels(points, { ...PANEL, lines });
  const rows = known.map(({ result, at }, i): Row => {
    const point = points[i]!;
    const place = places[i]!;
    const width = textWidth(point.text, LABEL_SIZE);
    const near = place.x > point.x ? place.x - 2 : place.x + width + 2;
    const far = Math.hypot(near - point.x, place.y - point.y) > NEAR;
    return {
      panel: axis.name,
      series: "model",
      architecture: point.text,
      front: front.some((other) => other.result === result) ? "yes" : "no",
      n: result.nats.n,
      x: at.mean,
      x_low: at.low,
      x_high: at.high,
      nats: result.nats.mean,
      nats_low: result.nats.low,
      nats_high: result.nats.high,
      label_x: x.value(place.x),
      label_y: y.value(place.y),
      line_x: far ? x.value(near) : null,
      vertex: null,
    };
  });
  rows.push(...corners.map(([at, nats], vertex): Row => ({
    panel: axis.name,
    series: "front",
    architecture: null,
    front: null,
    n: null,
    x: at,
    x_low: null,
    x_high: null,
    nats,
    nats_low: null,
    nats_high: null,
    label_x: null,
    label_y: null,
    line_x: null,
    vertex,
  })));
  return {
    axis,
    rows,
    panel: panelSpec(axis, { x, y }),
    front: front.map(({ result }) => result.label),
  };
}

/** The lines of the intervals, in pixels. */
function intervalLines(known: readonly Known[], { x, y }: { x: Scale; y: Scale }): Segment[] {
  return known.flatMap(({ result, at }) => {
    const { mean, low, high } = result.nats;
    const [px, py] = [x.pixel(at.mean), y.pixel(mean)];
    const lines: Segment[] = [];
    if (low !== null && high !== null) lines.push([px, y.pixel(low), px, y.pixel(high)]);
    if (at.low !== null && at.high !== null) {
      lines.push([x.pixel(at.low), py, x.pixel(at.high), py]);
    }
    return lines;
  });
}

/** Corners of the border of what no architecture reaches: along the front, from the best cost to the edge of the panel. */
function staircase(
  front: readonly Known[],
  { axis, x, y }: { axis: Axis; x: Scale; y: Scale },
): readonly (readonly [cost: number, nats: number])[] {
  const corners: [number, number][] = [];
  let loss = y.domain[1];
  for (const { at, result } of front) {
    corners.push([at.mean, loss], [at.mean, result.nats.mean]);
    loss = result.nats.mean;
  }
  corners.push([x.domain[axis.rising ? 0 : 1], loss]);
  return corners;
}

function panelSpec(axis: Axis, { x, y }: { x: Scale; y: Scale }): ChartSpec {
  const scaleOf = ({ domain, logarithmic }: Scale) => ({
    type: logarithmic ? "log" : "linear",
    domain: [...domain],
    nice: false,
    ...(!logarithmic && { zero: false }),
  });
  const color = {
    field: "front",
    type: "nominal",
    legend: null,
    scale: { domain: ["yes", "no"], range: [COLOR.blue, COLOR.muted] },
  };
  const model = "datum.series === 'model'";
  return {
    ...PANEL,
    title: { text: axis.title, fontSize: 12.5 },
    transform: [{ filter: `datum.panel === '${axis.name}'` }],
    encoding: {
      x: {
        field: "x",
        type: "quantitative",
        title: null,
        scale: scaleOf(x),
        axis: { format: COUNT_FORMAT, tickCount: 5, grid: false },
      },
      y: {
        field: "nats",
        type: "quantitative",
        title: "held-out loss, nats a token",
        scale: scaleOf(y),
        axis: { tickCount: 5, format: ".2f" },
      },
    },
    layer: [
      {
        transform: [{ filter: "datum.series === 'front'" }],
        mark: { type: "line", color: COLOR.blue, strokeWidth: 1.4, strokeDash: [5, 3] },
        encoding: { order: { field: "vertex", type: "quantitative" } },
      },
      {
        transform: [{ filter: `${model} && isValid(datum.line_x)` }],
        mark: { type: "rule", color: COLOR.muted, strokeWidth: 0.8, opacity: 0.6 },
        encoding: { x2: { field: "line_x" }, y2: { field: "label_y" } },
      },
      {
        transform: [{ filter: `${model} && isValid(datum.nats_low)` }],
        mark: { type: "rule", strokeWidth: 1.6 },
        encoding: { y: { field: "nats_low" }, y2: { field: "nats_high" }, color },
      },
      {
        transform: [{ filter: `${model} && isValid(datum.x_low)` }],
        mark: { type: "rule", strokeWidth: 1.6 },
        encoding: { x: { field: "x_low" }, x2: { field: "x_high" }, color },
      },
      {
        transform: [{ filter: `${model} && datum.front === 'yes'` }],
        mark: { type: "point", filled: true, size: 64, opacity: 1 },
        encoding: { color },
      },
      {
        transform: [{ filter: `${model} && datum.front === 'no'` }],
        mark: { type: "point", fill: COLOR.paper, size: 50, opacity: 1 },
        encoding: { color },
      },
      {
        transform: [{ filter: model }],
        mark: { type: "text", align: "left", baseline: "middle", fontSize: LABEL_SIZE },
        encoding: {
          x: { field: "label_x", type: "quantitative" },
          y: { field: "label_y", type: "quantitative" },
          text: { field: "architecture", type: "nominal" },
        },
      },
    ],
  };
}

function lossScale(values: readonly ArchitectureResult[]): Scale {
  const ends = values.flatMap(({ nats }) => [nats.mean, nats.low ?? [], nats.high ?? []].flat());
  const [low, high] = [Math.min(...ends), Math.max(...ends)];
  const pad = 0.08 * (high - low) || 0.05;
  return scale([low - pad, high + pad], { length: PANEL.height, logarithmic: false, down: true });
}

/** Values of one panel: logarithmic where they go over more than four times, and never over less than a third of their size. */
function costScale(values: readonly Interval[]): Scale {
  const ends = values.flatMap(({ mean, low, high }) => [mean, low ?? mean, high ?? mean])
    .filter((value) => value > 0);
  const [low, high] = [Math.min(...ends), Math.max(...ends)];
  if (high / low > 4) {
    const pad = (high / low) ** 0.18;
    return scale([low / pad, high * pad], { length: PANEL.width, logarithmic: true });
  }
  const middle = (low + high) / 2;
  const half = Math.max(0.75 * (high - low), 0.15 * middle);
  return scale([middle - half, middle + half], { length: PANEL.width, logarithmic: false });
}
