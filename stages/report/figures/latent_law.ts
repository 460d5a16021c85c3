/**
 * The latent width that suffices over the model's width: held-out loss for each model width, and the fitted law.
 *
 * @module
 */

import {
  evaluateLimit,
  type LatentLaw,
  type WidthResult,
  widthsAbove,
} from "../theory/latent_law.ts";
import type { PowerLaw } from "../theory/power_law.ts";
import type { Chart, ChartSpec, Row } from "./figure.ts";
import { BINARY_LABELS, COLOR, PANEL_HEIGHT, PANEL_WIDTH } from "./style.ts";

/** Points of a drawn curve. */
const CURVE_POINTS = 40;

/** Pixels between the panels of two model widths, for the axis. */
const GAP = 44;

/** Draws the sweep; the law's panel is left out where no width could be told. */
export function latentLawFigure(law: LatentLaw): Chart {
  const rows = [...law.widths.flatMap((width) => lossRows(width, law.tolerance)), ...lawRows(law)];
  const told = law.widths.filter(({ sufficient }) => sufficient.state === "measured").length;
  const width = Math.floor((PANEL_WIDTH + GAP) / law.widths.length) - GAP;
  return {
    kind: "chart",
    name: "latent_law",
    title: "The latent width that suffices",
    alt:
      `Held-out loss over latent width for the model widths ${
        law.widths.map(({ d_model }) => d_model).join(", ")
      }, each with a fitted limit. ` +
      (law.law === undefined
        ? "The width that suffices could not be told at two model widths."
        : `Where it could be told, at ${told} of ${law.widths.length}, the width that suffices grows as the model's width to the power of ${
          law.law.exponent.toFixed(2)
        }.`),
    rows,
    spec: {
      spacing: 30,
      vconcat: [
        {
          spacing: GAP,
          bounds: "flush",
          hconcat: law.widths.map((each, i) => lossPanel(each, { width, named: i === 0 })),
        },
        ...(law.law === undefined ? [] : [lawPanel(law, law.law)]),
      ],
    },
  };
}

/** A row of the table; every row has all columns. */
function row(panel: string, values: Partial<Record<Column, number | null>>): Row {
  const blank = Object.fromEntries(COLUMNS.map((column) => [column, null]));
  return { panel, ...blank, ...values };
}

const COLUMNS = [
  "d_model",
  "d_latent",
  "seeds",
  "nats",
  "nats_low",
  "nats_high",
  "latent_low",
  "latent_high",
  "exponent",
  "exponent_low",
  "exponent_high",
] as const;

type Column = (typeof COLUMNS)[number];

function lossRows({ d_model, losses, fit, sufficient, interval }: WidthResult, tolerance: number) {
  const rows = losses.map(({ d_latent, nats }) =>
    row("loss", {
      d_model,
      d_latent,
      seeds: nats.n,
      nats: nats.mean,
      nats_low: nats.low,
      nats_high: nats.high,
    })
  );
  const [from, to] = [losses[0]!.d_latent, losses.at(-1)!.d_latent];
  for (const d_latent of logarithmic(from, to)) {
    rows.push(row("curve", { d_model, d_latent, nats: evaluateLimit(fit, d_latent) }));
  }
  if (sufficient.state === "measured") {
    rows.push(row("enough", { d_model, d_latent: from, nats: fit.limit + tolerance }));
    rows.push(row("enough", { d_model, d_latent: to, nats: fit.limit + tolerance }));
    rows.push(row("sufficient", {
      d_model,
      d_latent: sufficient.width,
      nats: fit.limit + tolerance,
      latent_low: interval?.low ?? null,
      latent_high: interval?.high ?? null,
    }));
  }
  return rows;
}

/** The law over the model widths that it goes through, its exponent, and the widths that it leaves out. */
function lawRows(all: LatentLaw): Row[] {
  const { law, interval, widths } = all;
  if (law === undefined) return [];
  const told = widths.filter(({ sufficient }) => sufficient.state === "measured");
  return [
    ...logarithmic(told[0]!.d_model, told.at(-1)!.d_model).map((d_model) =>
      row("law", { d_model, d_latent: law.factor * d_model ** law.exponent })
    ),
    row("exponent", {
      exponent: law.exponent,
      exponent_low: interval?.low ?? null,
      exponent_high: interval?.high ?? null,
    }),
    ...widthsAbove(all).map(({ d_model, losses }) =>
      row("above", { d_model, d_latent: losses.at(-1)!.d_latent })
    ),
  ];
}

