/**
 * Mutual information of experts with labels of tokens, beside its controls.
 *
 * @module
 */

import type { Chart } from "../../report/figures/figure.ts";
import { COLOR } from "../../report/figures/style.ts";
import { LABEL_NAMES, type Specialisation } from "../specialisation.ts";
import { distinct, facet } from "./panels.ts";

const SERIES_NAMES = ["experts", "corrected", "shuffled", "same token", "random"] as const;

/** Draws a panel a layer: estimates as they are and corrected, and the means of both controls. */
export function specialisationFigure(found: readonly Specialisation[]): Chart {
  const rows = found.flatMap((each) => {
    const base = { panel: `layer ${each.layer}`, label: LABEL_NAMES[each.label] };
    return [
      { ...base, series: SERIES_NAMES[0], nats: each.plugin, deviation: null },
      { ...base, series: SERIES_NAMES[1], nats: each.corrected, deviation: null },
      {
        ...base,
        series: SERIES_NAMES[2],
        nats: each.shuffled.mean,
        deviation: each.shuffled.deviation,
      },
      {
        ...base,
        series: SERIES_NAMES[3],
        nats: each.same_token.mean,
        deviation: each.same_token.deviation,
      },
      {
        ...base,
        series: SERIES_NAMES[4],
        nats: each.random.mean,
        deviation: each.random.deviation,
      },
    ];
  });
  const panels = distinct(rows.map(({ panel }) => panel));
  const labels = distinct(rows.map(({ label }) => label));
  return {
    kind: "chart",
    name: "expert_information",
    title: "Mutual information of experts and tokens",
    alt: `Points of mutual information in nats. ${
      found.map((each) =>
        `Layer ${each.layer}, ${LABEL_NAMES[each.label]}: ${each.plugin.toFixed(3)} as counted, ${
          each.shuffled.mean.toFixed(3)
        } with shuffled assignments`
      ).join("; ")
    }.`,
    rows,
    spec: {
      title: { text: "Mutual information with the kept expert, nats" },
      ...facet("panel", panels),
      spec: {
        width: 230,
        height: 130,
        mark: { type: "point", filled: true, size: 70, opacity: 0.9 },
        encoding: {
          x: { field: "nats", type: "quantitative", title: null },
          y: { field: "label", type: "nominal", sort: labels, title: null, axis: { grid: true } },
          color: {
            field: "series",
            type: "nominal",
            sort: [...SERIES_NAMES],
            scale: {
              domain: [...SERIES_NAMES],
              range: [COLOR.vermilion, COLOR.green, COLOR.blue, COLOR.purple, COLOR.muted],
            },
            legend: { title: null, orient: "bottom", direction: "horizontal" },
          },
          shape: {
            field: "series",
            type: "nominal",
            sort: [...SERIES_NAMES],
            scale: {
              domain: [...SERIES_NAMES],
              range: ["circle", "diamond", "square", "cross", "triangle-up"],
            },
            legend: { title: null, orient: "bottom", direction: "horizontal" },
          },
        },
      },
    },
  };
}
