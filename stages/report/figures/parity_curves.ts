/**
 * Loss curves of several ways of computing the same training, on top of each other, and below them what they are apart.
 *
 * @module
 */

import { countParameters } from "../../../model/trunk/counts.ts";
import type { ParityResult } from "../../../model/bench/parity.ts";
import { curveDifferences, NATS_LIMIT, referenceWay } from "../../../model/bench/parity_compare.ts";
import type { WayResult } from "../../../model/bench/parity_way.ts";
import type { Chart, ChartSpec, Row } from "./figure.ts";
import { compact } from "./series.ts";
import { COLOR, PANEL_HEIGHT, PANEL_WIDTH } from "./style.ts";

/** How a line is drawn. */
interface Stroke {
  readonly color: string;
  readonly strokeWidth: number;
  readonly strokeDash?: readonly number[];
  readonly opacity?: number;
}

/** From the first to the last: each thinner than the one that it lies on, so that curves that coincide are all seen. */
const STROKES: readonly Stroke[] = [
  { color: COLOR.sky, strokeWidth: 8, opacity: 0.45 },
  { color: COLOR.orange, strokeWidth: 4.5 },
  { color: COLOR.purple, strokeWidth: 2.2 },
  { color: COLOR.ink, strokeWidth: 1.2, strokeDash: [3, 4] },
  { color: COLOR.green, strokeWidth: 1.4, strokeDash: [8, 3] },
];

/** Height of the panel of differences. */
const DIFFERENCE_HEIGHT = 150;

/** Largest difference that is shown, nats: one outlier would make the limit invisible. */
const FURTHEST_SHOWN = 5 * NATS_LIMIT;

/** Distance of two lines of the key. */
const KEY_LINE = 20;

/**
 * Draws the curves, and their differences from the first f32 one with the limit of acceptance.
 *
 * @returns Nothing when there are no updates, or no curve is in f32.
 */
export function parityCurves(result: ParityResult): Chart | undefined {
  const { ways, setup, curves } = result;
  const reference = referenceWay(ways);
  if (!reference || reference.losses.length === 0) return undefined;
  // The reference is the widest line, and so lies below.
  const drawn = [reference, ...ways.filter((way) => way !== reference)];
  const rows: Row[] = [];
  let furthest = 0;
  for (const way of drawn) {
    const differences = curveDifferences(way, reference);
    for (const [i, nats] of way.losses.entries()) {
      const difference = differences[i] ?? null;
      if (difference !== null) furthest = Math.max(furthest, Math.abs(difference));
      rows.push({ way: way.way, update: i + 1, nats, difference });
    }
  }
  const edge = Math.min(Math.max(1.25 * NATS_LIMIT, 1.1 * furthest), FURTHEST_SHOWN);
  const beyond = furthest > edge ? `; what is beyond ${FURTHEST_SHOWN} is cut off` : "";
  const x: ChartSpec = {
    field: "update",
    type: "quantitative",
    scale: { domain: [1, Math.max(2, ...ways.map(({ losses }) => losses.length))], nice: false },
  };
  const lines = (field: string, shown: readonly WayResult[], of: (i: number) => ChartSpec) =>
    shown.map((way) => ({
      transform: [{ filter: `datum.way === '${way.way}' && isValid(datum.${field})` }],
      mark: { type: "line", ...of(drawn.indexOf(way)) },
      encoding: { y: { field, type: "quantitative" } },
    }));
  return {
    kind: "chart",
    name: "parity_curves",
    title: "The same training in every precision and runtime",
    alt: `Training loss over ${setup.steps} updates, ${drawn.length} curves on top of each other, ${
      curves.map(({ way, reference, largest }) =>
        `${way} at most ${apart(largest.nats)} nats from ${reference}`
      ).join("; ")
    }; the limit is ${NATS_LIMIT} nats.`,
    rows,
    spec: {
      spacing: 22,
      vconcat: [
        {
          width: PANEL_WIDTH,
          height: PANEL_HEIGHT,
          title: { text: "Loss, nats a token", subtitle: subtitle(result) },
          encoding: {
            x: { ...x, title: null },
            y: { title: null, scale: { zero: false } },
          },
          layer: [clearing(drawn.length), ...lines("nats", drawn, stroke), ...key(drawn, result)],
        },
        {
          width: PANEL_WIDTH,
          height: DIFFERENCE_HEIGHT,
          title: {
            text: `Difference from ${label(reference)}, nats`,
            subtitle: `band: within ${NATS_LIMIT} nats, the limit of acceptance${beyond}`,
          },
          encoding: {
            x: { ...x, title: "update" },
            y: { title: null, scale: { domain: [-edge, edge], nice: false } },
          },
          layer: [
            {
              data: { values: [{ low: -NATS_LIMIT, high: NATS_LIMIT }] },
              mark: { type: "rect", color: COLOR.tint, opacity: 1 },
              encoding: {
                x: { value: 0 },
                x2: { value: PANEL_WIDTH },
                y: { field: "low", type: "quantitative", axis: { tickCount: 5, format: "~g" } },
                y2: { field: "high" },
              },
            },
            {
              data: { values: [{ at: -NATS_LIMIT }, { at: NATS_LIMIT }] },
              mark: { type: "rule", color: COLOR.muted, strokeDash: [4, 3] },
              encoding: {
                x: { value: 0 },
                x2: { value: PANEL_WIDTH },
                y: { field: "at", type: "quantitative" },
              },
            },
            ...lines("difference", drawn.slice(1), (i) => ({
              ...stroke(i),
              strokeWidth: Math.min(stroke(i).strokeWidth, 2.2),
              clip: true,
            })),
          ],
        },
      ],
    },
  };
}

