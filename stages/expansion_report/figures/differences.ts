/**
 * How much better or worse than SparseGPT each model is, paired by window: a panel a sparsity.
 *
 * @module
 */

import type { Chart, Row } from "../../report/figures/figure.ts";
import { COLOR } from "../../report/figures/style.ts";
import { type Comparison, isClear, signed } from "../cells.ts";
import { linearTicks, NUMBERS } from "./line_panels.ts";
import { seriesOf } from "./series.ts";

/** Height of a model's line in pixels. */
const LINE = 19;

/** Draws the figure; nothing where no cell has a pair. */
export function differencesFigure({ cells, levels }: Comparison): Chart | undefined {
  // Magnitude is often so much worse that the others would not be told apart.
  const paired = cells.filter(({ difference, kind }) =>
    difference !== undefined && kind !== "magnitude"
  );
  const series = seriesOf(paired);
  if (series.length === 0) return undefined;
  const rows: Row[] = levels.flatMap(({ name }) =>
    series.flatMap(({ label, dashed, cells }) =>
      cells.filter(({ level }) => level.name === name).map((cell): Row => {
        const { mean, low, high, n, p } = cell.difference!;
        const control = dashed ? "yes" : "no";
        return { level: name, model: label, control, nats: mean, low, high, windows: n, p };
      })
    )
  );
  const shown = levels.filter(({ name }) => rows.some(({ level }) => level === name));
  const differences = rows.map(({ nats }) => Number(nats));
  const clear = paired.filter(({ difference }) => isClear(difference!));
  return {
    kind: "chart",
    name: "differences",
    title: "Difference to SparseGPT with one cluster",
    alt: `Differences in nats with 95 % intervals at ${
      shown.map(({ name }) => name).join(", ")
    }, from ${signed(Math.min(...differences))} to ${
      signed(Math.max(...differences))
    }. ${clear.length} of ${rows.length} intervals exclude zero.`,
    rows,
    spec: {
      spacing: 14,
      vconcat: shown.map(({ name }, i) => {
        const own = rows.filter(({ level }) => level === name);
        const names = series.map(({ label }) => label).filter((label) =>
          own.some(({ model }) => model === label)
        );
        const ends = own.flatMap(({ nats, low, high }) =>
          [nats, low ?? nats, high ?? nats].map(Number)
        );
        const [least, most] = [Math.min(0, ...ends), Math.max(0, ...ends)];
        const room = 0.04 * (most - least) || 0.01;
        const domain = [least - room, most + room] as const;
        return {
          width: 420,
          height: LINE * names.length,
          title: { text: name, fontSize: 12.5, offset: 6 },
          transform: [{ filter: `datum.level === ${JSON.stringify(name)}` }],
          encoding: {
            y: {
              field: "model",
              type: "nominal",
              sort: names,
              title: null,
              axis: { grid: false, labelLimit: 220, labelColor: COLOR.ink },
            },
          },
          layer: [
            {
              mark: { type: "rule", color: COLOR.muted, strokeDash: [2, 3] },
              encoding: { x: { datum: 0 }, y: null },
            },
            {
              transform: [{ filter: "isValid(datum.low)" }],
              mark: { type: "rule", strokeWidth: 2, color: COLOR.blue },
              encoding: {
                x: {
                  field: "low",
                  type: "quantitative",
                  scale: { domain: [...domain], nice: false },
                },
                x2: { field: "high" },
              },
            },
            {
              mark: { type: "point", size: 44, opacity: 1, color: COLOR.blue },
              encoding: {
                x: {
                  field: "nats",
                  type: "quantitative",
                  scale: { domain: [...domain], nice: false },
                  title: i === shown.length - 1
                    ? "nats more than SparseGPT (below zero: better)"
                    : null,
                  axis: { values: linearTicks(domain), format: NUMBERS, grid: true },
                },
                fill: {
                  field: "control",
                  type: "nominal",
                  legend: null,
                  scale: { domain: ["no", "yes"], range: [COLOR.blue, COLOR.paper] },
                },
              },
            },
          ],
        };
      }),
    },
  };
}
