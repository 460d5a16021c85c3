/**
 * One ablated factor: held-out loss of each value with its 95 % interval, and the paired difference to the base.
 *
 * @module
 */

import type { FactorResults } from "../ablation.ts";
import type { Chart, ChartSpec, Row } from "./figure.ts";
import { COLOR, SMALL_PANEL } from "./style.ts";

/** Height of one value's row in pixels. */
const ROW = 34;

/** Draws a factor; intervals come from the `ablate` stage. */
export function ablationFigure(factor: FactorResults): Chart {
  const dense = factor.values.some((v) => v.againstDense !== undefined);
  const rows: Row[] = factor.values.map((v) => ({
    value: v.label,
    role: v.base ? "base" : "variant",
    n: v.nats.n,
    nats: v.nats.mean,
    nats_low: v.nats.low,
    nats_high: v.nats.high,
    pairs: v.difference?.n ?? null,
    difference: v.difference?.mean ?? null,
    difference_low: v.difference?.low ?? null,
    difference_high: v.difference?.high ?? null,
    ...(dense && {
      against_dense: v.againstDense?.mean ?? null,
      against_dense_low: v.againstDense?.low ?? null,
      against_dense_high: v.againstDense?.high ?? null,
    }),
  }));
  const height = ROW * rows.length;
  const values = factor.values.map((v) => v.label);
  const compared = factor.values.some((v) => v.difference !== undefined);
  const panels = [
    panel("nats", "Held-out loss, nats a token", { height, values, axis: true }),
    ...(compared
      ? [panel("difference", "Difference to the base, same seeds", { height, values, zero: true })]
      : []),
  ];
  const best = [...factor.values].sort((a, b) => a.nats.mean - b.nats.mean)[0];
  return {
    kind: "chart",
    name: `ablation_${factor.name}`.replaceAll("-", "_"),
    title: `Ablation: ${factor.title}`,
    alt: `Held-out loss for ${factor.values.map((v) => v.label).join(", ")}; lowest mean ${
      best ? `${best.nats.mean.toFixed(3)} nats at ${best.label}` : "unknown"
    }. Bars are 95 % t-intervals over seeds.`,
    rows,
    spec: { spacing: 40, hconcat: panels },
  };
}

function panel(
  field: "nats" | "difference",
  title: string,
  options: { height: number; values: readonly string[]; axis?: boolean; zero?: boolean },
): ChartSpec {
  const y = {
    field: "value",
    type: "nominal",
    scale: { domain: [...options.values] },
    title: null,
    axis: options.axis ? { labelFontSize: 12.5, labelPadding: 8 } : { labels: false },
  };
  const color = {
    field: "role",
    type: "nominal",
    legend: null,
    scale: { domain: ["base", "variant"], range: [COLOR.muted, COLOR.blue] },
  };
  const x = { type: "quantitative", title, scale: { zero: false, nice: true } };
  const known = { filter: `isValid(datum.${field}) && datum.${field} !== ''` };
  return {
    width: SMALL_PANEL.width,
    height: options.height,
    encoding: { y },
    layer: [
      ...(options.zero
        ? [{
          data: { values: [{ zero: 0 }] },
          mark: { type: "rule", color: COLOR.muted, strokeDash: [3, 3] },
          encoding: { x: { field: "zero", type: "quantitative" }, y: null },
        }]
        : []),
      {
        transform: [{ filter: `isValid(datum.${field}_low)` }],
        mark: { type: "rule", strokeWidth: 2 },
        encoding: {
          x: { ...x, field: `${field}_low`, axis: { tickCount: 5, grid: true } },
          x2: { field: `${field}_high` },
          color,
        },
      },
      {
        transform: [known],
        mark: { type: "point", filled: true, size: 70, opacity: 1 },
        encoding: { x: { ...x, field }, color },
      },
    ],
  };
}
