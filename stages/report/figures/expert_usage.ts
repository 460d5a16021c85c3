/**
 * Expert usage and unevenness over training.
 *
 * @module
 */

import { curve, type TrainedModel } from "../data.ts";
import type { Chart, ChartSpec, Row } from "./figure.ts";
import { COLOR, COUNT_FORMAT, SMALL_PANEL } from "./style.ts";

const PANELS = [
  { metric: "expert_usage", scale: 100, panel: "usage" },
  { metric: "expert_unevenness", scale: 1, panel: "unevenness" },
] as const;

/**
 * Draws both curves of the base, one line a seed.
 *
 * @returns Nothing when neither was recorded.
 */
export function expertUsage(models: readonly TrainedModel[]): Chart | undefined {
  const rows: Row[] = [];
  for (const [i, model] of models.entries()) {
    for (const { metric, scale, panel } of PANELS) {
      for (const { step, value } of curve(model, metric)) {
        rows.push({ panel, seed: model.seed ?? i + 1, step, value: value * scale });
      }
    }
  }
  if (rows.length === 0) return undefined;
  const last = (panel: string) => Number(rows.filter((r) => r.panel === panel).at(-1)?.value);
  return {
    kind: "chart",
    name: "expert_usage",
    title: "Expert usage and unevenness over training",
    alt:
      `Two curves over optimiser steps: the share of experts used ends near ${
        last("usage").toFixed(0)
      } %, ` +
      `the divergence of their use from an even one near ${last("unevenness").toFixed(2)} nats.`,
    rows,
    spec: {
      spacing: 60,
      hconcat: [
        panel("usage", "Experts used, %", { domain: [0, 100] }),
        panel("unevenness", "Unevenness, nats (0 is even)", { domainMin: 0 }),
      ],
    },
  };
}

function panel(name: string, title: string, scale: ChartSpec): ChartSpec {
  return {
    ...SMALL_PANEL,
    title,
    transform: [{ filter: `datum.panel === '${name}'` }],
    mark: {
      type: "line",
      color: COLOR.blue,
      strokeWidth: 1.6,
      point: { filled: true, size: 26, color: COLOR.blue },
    },
    encoding: {
      x: {
        field: "step",
        type: "quantitative",
        title: "optimiser step",
        axis: { format: COUNT_FORMAT, tickCount: 5 },
      },
      y: { field: "value", type: "quantitative", title: null, scale },
      detail: { field: "seed", type: "nominal" },
    },
  };
}
