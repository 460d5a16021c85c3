/**
 * Codes of experts in two dimensions, coloured by cluster.
 *
 * @module
 */

import type { Chart } from "../../report/figures/figure.ts";
import { SERIES } from "../../report/figures/style.ts";
import type { LayerClusters } from "../clusters.ts";
import { facet } from "./panels.ts";

const SHAPES = ["circle", "triangle-up", "square"];

/** Draws both maps of each layer. */
export function expertMap(layers: readonly LayerClusters[]): Chart {
  const rows = layers.flatMap(({ layer, map }) =>
    (["PCA", "UMAP"] as const).flatMap((method) =>
      map.experts.map((expert, i) => {
        const places = method === "PCA" ? map.pca : map.umap;
        return {
          panel: `layer ${layer}, ${method}`,
          layer,
          method,
          expert,
          cluster: `cluster ${map.labels[i]}`,
          x: places.x[i]!,
          y: places.y[i]!,
        };
      })
    )
  );
  const panels = [...new Set(rows.map(({ panel }) => panel))];
  const clusters = [...new Set(rows.map(({ cluster }) => cluster))]
    .sort((a, b) => Number(a.split(" ")[1]) - Number(b.split(" ")[1]));
  const of = (values: readonly string[], every: number) =>
    clusters.map((_, i) => values[Math.floor(i / every) % values.length]!);
  const legend = { title: null, orient: "bottom", direction: "horizontal", columns: 6 } as const;
  return {
    kind: "chart",
    name: "expert_map",
    title: "Maps of experts",
    alt:
      `Points for the most used experts of each layer by principal components and by UMAP, in ${clusters.length} colours and shapes for clusters. ${
        layers.map(({ layer, map, explained }) =>
          `Layer ${layer}: ${map.experts.length} experts; clusters explain ${
            (100 * explained).toFixed(1)
          } % of the variance; ${
            (100 * map.neighbours.umap).toFixed(0)
          } % have their nearest neighbour by UMAP in their cluster`
        ).join("; ")
      }.`,
    rows,
    spec: {
      ...facet("panel", panels),
      resolve: { scale: { x: "independent", y: "independent" } },
      spec: {
        width: 250,
        height: 230,
        mark: { type: "point", filled: true, size: 18, opacity: 0.75 },
        encoding: {
          x: {
            field: "x",
            type: "quantitative",
            scale: { zero: false },
            axis: { title: null, labels: false, ticks: false, grid: false, domain: false },
          },
          y: {
            field: "y",
            type: "quantitative",
            scale: { zero: false },
            axis: { title: null, labels: false, ticks: false, grid: false, domain: false },
          },
          color: {
            field: "cluster",
            type: "nominal",
            sort: clusters,
            scale: { domain: clusters, range: clusters.map((_, i) => SERIES[i % SERIES.length]!) },
            legend,
          },
          shape: {
            field: "cluster",
            type: "nominal",
            sort: clusters,
            scale: { domain: clusters, range: of(SHAPES, SERIES.length) },
            legend,
          },
        },
      },
    },
  };
}
