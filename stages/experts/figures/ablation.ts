/**
 * Change of the loss without experts, beside that without random ones of equal use.
 *
 * @module
 */

import type { EditEffect } from "../../../model/interpret/ablation.ts";
import type { Chart } from "../../report/figures/figure.ts";
import { COLOR, PANEL_WIDTH } from "../../report/figures/style.ts";

/** Draws a row a group: a filled point for it, open ones for its controls. */
export function ablationFigure(groups: readonly EditEffect[]): Chart {
  const rows = groups.flatMap((group) => [
    { group: group.name, series: "left out", change: 1000 * group.change, use: group.use },
    ...group.controls.changes.map((change, i) => ({
      group: group.name,
      series: "random experts of equal use",
      change: 1000 * change,
      use: group.controls.use[i]!,
    })),
  ]);
  const series = ["left out", "random experts of equal use"];
  const worst = groups.toSorted((a, b) => b.change - a.change)[0];
  return {
    kind: "chart",
    name: "expert_ablation",
    title: "Loss without experts",
    alt: `Points for ${groups.length} experts and clusters. ${
      worst ? `The loss rises most without ${worst.name}, by ${worst.change.toFixed(4)} nats.` : ""
    }`,
    rows,
    spec: {
      width: PANEL_WIDTH,
      height: { step: 19 },
      title: { text: "Change of the mean loss, thousandths of a nat" },
      layer: [
        {
          mark: { type: "rule", color: COLOR.ink, strokeDash: [4, 3] },
          encoding: { x: { datum: 0, type: "quantitative" } },
        },
        {
          mark: { type: "point", filled: true, size: 60, opacity: 0.85 },
          encoding: {
            x: { field: "change", type: "quantitative", title: null },
            y: {
              field: "group",
              type: "nominal",
              sort: groups.map(({ name }) => name),
              title: null,
              axis: { grid: true, labelOverlap: false },
            },
            color: {
              field: "series",
              type: "nominal",
              sort: series,
              scale: { domain: series, range: [COLOR.vermilion, COLOR.blue] },
              legend: { title: null, orient: "top", direction: "horizontal" },
            },
            shape: {
              field: "series",
              type: "nominal",
              sort: series,
              scale: { domain: series, range: ["circle", "diamond"] },
              legend: { title: null, orient: "top", direction: "horizontal" },
            },
          },
        },
      ],
    },
  };
}
