/**
 * The `ablation` output as the report reads it: factors with their values, each with its mean, interval, paired
 * difference, speed and memory.
 *
 * @module
 */

import { z } from "zod";
import type { JsonValue, MetricRow } from "../../pipeline/stage.ts";
import { parseMeasuredName } from "../ablate/measured.ts";

const summary = z.object({
  n: z.int().min(1),
  mean: z.number(),
  low: z.number().nullable(),
  high: z.number().nullable(),
});
const paired = summary.extend({ p: z.number().nullable() });
const label = z.union([z.string(), z.number(), z.boolean()]);

const ablationSchema = z.object({
  base: z.string(),
  cells: z.array(z.object({
    name: z.string(),
    seeds: z.array(z.int()),
    metrics: z.record(z.string(), summary),
  })),
  factors: z.array(z.object({
    name: z.string(),
    title: z.string(),
    values: z.array(z.object({
      value: label,
      cell: z.string(),
      base: z.boolean(),
      difference: z.record(z.string(), paired).nullable(),
    })),
  })),
});

/** A mean with its 95 % interval; a single run has none. */
export type Interval = z.infer<typeof summary>;

/** A paired difference to the base. */
export type Difference = z.infer<typeof paired>;

/** One value of a factor. */
export interface FactorResult {
  /** As figures show it. */
  readonly label: string;
  readonly base: boolean;
  readonly seeds: readonly number[];
  /** Held-out nats a token. */
  readonly nats: Interval;
  /** Cell minus base; absent for the base itself, or when no seed is shared. */
  readonly difference: Difference | undefined;
  /** Mean over seeds. */
  readonly tokensPerSecond: number | undefined;
  readonly memoryBytes: number | undefined;
}

/** One factor. */
export interface FactorResults {
  readonly name: string;
  readonly title: string;
  readonly values: readonly FactorResult[];
}

/**
 * Reads the output and the measured metrics of an `ablate` node.
 *
 * @throws {Error} When the output has another shape, naming the path.
 */
export function readAblation(
  value: JsonValue,
  metrics: readonly MetricRow[],
): readonly FactorResults[] {
  const parsed = ablationSchema.safeParse(value);
  if (!parsed.success) {
    const [first] = parsed.error.issues;
    throw new Error(
      `The ablation output is malformed at ${first?.path.join(".")}: ${first?.message}`,
    );
  }
  const { cells, factors } = parsed.data;
  const measured = new Map<string, number>();
  for (const row of metrics) {
    const name = parseMeasuredName(row.name);
    if (name?.statistic === "mean") measured.set(`${name.cell}/${name.quantity}`, row.value);
  }
  return factors.map(({ name, title, values }) => ({
    name,
    title,
    values: values.flatMap((v): FactorResult[] => {
      const cell = cells.find((c) => c.name === v.cell);
      const nats = cell?.metrics.nats;
      if (cell === undefined || nats === undefined) return [];
      return [{
        label: String(v.value),
        base: v.base,
        seeds: cell.seeds,
        nats,
        difference: v.difference?.nats,
        tokensPerSecond: measured.get(`${v.cell}/tokens_per_second`),
        memoryBytes: measured.get(`${v.cell}/memory_bytes`),
      }];
    }),
  })).filter(({ values }) => values.length > 0);
}
