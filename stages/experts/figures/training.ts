/**
 * Use of experts over the training.
 *
 * @module
 */

import type { Chart } from "../../report/figures/figure.ts";
import { COLOR } from "../../report/figures/style.ts";
import { facet } from "./panels.ts";

/** One evaluation during a training: means over the layers with experts. */
export interface TrainingUse {
  readonly step: number;
  /** Part of the experts that were kept at least once. */
  readonly usage: number;
  /** Divergence from even use, nats. */
  readonly unevenness: number;
  readonly gini: number;
}

const QUANTITIES = {
  usage: "experts used, %",
  unevenness: "divergence from even use, nats",
  gini: "Gini coefficient of uses",
} as const;

/** Draws a panel a quantity. */
export function trainingUse(found: readonly TrainingUse[]): Chart {
  const rows = found.flatMap(({ step, usage, unevenness, gini }) => [
    { panel: QUANTITIES.usage, step, value: 100 * usage },
    { panel: QUANTITIES.unevenness, step, value: unevenness },
    { panel: QUANTITIES.gini, step, value: gini },
  ]);
  const [first, last] = [found[0]!, found.at(-1)!];
  return {
    kind: "chart",
    name: "experts_over_training",
    title: "Use of experts over the training",
    alt: `Lines over updates ${first.step} to ${last.step}: experts used from ${
      (100 * first.usage).toFixed(1)
    } to ${(100 * last.usage).toFixed(1)} %, Gini coefficient from ${first.gini.toFixed(3)} to ${
      last.gini.toFixed(3)
    }.`,
    rows,
    spec: {
      ...facet("panel", Object.values(QUANTITIES)),
      columns: 3,
      resolve: { scale: { y: "independent" } },
      spec: {
        width: 170,
        height: 160,
        mark: { type: "line", color: COLOR.blue, point: { filled: true, color: COLOR.blue } },
        encoding: {
          x: { field: "step", type: "quantitative", title: "updates" },
          y: { field: "value", type: "quantitative", title: null, scale: { zero: false } },
        },
      },
    },
  };
}
