/**
 * Outputs of the least Gaussian neurons: of the dense layer over all rows, of the experts within their clusters, and the Gaussian.
 *
 * @module
 */

import type { NeuronsResult } from "../../expand/neurons_result.ts";
import type { Chart, Row } from "../../report/figures/figure.ts";
import { COLOR } from "../../report/figures/style.ts";

/** Neurons that are shown. */
const SHOWN = 4;

/** Draws the neurons with the largest distances before the expansion; nothing where no histogram was kept. */
export function histogramsFigure({ blocks, bins }: NeuronsResult): Chart | undefined {
  const found = blocks.flatMap(({ layers }, block) =>
    layers.flatMap(({ layer, neurons, dense, expert, histograms }) =>
      histograms.map((histogram) => {
        const at = neurons.indexOf(histogram.neuron);
        return { ...histogram, block, layer, before: dense[at]!, after: expert[at]! };
      })
    )
  ).toSorted((a, b) => b.before - a.before).slice(0, SHOWN);
  if (found.length === 0) return undefined;
  const width = 2 * bins.reach / bins.bins;
  const titles = found.map(({ block, layer, neuron, before, after }) =>
    `block ${block}, ${layer}, neuron ${neuron}: ${before.toFixed(3)} → ${after.toFixed(3)}`
  );
  const rows: Row[] = found.flatMap(({ dense, expert }, i) => {
    const density = (counts: readonly number[], bin: number) =>
      counts[bin]! / counts.reduce((sum, n) => sum + n, 0) / width;
    return dense.map((_, bin): Row => {
      const low = -bins.reach + bin * width;
      const middle = low + width / 2;
      return {
        neuron: titles[i]!,
        low,
        high: low + width,
        middle,
        dense: density(dense, bin),
        expert: density(expert, bin),
        gaussian: Math.exp(-(middle ** 2) / 2) / Math.sqrt(2 * Math.PI),
      };
    });
  });
  return {
    kind: "chart",
    name: "neuron_outputs",
    title: "Outputs of the neurons that were farthest from a Gaussian",
    alt:
      `Densities of standardised outputs of ${found.length} neurons with a Gaussian. Distances before and after: ${
        titles.join("; ")
      }.`,
    rows,
    spec: {
      title: {
        text: "Density of standardised outputs",
        subtitle:
          "bars: dense, all rows; line: experts, each cluster standardised by itself; dashed: Gaussian",
      },
      columns: 2,
      spacing: { column: 28, row: 18 },
      facet: {
        field: "neuron",
        type: "nominal",
        title: null,
        sort: titles,
        header: { labelFontSize: 11.5, labelColor: COLOR.ink, labelPadding: 6 },
      },
      resolve: { scale: { y: "independent" } },
      spec: {
        width: 270,
        height: 140,
        layer: [
          {
            mark: { type: "bar", color: COLOR.sky, opacity: 0.65, binSpacing: 0 },
            encoding: {
              x: {
                field: "low",
                bin: "binned",
                type: "quantitative",
                title: "standard deviations from the mean",
                scale: { domain: [-bins.reach, bins.reach], nice: false },
                axis: { tickCount: 5, grid: false },
              },
              x2: { field: "high" },
              y: { field: "dense", type: "quantitative", title: null, axis: { tickCount: 3 } },
            },
          },
          {
            mark: { type: "line", color: COLOR.ink, strokeWidth: 1.3, strokeDash: [4, 3] },
            encoding: {
              x: { field: "middle", type: "quantitative" },
              y: { field: "gaussian", type: "quantitative" },
            },
          },
          {
            mark: { type: "line", color: COLOR.vermilion, strokeWidth: 1.6 },
            encoding: {
              x: { field: "middle", type: "quantitative" },
              y: { field: "expert", type: "quantitative" },
            },
          },
        ],
      },
    },
  };
}
