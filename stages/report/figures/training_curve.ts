/**
 * Figure 4 of the paper: training loss over optimiser steps with the fit `L = a − b ln x`, and held-out points.
 *
 * @module
 */

import { evaluateFit, fitLog, type LogFit } from "../theory/fit.ts";
import { PAPER } from "../theory/paper.ts";
import { curve, type TrainedModel } from "../data.ts";
import type { Chart, Row } from "./figure.ts";
import { thin } from "./series.ts";
import { COLOR, COUNT_FORMAT, PANEL_HEIGHT, PANEL_WIDTH } from "./style.ts";

/** The figure and the fit that it shows. */
export interface TrainingCurve {
  /** The chart. */
  readonly figure: Chart;
  /** Over the pooled steps of all seeds; absent when the run is too short. */
  readonly fit: LogFit | undefined;
}

/**
 * Draws the curve of the base, one thin line a seed.
 *
 * @param models Models of the base, one a seed.
 * @param options `fitFrom`: the first step of the fit; `tokensPerStep`: given when losses compare with the paper's, whose law is then drawn
 * where its training had seen as many tokens.
 * @returns Nothing when no loss was recorded.
 */
export function trainingCurve(
  models: readonly TrainedModel[],
  options: { fitFrom: number; maxPoints?: number; tokensPerStep?: number | undefined },
): TrainingCurve | undefined {
  const from = Math.max(1, options.fitFrom);
  const usable = models.map((m) => curve(m, "loss").filter((p) => Number.isFinite(p.value)));
  const points = usable.flatMap((c) =>
    c.filter((p) => p.step >= from).map((p) => ({ x: p.step, y: p.value }))
  );
  if (usable.every((c) => c.length === 0)) return undefined;
  const fit = fitLog(points);
  const rows: Row[] = [];
  for (const [i, model] of models.entries()) {
    const seed = model.seed ?? i + 1;
    const shown = usable[i]!.filter((p) => p.step >= 1);
    for (const p of thin(shown, options.maxPoints ?? 400)) {
      rows.push({ series: "training", seed, step: p.step, nats: p.value });
    }
    for (const p of curve(model, "validation_nats")) {
      if (p.step >= 1) rows.push({ series: "held-out", seed, step: p.step, nats: p.value });
    }
  }
  if (fit) {
    for (const x of logarithmic(fit.from, fit.to, 60)) {
      rows.push({ series: "fit", seed: null, step: x, nats: evaluateFit(fit, x) });
    }
  }
  const { tokensPerStep } = options;
  const end = Math.max(...rows.map((r) => Number(r.step)));
  // The paper's step at equal tokens; its law begins at its first.
  const scale = (tokensPerStep ?? 0) / PAPER.tokensPerStep;
  const law = tokensPerStep !== undefined && end * scale > 1;
  if (law) {
    for (const x of logarithmic(Math.max(1, 1 / scale), end, 60)) {
      rows.push({ series: "paper", seed: null, step: x, nats: evaluateFit(PAPER.fit, x * scale) });
    }
  }
  const last = rows.filter((r) => r.series === "training").at(-1);
  const heldOut = rows.some((r) => r.series === "held-out");
  // Both curves fall, so the upper right corner is free.
  const label = fit && {
    data: {
      values: [{
        text: `fit: ${fit.a.toFixed(2)} − ${fit.b.toFixed(3)} ln x, R² ${fit.r2.toFixed(2)}`,
      }],
    },
    mark: { type: "text", align: "right", baseline: "middle", fontWeight: 600, color: COLOR.ink },
    encoding: {
      x: { value: PANEL_WIDTH },
      y: { value: 18 },
      text: { field: "text", type: "nominal" },
    },
  };
  const figure: Chart = {
    kind: "chart",
    name: "training_curve",
    title: "Training curve and its logarithmic fit",
    alt:
      `Training loss in nats a token over optimiser steps for ${models.length} seed${
        models.length === 1 ? "" : "s"
      }` + (last ? `, ending near ${Number(last.nats).toFixed(2)} nats` : "") +
      (fit
        ? `; the fit is ${fit.a.toFixed(3)} minus ${fit.b.toFixed(3)} ln x with R² ${
          fit.r2.toFixed(3)
        } (paper: ${PAPER.fit.a}, ${PAPER.fit.b}, ${PAPER.fit.r2}).`
        : "; too short for a fit.") +
      (law ? " The paper's law is drawn at equal tokens." : ""),
    rows,
    spec: {
      width: PANEL_WIDTH,
      height: PANEL_HEIGHT,
      title: { text: "Loss, nats a token", subtitle: subtitle(models.length, { heldOut, law }) },
      encoding: {
        x: {
          field: "step",
          type: "quantitative",
          title: "optimiser step x (logarithmic)",
          scale: { type: "log", nice: false },
          axis: { format: COUNT_FORMAT, tickCount: 6 },
        },
        y: { field: "nats", type: "quantitative", title: null, scale: { zero: false } },
      },
      layer: [
        {
          transform: [{ filter: "datum.series === 'training'" }],
          mark: { type: "line", color: COLOR.blue, strokeWidth: 1.1, opacity: 0.55 },
          encoding: { detail: { field: "seed", type: "nominal" } },
        },
        {
          transform: [{ filter: "datum.series === 'fit'" }],
          mark: { type: "line", color: COLOR.ink, strokeWidth: 1.8, strokeDash: [6, 4] },
        },
        ...(law
          ? [{
            transform: [{ filter: "datum.series === 'paper'" }],
            mark: { type: "line", color: COLOR.green, strokeWidth: 1.6, strokeDash: [2, 3] },
          }]
          : []),
        {
          transform: [{ filter: "datum.series === 'held-out'" }],
          mark: { type: "point", color: COLOR.vermilion, fill: COLOR.paper, size: 44, opacity: 1 },
        },
        ...(label ? [label] : []),
      ],
    },
  };
  return { figure, fit };
}

function subtitle(seeds: number, shown: { heldOut: boolean; law: boolean }): string {
  return [
    seeds === 1 ? "line: training, one seed" : `lines: training, ${seeds} seeds`,
    ...shown.heldOut ? ["circles: held-out text"] : [],
    "dashed: fit",
    ...shown.law ? ["dotted: the paper's fit at equal tokens"] : [],
  ].join("; ");
}

function logarithmic(from: number, to: number, count: number): readonly number[] {
  const ratio = Math.log(to / from) / (count - 1);
  return Array.from({ length: count }, (_, i) => from * Math.exp(ratio * i));
}
