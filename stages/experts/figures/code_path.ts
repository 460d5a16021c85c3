/**
 * Experts on the way from one latent code to another.
 *
 * @module
 */

import type { CodePath } from "../../../model/interpret/interpolation.ts";
import type { Chart } from "../../report/figures/figure.ts";
import { COLOR, SMALL_PANEL } from "../../report/figures/style.ts";
import { distinct, facet } from "./panels.ts";

const QUANTITIES = {
  divergence: "divergence from the first code's prediction, nats",
  cosine: "cosine of the output vector to the first code's",
  bend: "bend of the output vector",
  loss: "loss of the next token, nats",
} as const;

/** Where paths end, in words. */
export const END_NAMES = { near: "to a near code", random: "to a random expert" } as const;

/** Draws a panel a quantity, a line a path. */
export function codePathFigure(
  paths: readonly { readonly end: "near" | "random"; readonly path: CodePath }[],
): Chart {
  const rows = paths.flatMap(({ end, path }) =>
    path.points.flatMap((point) => {
      const base = {
        path: `${path.layer}:${path.from} to ${path.layer}:${path.to}`,
        ends: `layer ${path.layer}, ${END_NAMES[end]}`,
        layer: path.layer,
        share: point.share,
      };
      return [
        { ...base, panel: QUANTITIES.divergence, value: point.divergence },
        { ...base, panel: QUANTITIES.cosine, value: point.output_cosines[0] },
        { ...base, panel: QUANTITIES.bend, value: point.bend },
        { ...base, panel: QUANTITIES.loss, value: point.loss },
      ];
    })
  );
  const names = distinct(rows.map(({ ends }) => ends));
  const colors = [COLOR.blue, COLOR.vermilion, COLOR.green, COLOR.purple, COLOR.orange, COLOR.sky];
  return {
    kind: "chart",
    name: "code_path",
    title: "Between two codes",
    alt: `Lines along the way from one code to another. ${
      paths.map(({ end, path }) => {
        const last = path.points.at(-1)!;
        return `Layer ${path.layer}, ${END_NAMES[end]}, ${path.to}: divergence ${
          last.divergence.toFixed(4)
        } nats at the end, cosine ${last.output_cosines[0].toFixed(2)}`;
      }).join("; ")
    }.`,
    rows,
    spec: {
      ...facet("panel", Object.values(QUANTITIES)),
      resolve: { scale: { y: "independent" } },
      spec: {
        ...SMALL_PANEL,
        mark: { type: "line" },
        encoding: {
          x: { field: "share", type: "quantitative", title: "share of the second code" },
          y: { field: "value", type: "quantitative", title: null, scale: { zero: false } },
          detail: { field: "path", type: "nominal" },
          color: {
            field: "ends",
            type: "nominal",
            sort: names,
            scale: { domain: names, range: names.map((_, i) => colors[i % colors.length]!) },
            legend: { title: null, orient: "bottom", columns: 2, labelLimit: 300 },
          },
        },
      },
    },
  };
}