function lossPanel(
  { d_model, losses }: WidthResult,
  options: { width: number; named: boolean },
): ChartSpec {
  const widths = losses.map(({ d_latent }) => d_latent);
  return {
    width: options.width,
    height: 190,
    transform: [{ filter: `datum.d_model === ${d_model}` }],
    encoding: {
      x: {
        field: "d_latent",
        type: "quantitative",
        title: `d_latent at d_model ${d_model}`,
        scale: { type: "log", base: 2, domain: [widths[0]!, widths.at(-1)!], nice: false },
        axis: { values: widths, labelExpr: BINARY_LABELS },
      },
      y: {
        field: "nats",
        type: "quantitative",
        title: options.named ? "held-out loss, nats a token" : null,
        scale: { zero: false },
        axis: { tickCount: 6 },
      },
    },
    layer: [
      {
        transform: [{ filter: "datum.panel === 'enough'" }],
        mark: { type: "line", color: COLOR.green, strokeWidth: 1.6, strokeDash: [2, 3] },
      },
      {
        transform: [{ filter: "datum.panel === 'curve'" }],
        mark: { type: "line", color: COLOR.ink, strokeWidth: 1.6, strokeDash: [6, 4] },
      },
      {
        transform: [{ filter: "datum.panel === 'loss' && isValid(datum.nats_low)" }],
        mark: { type: "rule", color: COLOR.blue, strokeWidth: 2 },
        encoding: { y: { field: "nats_low", type: "quantitative" }, y2: { field: "nats_high" } },
      },
      {
        transform: [{ filter: "datum.panel === 'loss'" }],
        mark: { type: "point", color: COLOR.blue, filled: true, size: 60, opacity: 1 },
      },
      {
        transform: [{ filter: "datum.panel === 'sufficient'" }],
        mark: {
          type: "point",
          shape: "diamond",
          color: COLOR.vermilion,
          filled: true,
          size: 90,
          opacity: 1,
        },
      },
    ],
  };
}

function lawPanel({ interval, widths }: LatentLaw, { exponent }: PowerLaw): ChartSpec {
  const models = widths.map(({ d_model }) => d_model);
  const said = (value: number) => value.toFixed(2).replace("-", "−");
  return {
    width: PANEL_WIDTH,
    height: 0.8 * PANEL_HEIGHT,
    title: {
      text: "Latent width that suffices",
      subtitle: `both axes logarithmic; exponent ${said(exponent)}, ${
        interval === undefined
          ? "no interval over seeds"
          : `95 % over seeds: ${said(interval.low)} to ${said(interval.high)}`
      }`,
    },
    transform: [{ filter: "indexof(['sufficient', 'law', 'above'], datum.panel) >= 0" }],
    encoding: {
      x: {
        field: "d_model",
        type: "quantitative",
        title: "d_model",
        scale: {
          type: "log",
          base: 2,
          domain: [0.9 * models[0]!, 1.1 * models.at(-1)!],
          nice: false,
        },
        axis: { values: models, labelExpr: BINARY_LABELS },
      },
      y: {
        field: "d_latent",
        type: "quantitative",
        title: "d_latent",
        scale: { type: "log", base: 2, nice: true },
        axis: { format: "~r", tickCount: 5 },
      },
    },
    layer: [
      {
        transform: [{ filter: "datum.panel === 'law'" }],
        mark: { type: "line", color: COLOR.ink, strokeWidth: 1.6, strokeDash: [6, 4] },
      },
      {
        transform: [{ filter: "datum.panel === 'sufficient' && isValid(datum.latent_low)" }],
        mark: { type: "rule", color: COLOR.vermilion, strokeWidth: 2 },
        encoding: {
          y: { field: "latent_low", type: "quantitative" },
          y2: { field: "latent_high" },
        },
      },
      {
        transform: [{ filter: "datum.panel === 'sufficient'" }],
        mark: {
          type: "point",
          shape: "diamond",
          color: COLOR.vermilion,
          filled: true,
          size: 90,
          opacity: 1,
        },
      },
      {
        transform: [{ filter: "datum.panel === 'above'" }],
        mark: { type: "point", shape: "triangle-up", color: COLOR.vermilion, size: 110 },
      },
      {
        transform: [
          { filter: "datum.panel === 'above'" },
          { calculate: "'more than ' + datum.d_latent", as: "more" },
        ],
        mark: { type: "text", align: "right", dx: -12, color: COLOR.vermilion, fontSize: 12.5 },
        encoding: { text: { field: "more" } },
      },
    ],
  };
}

function logarithmic(from: number, to: number): readonly number[] {
  const ratio = Math.log(to / from) / (CURVE_POINTS - 1);
  return Array.from({ length: CURVE_POINTS }, (_, i) => from * Math.exp(ratio * i));
}
