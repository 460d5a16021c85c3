/**
 * Section 7.1 of the paper: memory of one expert layer over the number of experts, from formulas.
 *
 * @module
 */

import { LAYER_KINDS, layerParameters, type LayerSizes } from "../theory/memory.ts";
import type { Chart, Row } from "./figure.ts";
import { BINARY_LABELS, COLOR, PANEL_HEIGHT, PANEL_WIDTH } from "./style.ts";

/** Bytes of one stored number. */
const BF16 = 2;

/** Draws bf16 bytes of one layer for 16 to 4 M experts, all with the sizes given. */
export function memoryFigure(sizes: LayerSizes, options: { experts: number }): Chart {
  const rows: Row[] = [];
  for (const kind of LAYER_KINDS) {
    for (let exponent = 4; exponent <= 22; exponent += 2) {
      const experts = 2 ** exponent;
      const parameters = layerParameters(kind, experts, sizes);
      rows.push({ layer: kind, experts, parameters, gigabytes: parameters * BF16 / 1e9 });
    }
  }
  const end = 2 ** 22;
  return {
    kind: "chart",
    name: "memory",
    title: "Memory of one expert layer",
    alt:
      `Gigabytes of one layer in bf16 over the number of experts, both axes logarithmic: a traditional mixture is ` +
      `highest, PEER lower, ETHOS lowest; at few experts the shared matrices and the router set a floor.`,
    rows,
    spec: {
      width: PANEL_WIDTH,
      height: PANEL_HEIGHT,
      title: {
        text: "Weights of one layer, GB (bf16)",
        subtitle:
          `D ${sizes.d_model}, feed-forward ${sizes.d_ffn}, latent ${sizes.d_latent}, hidden ${sizes.d_hidden}; computed, not measured`,
      },
      encoding: {
        x: {
          field: "experts",
          type: "quantitative",
          title: "experts in the layer (logarithmic)",
          scale: { type: "log", base: 2, domain: [16, end], nice: false },
          axis: {
            values: [16, 256, 4096, 65536, 1048576],
            labelExpr: BINARY_LABELS,
          },
        },
        y: {
          field: "gigabytes",
          type: "quantitative",
          title: null,
          scale: { type: "log" },
          axis: { format: ",~g", tickCount: 8 },
        },
        color: {
          field: "layer",
          type: "nominal",
          legend: null,
          scale: { domain: [...LAYER_KINDS], range: [COLOR.purple, COLOR.vermilion, COLOR.blue] },
        },
      },
      layer: [
        {
          mark: { type: "rule", color: COLOR.muted, strokeDash: [2, 3] },
          encoding: { x: { datum: options.experts }, y: null, color: null },
        },
        { mark: { type: "line" } },
        { mark: { type: "point", filled: true, size: 28, opacity: 1 } },
        {
          transform: [{ filter: `datum.experts === ${end}` }],
          mark: { type: "text", align: "right", dx: -2, dy: -14, fontWeight: 600 },
          encoding: { text: { field: "layer", type: "nominal" } },
        },
      ],
    },
  };
}
