/**
 * Speed and memory of the ways to run the experts: naive, every expert generated once, fused in the paper's order.
 *
 * @module
 */

import { type Execution, EXECUTIONS, type ExecutionTiming } from "../../benchmark/result.ts";
import type { Chart, ChartSpec, Row } from "./figure.ts";
import { COLOR } from "./style.ts";

/** How the report calls each way. */
export const EXECUTION_TITLES: Readonly<Record<Execution, string>> = {
  naive: "naive (u and v formed)",
  materialized: "generated once a step",
  fused: "reordered, fused",
};

/** A measured quantity of an execution. */
type Quantity = Exclude<keyof ExecutionTiming, "execution" | "tokens">;

const PANELS: readonly (readonly [quantity: Quantity, title: string, unit: number])[] = [
  ["forward_seconds", "Forward, ms", 1e3],
  ["forward_backward_seconds", "Forward and backward, ms", 1e3],
  ["peak_bytes", "Peak memory, MiB", 1 / 2 ** 20],
];

/**
 * Draws one bar an execution at the largest count of tokens that all were measured at.
 *
 * @returns Nothing when there is no such count.
 */
export function executionFigure(points: readonly ExecutionTiming[]): Chart | undefined {
  const executions = EXECUTIONS.filter((e) => points.some((p) => p.execution === e));
  const shared = [...new Set(points.map((p) => p.tokens))].sort((a, b) => b - a)
    .find((t) => executions.every((e) => points.some((p) => p.execution === e && p.tokens === t)));
  if (shared === undefined) return undefined;
  const rows: Row[] = [];
  for (const point of points) {
    for (const [quantity, , unit] of PANELS) {
      const value = point[quantity];
      rows.push({
        execution: EXECUTION_TITLES[point.execution],
        tokens: point.tokens,
        quantity,
        value: value * unit,
        label: Number((value * unit).toPrecision(3)).toLocaleString("en-US"),
      });
    }
  }
  const panels = PANELS.filter(([quantity]) =>
    rows.some((r) => r.quantity === quantity && r.tokens === shared)
  );
  if (panels.length === 0) return undefined;
  return {
    kind: "chart",
    name: "execution",
    title: "Execution of the experts: time and memory",
    alt: `Bars for ${executions.map((e) => EXECUTION_TITLES[e]).join(", ")} at ${shared} tokens: ` +
      rows.filter((r) => r.tokens === shared && r.quantity === panels[0]?.[0])
        .map((r) => `${r.execution} ${r.label}`).join(", ") +
      ` (${panels[0]?.[1]}).`,
    rows,
    spec: {
      spacing: 18,
      hconcat: panels.map(([quantity, title], i) =>
        panel(quantity, title, {
          tokens: shared,
          order: executions.map((e) => EXECUTION_TITLES[e]),
          names: i === 0,
          largest: Math.max(
            ...rows.flatMap((r) =>
              r.quantity === quantity && r.tokens === shared ? Number(r.value) : []
            ),
          ),
        })
      ),
    },
  };
}

function panel(
  quantity: Quantity,
  title: string,
  options: { tokens: number; order: readonly string[]; names: boolean; largest: number },
): ChartSpec {
  return {
    width: 150,
    height: 34 * options.order.length,
    title: { text: title, fontSize: 12.5 },
    transform: [{
      filter: `datum.quantity === '${quantity}' && datum.tokens === ${options.tokens}`,
    }],
    encoding: {
      y: {
        field: "execution",
        type: "nominal",
        sort: [...options.order],
        title: null,
        axis: options.names ? { labelLimit: 220, labelFontSize: 12.5 } : { labels: false },
      },
      x: {
        field: "value",
        type: "quantitative",
        title: null,
        axis: null,
        scale: { domain: [0, 1.4 * options.largest], nice: false },
      },
    },
    layer: [
      {
        mark: { type: "bar", height: 20 },
        encoding: {
          color: {
            field: "execution",
            type: "nominal",
            legend: null,
            scale: {
              domain: Object.values(EXECUTION_TITLES),
              range: [COLOR.muted, COLOR.orange, COLOR.blue],
            },
          },
        },
      },
      {
        mark: { type: "text", align: "left", dx: 5 },
        encoding: { text: { field: "label", type: "nominal" } },
      },
    ],
  };
}
