/**
 * How evenly experts are used: per layer, the fraction of all choices that the most used experts take.
 *
 * @module
 */

import type { Evaluation } from "../../evaluate/result.ts";
import type { Chart, Row } from "./figure.ts";
import { COLOR, PANEL_HEIGHT, PANEL_WIDTH, SERIES } from "./style.ts";

/** Points of each curve. */
const POINTS = 100;

/**
 * Draws one Lorenz-like curve a layer, the most used experts first. Even use is the diagonal.
 *
 * @returns Nothing when no layer has counts.
 */
export function routingDistribution(layers: Evaluation["layers"]): Chart | undefined {
  const rows: Row[] = [];
  const used = layers.filter((l) => l.routing_histogram.some((count) => count > 0));
  for (const { layer, routing_histogram: sorted } of used) {
    const total = sorted.reduce((s, c) => s + c, 0);
    const points = Math.min(POINTS, sorted.length);
    let sum = 0;
    let taken = 0;
    rows.push({ layer: `layer ${layer}`, experts: 0, choices: 0 });
    for (let i = 1; i <= points; i++) {
      const upTo = Math.round(sorted.length * i / points);
      while (taken < upTo) sum += sorted[taken++]!;
      rows.push({
        layer: `layer ${layer}`,
        experts: 100 * upTo / sorted.length,
        choices: 100 * sum / total,
      });
    }
  }
  const names = [...new Set(rows.map((r) => String(r.layer)))];
  if (names.length === 0) return undefined;
  const few = names.length <= SERIES.length;
  const at = (share: number) =>
    rows.filter((r) => r.experts !== null && Number(r.experts) >= share && r.layer === names[0])[0];
  return {
    kind: "chart",
    name: "routing_distribution",
    title: "How evenly experts are chosen",
    alt: `Share of all choices taken by the most used experts, for ${names.length} expert layer${
      names.length === 1 ? "" : "s"
    }; in ${names[0]} the most used 10 % take ${
      Number(at(10)?.choices ?? 0).toFixed(0)
    } % of the choices.`,
    rows,
    spec: {
      width: PANEL_WIDTH,
      height: PANEL_HEIGHT,
      title: {
        text: "Share of choices, %",
        subtitle: "most used experts first; dashed: every expert chosen equally often",
      },
      encoding: {
        x: {
          field: "experts",
          type: "quantitative",
          title: "most used experts, % of the layer",
          scale: { domain: [0, 100] },
        },
        y: { field: "choices", type: "quantitative", title: null, scale: { domain: [0, 100] } },
      },
      layer: [
        {
          data: { values: [{ experts: 0, choices: 0 }, { experts: 100, choices: 100 }] },
          mark: { type: "line", color: COLOR.muted, strokeDash: [4, 4], strokeWidth: 1.2 },
        },
        {
          mark: { type: "line", strokeWidth: few ? 2 : 1.2, opacity: few ? 1 : 0.7 },
          encoding: {
            color: few
              ? {
                field: "layer",
                type: "nominal",
                scale: { domain: names, range: SERIES.slice(0, names.length) },
                legend: names.length === 1 ? null : { title: null, orient: "bottom-right" },
              }
              : {
                field: "layer",
                type: "ordinal",
                sort: names,
                scale: { range: [COLOR.sky, COLOR.purple] },
                legend: { title: null, orient: "right", symbolType: "stroke" },
              },
          },
        },
      ],
    },
  };
}
