/**
 * Uses of a layer's experts by rank.
 *
 * @module
 */

import type { Chart } from "../../report/figures/figure.ts";
import { COLOR, PANEL_HEIGHT, PANEL_WIDTH, SERIES } from "../../report/figures/style.ts";
import type { LayerUse, UsedExpert } from "../use.ts";

/** Points of a curve at most: ranks are thinned out evenly on a logarithmic axis. */
const POINTS = 200;

/** Draws uses by rank, a line a layer. */
export function expertRanks(
  layers: readonly { readonly use: LayerUse; readonly used: readonly UsedExpert[] }[],
): Chart {
  const rows = layers.flatMap(({ use, used }) =>
    ranks(used.length).map((rank) => ({
      layer: `layer ${use.layer}`,
      rank,
      uses: used[rank - 1]!.uses,
    }))
  );
  const names = layers.map(({ use }) => `layer ${use.layer}`);
  return {
    kind: "chart",
    name: "expert_ranks",
    title: "Uses of experts by rank",
    alt: `Lines of uses by rank on logarithmic axes. ${
      layers.map(({ use, used }) =>
        `Layer ${use.layer}: ${used.length} experts used, the first ${
          used[0]?.uses ?? 0
        } times, half of all uses by ${use.half}`
      ).join("; ")
    }.`,
    rows,
    spec: {
      width: PANEL_WIDTH,
      height: PANEL_HEIGHT,
      title: { text: "Times that an expert was kept" },
      mark: { type: "line", color: COLOR.blue },
      encoding: {
        x: {
          field: "rank",
          type: "quantitative",
          scale: { type: "log" },
          title: "rank of the expert in its layer",
        },
        y: { field: "uses", type: "quantitative", scale: { type: "log" }, title: null },
        color: {
          field: "layer",
          type: "nominal",
          sort: names,
          scale: { domain: names, range: names.map((_, i) => SERIES[i % SERIES.length]!) },
          legend: { title: null, orient: "top", direction: "horizontal" },
        },
      },
    },
  };
}

function ranks(count: number): number[] {
  const found = new Set<number>();
  for (let i = 0; i <= POINTS; i++) {
    if (count > 0) found.add(Math.min(count, Math.max(1, Math.round(count ** (i / POINTS)))));
  }
  return [...found];
}
