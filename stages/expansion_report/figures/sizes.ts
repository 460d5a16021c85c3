/**
 * Sizes of the clusters of each block and site, as shares of the calibration rows.
 *
 * @module
 */

import type { ExpansionResult } from "../../expand/result.ts";
import type { Chart, Row } from "../../report/figures/figure.ts";
import { COLOR } from "../../report/figures/style.ts";
import { NUMBERS, positiveAxis } from "./line_panels.ts";

/** The sites of a block, in their order. */
export const SITES = ["in", "mid"] as const;

/** Draws the share of each cluster, a panel a site, with a line at an even share; nothing for a single cluster. */
export function sizesFigure({ blocks }: ExpansionResult): Chart | undefined {
  const rows: Row[] = SITES.flatMap((site) =>
    blocks.flatMap((sites, block) => {
      const { sizes } = sites[site];
      const all = sizes.reduce((sum, size) => sum + size, 0);
      return sizes.toSorted((a, b) => b - a).map((size, rank): Row => ({
        site,
        block,
        rank: rank + 1,
        rows: size,
        share: 100 * size / all,
      }));
    })
  );
  const clusters = Math.max(...blocks.map((sites) => sites.in.sizes.length));
  if (!(clusters > 1)) return undefined;
  const even = 100 / clusters;
  const shares = rows.map(({ share }) => Number(share));
  const y = positiveAxis([...shares, even], { title: null });
  const step = Math.ceil(blocks.length / 10);
  return {
    kind: "chart",
    name: "cluster_sizes",
    title: "Sizes of the clusters",
    alt: `Shares of the calibration rows that ${clusters} clusters have in ${blocks.length} block${
      blocks.length === 1 ? "" : "s"
    }: from ${Math.min(...shares).toPrecision(2)}\u00a0% to ${
      Math.max(...shares).toPrecision(3)
    } %, where an even share is ${even.toPrecision(3)} %.`,
    rows,
    spec: {
      title: {
        text: "Calibration rows of a cluster, %",
        subtitle: `dashed: an even share, ${Number(even.toPrecision(3))} %`,
      },
      spacing: 36,
      hconcat: SITES.map((site) => ({
        width: 270,
        height: 200,
        title: {
          text: site === "in" ? "before the activation" : "behind the activation",
          fontSize: 12.5,
        },
        transform: [{ filter: `datum.site === '${site}'` }],
        layer: [
          {
            mark: { type: "rule", color: COLOR.ink, strokeDash: [4, 3], strokeWidth: 1.2 },
            encoding: { y: { datum: even } },
          },
          {
            mark: { type: "point", color: COLOR.blue, size: 34, opacity: 0.75, strokeWidth: 1.4 },
            encoding: {
              x: {
                field: "block",
                type: "quantitative",
                title: "block",
                scale: { domain: [-0.5, blocks.length - 0.5], nice: false },
                axis: {
                  values: blocks.map((_, i) => i).filter((i) => i % step === 0),
                  format: "d",
                  grid: false,
                },
              },
              y: {
                field: "share",
                type: "quantitative",
                title: null,
                scale: {
                  type: y.logarithmic ? "log" : "linear",
                  domain: [...y.domain],
                  nice: false,
                  ...(!y.logarithmic && { zero: false }),
                },
                axis: { values: [...y.values], format: NUMBERS, grid: true },
              },
            },
          },
        ],
      })),
    },
  };
}
