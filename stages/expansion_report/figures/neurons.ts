/**
 * Wasserstein distances of neurons from a Gaussian: their spread in each layer, and their medians by block.
 *
 * @module
 */

import type { Chart, Row } from "../../report/figures/figure.ts";
import { COLOR } from "../../report/figures/style.ts";
import {
  layerNames,
  type Measure,
  MEASURE_NAMES,
  MEASURES,
  type Neuron,
  quantile,
} from "../neurons.ts";
import { type LinePanel, NUMBERS, panelRows, panelSpecs, positiveAxis } from "./line_panels.ts";

const COLORS: Readonly<Record<Measure, string>> = {
  dense: COLOR.ink,
  split: COLOR.muted,
  clustered: COLOR.sky,
  expert: COLOR.blue,
};

/** Draws a box a measure and layer: the middle half of the neurons, their median, and lines to 5 % and 95 %. */
export function distancesFigure(neurons: readonly Neuron[]): Chart | undefined {
  if (neurons.length === 0) return undefined;
  const layers = layerNames(neurons);
  const names = MEASURES.map((measure) => MEASURE_NAMES[measure]);
  const rows: Row[] = layers.flatMap((layer) => {
    const own = neurons.filter((neuron) => neuron.layer === layer);
    return MEASURES.map((measure) => {
      const values = own.map((neuron) => neuron[measure]);
      const at = (part: number) => quantile(values, part);
      return {
        layer,
        measure: MEASURE_NAMES[measure],
        neurons: own.length,
        p5: at(0.05),
        p25: at(0.25),
        median: at(0.5),
        p75: at(0.75),
        p95: at(0.95),
      };
    });
  });
  const color = {
    field: "measure",
    type: "nominal",
    legend: null,
    scale: { domain: names, range: MEASURES.map((measure) => COLORS[measure]) },
  };
  const x = positiveAxis(rows.flatMap(({ p5, p95 }) => [Number(p5), Number(p95)]), { title: null });
  const scale = {
    type: x.logarithmic ? "log" : "linear",
    domain: [...x.domain],
    nice: false,
    ...(!x.logarithmic && { zero: false }),
  };
  return {
    kind: "chart",
    name: "neuron_distances",
    title: "Distances of neurons from a Gaussian",
    alt: `Boxes of Wasserstein distances for ${layers.join(", ")}. ${
      layers.map((layer) =>
        `Medians of ${layer}: ${
          rows.filter((row) => row["layer"] === layer).map((row) =>
            `${row["measure"]} ${Number(row["median"]).toFixed(3)}`
          ).join("; ")
        }.`
      ).join(" ")
    }`,
    rows,
    spec: {
      spacing: 18,
      vconcat: layers.map((layer, i) => ({
        width: 430,
        height: 100,
        title: { text: layer, fontSize: 12.5 },
        transform: [{ filter: `datum.layer === ${JSON.stringify(layer)}` }],
        encoding: {
          y: {
            field: "measure",
            type: "nominal",
            sort: names,
            title: null,
            axis: { grid: false, labelLimit: 200, labelColor: COLOR.ink },
          },
          color,
        },
        layer: [
          {
            mark: { type: "rule", strokeWidth: 1.4 },
            encoding: {
              x: {
                field: "p5",
                type: "quantitative",
                scale,
                title: i === layers.length - 1 ? "Wasserstein distance from a Gaussian" : null,
                axis: { values: [...x.values], format: NUMBERS, grid: true },
              },
              x2: { field: "p95" },
            },
          },
          {
            mark: { type: "bar", height: 12 },
            encoding: { x: { field: "p25", type: "quantitative", scale }, x2: { field: "p75" } },
          },
          {
            mark: { type: "tick", color: COLOR.paper, thickness: 2, height: 12, opacity: 1 },
            encoding: {
              x: { field: "median", type: "quantitative", scale },
              color: { value: COLOR.paper },
            },
          },
        ],
      })),
    },
  };
}

/** Draws the medians over the blocks, a panel a layer; nothing for a single block. */
export function blocksFigure(neurons: readonly Neuron[]): Chart | undefined {
  const blocks = [...new Set(neurons.map(({ block }) => block))];
  if (blocks.length < 2) return undefined;
  const panels = layerNames(neurons).map((layer): LinePanel => {
    const own = neurons.filter((neuron) => neuron.layer === layer);
    const lines = MEASURES.map((measure) => ({
      label: MEASURE_NAMES[measure],
      color: COLORS[measure],
      dashed: measure === "split",
      points: blocks.map((block) => {
        const values = own.filter((neuron) => neuron.block === block).map((neuron) =>
          neuron[measure]
        );
        return { x: block, y: { mean: quantile(values, 0.5), low: null, high: null } };
      }),
    }));
    const step = Math.ceil(blocks.length / 9);
    return {
      key: layer,
      title: layer,
      lines,
      x: {
        title: "block",
        domain: [blocks[0]! - 0.25, blocks.at(-1)! + 0.25],
        logarithmic: false,
        values: blocks.filter((_, i) => i % step === 0),
      },
      y: positiveAxis(lines.flatMap(({ points }) => points.map(({ y }) => y.mean)), {
        title: "median distance",
      }),
      width: 200,
      height: 180,
    };
  });
  return {
    kind: "chart",
    name: "neuron_distances_by_block",
    title: "Median distance of a block's neurons from a Gaussian",
    alt: `Medians over the neurons of each of ${blocks.length} blocks, a panel for each of ${
      panels.map(({ key }) => key).join(", ")
    }, measured in four ways.`,
    rows: panelRows(panels),
    spec: {
      spacing: 26,
      vconcat: Array.from({ length: Math.ceil(panels.length / 2) }, (_, i) => ({
        spacing: 28,
        hconcat: panelSpecs(panels).slice(2 * i, 2 * i + 2),
      })),
    },
  };
}