function stroke(index: number): Stroke & ChartSpec {
  return STROKES[Math.min(index, STROKES.length - 1)] as Stroke & ChartSpec;
}

/** Where the key begins, names from here on. */
const KEY_LEFT = PANEL_WIDTH - 334;

/** Takes the grid away behind the key, not the curves. */
function clearing(lines: number): ChartSpec {
  return {
    data: { values: [{}] },
    mark: { type: "rect", color: COLOR.paper, opacity: 1 },
    encoding: {
      x: { value: KEY_LEFT - 46 },
      x2: { value: PANEL_WIDTH },
      y: { value: 8 - KEY_LINE / 2 },
      y2: { value: 8 + KEY_LINE * (lines - 0.5) },
    },
  };
}

/** Names of the lines in the upper right corner, which falling curves leave free; each with a piece of its line. */
function key(drawn: readonly WayResult[], { curves }: ParityResult): ChartSpec[] {
  return drawn.flatMap((way, i) => {
    const compared = curves.find((curve) => curve.way === way.way);
    const text = compared
      ? `${label(way)}: at most ${apart(compared.largest.nats)} apart, ${
        apart(compared.largest_mean.nats)
      } in 10-step means`
      : `${label(way)} on ${way.adapter}`;
    const y = { value: 8 + KEY_LINE * i };
    return [
      {
        data: { values: [{}] },
        mark: { type: "rule", ...stroke(i) },
        encoding: { x: { value: KEY_LEFT - 40 }, x2: { value: KEY_LEFT - 8 }, y },
      },
      {
        data: { values: [{ text }] },
        mark: { type: "text", align: "left", baseline: "middle", color: COLOR.ink },
        encoding: { x: { value: KEY_LEFT }, y, text: { field: "text", type: "nominal" } },
      },
    ];
  });
}

/** `Deno, f32`. */
function label({ runtime, precision, rounded }: WayResult): string {
  return `${runtime === "deno" ? "Deno" : "Dawn"}, ${precision}${rounded ? ", rounded" : ""}`;
}

/** A difference for a label. */
function apart(nats: number | null): string {
  return nats === null ? "not finite" : nats === 0 ? "0" : nats.toPrecision(2);
}

function subtitle({ setup }: ParityResult): string {
  const { stored } = countParameters(setup.config);
  return `${compact(stored)} parameters, ${
    setup.tokens_per_update.toLocaleString("en-US")
  } tokens an update, ${setup.text.name}`;
}
