/**
 * How the tokens of a text spread over the experts of each layer, before and after training.
 *
 * @module
 */

import type { Chart, Row } from "./figure.ts";
import { COLOR } from "./style.ts";

/** Kept slots by expert in one layer of one model. */
export interface ExpertShares {
  readonly layer: number;
  readonly model: "untrained" | "trained";
  /** Slots by expert. */
  readonly counts: readonly number[];
  /** Coefficient of variation of the counts. */
  readonly cv: number;
}

/** Panels beside each other. */
const COLUMNS = 3;

/** Draws the share of each expert, a panel a layer, with a line at an even share. */
export function expertShares(shares: readonly ExpertShares[]): Chart {
  const layers = [...new Set(shares.map(({ layer }) => layer))].sort((a, b) => a - b);
  const experts = Math.max(...shares.map(({ counts }) => counts.length));
  const panelOf = (layer: number) =>
    `layer ${layer}: CV ${
      shares.filter((each) => each.layer === layer).map(({ cv }) => cv.toFixed(3)).join(" → ")
    }`;
  const rows: Row[] = shares.flatMap(({ layer, model, counts, cv }) => {
    const slots = counts.reduce((a, b) => a + b, 0);
    return counts.map((count, expert) => ({
      panel: panelOf(layer),
      layer,
      model,
      expert,
      slots: count,
      share: 100 * count / slots,
      cv,
    }));
  });
  const models = [...new Set(shares.map(({ model }) => model))];
  const most = (model: string) =>
    rows.filter((row) => row["model"] === model)
      .reduce((a, b) => Math.max(a, Number(b["share"])), 0);
  return {
    kind: "chart",
    name: "expert_shares",
    title: "Share of kept slots by expert",
    alt:
      `Bars for ${experts} experts in ${layers.length} layers, where an even share is ${
        (100 / experts).toFixed(1)
      } %: ` +
      `${
        models.map((model) => `the most used expert has ${most(model).toFixed(1)} % ${model}`)
          .join(", ")
      }.`,
    rows,
    spec: {
      title: {
        text: "Share of kept slots, %",
        subtitle: `dashed: an even share, ${(100 / experts).toFixed(1)} %`,
      },
      columns: COLUMNS,
      spacing: { column: 24, row: 18 },
      facet: {
        field: "panel",
        type: "nominal",
        title: null,
        sort: layers.map(panelOf),
        header: { labelFontSize: 12, labelColor: COLOR.ink, labelPadding: 6 },
      },
      spec: {
        width: 210,
        height: 130,
        layer: [
          {
            mark: { type: "bar" },
            encoding: {
              x: {
                field: "expert",
                type: "ordinal",
                title: "expert",
                axis: { labelAngle: 0, labelOverlap: true, grid: false },
              },
              xOffset: { field: "model", type: "nominal", sort: [...models] },
              y: { field: "share", type: "quantitative", title: null },
              color: {
                field: "model",
                type: "nominal",
                sort: [...models],
                scale: {
                  domain: [...models],
                  range: models.length === 1 ? [COLOR.blue] : [COLOR.sky, COLOR.vermilion],
                },
                legend: { title: null, orient: "bottom", direction: "horizontal" },
              },
            },
          },
          {
            mark: { type: "rule", color: COLOR.ink, strokeDash: [4, 3], strokeWidth: 1.2 },
            encoding: { y: { datum: 100 / experts } },
          },
        ],
      },
    },
  };
}
