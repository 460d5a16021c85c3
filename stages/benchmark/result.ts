/**
 * What the `benchmark` stage publishes, and how the report reads it.
 *
 * What was timed is JSON (`benchmark`), a function of the configuration. What a clock or an allocator said is rows of
 * measured metrics named `<execution>.<quantity>`, with the **tokens** of the step in the place of a step.
 *
 * @module
 */

import type { BenchEntry, SuiteName } from "../../model/bench/suite.ts";
import type { MetricRow } from "../../pipeline/stage.ts";

/** Ways to run the experts, slowest first. */
export const EXECUTIONS = ["naive", "materialized", "fused"] as const;

/** One of {@linkcode EXECUTIONS}. */
export type Execution = (typeof EXECUTIONS)[number];

/** What is measured for each execution. */
export const QUANTITIES = [
  /** Seconds of one forward pass, median over repetitions. */
  "forward_seconds",
  /** Seconds of one forward and backward pass, median over repetitions. */
  "forward_backward_seconds",
  /** Largest device memory of the pass, bytes. */
  "peak_bytes",
] as const;

/** One of {@linkcode QUANTITIES}. */
export type Quantity = (typeof QUANTITIES)[number];

/** The stage's JSON output. */
export type BenchmarkResult = {
  /** What was timed: `layer` for one expert layer, `model` for a whole step. */
  readonly scope: "layer" | "model";
  /** Executions that were timed. */
  readonly executions: readonly Execution[];
  /** Tokens of a step, ascending. */
  readonly tokens: readonly number[];
  /** Repetitions that the median is over. */
  readonly repetitions: number;
  /** What the suites measured, in their order; each has metrics {@linkcode CASE_QUANTITIES} at step 0. */
  readonly cases: readonly { readonly id: string; readonly suite: SuiteName }[];
};

/** What a case of a suite may have been measured for: fields of a {@linkcode BenchEntry}. */
export const CASE_QUANTITIES = [
  "median",
  "min",
  "max",
  "tflop_per_second",
  "gb_per_second",
  "tokens_per_second",
  "peak_bytes",
] as const satisfies readonly (keyof BenchEntry)[];

/** Measurements of one case; what it was not measured for is absent. */
export type CaseMeasurement =
  & Readonly<Partial<Record<(typeof CASE_QUANTITIES)[number], number>>>
  & BenchmarkResult["cases"][number];

/** The metrics of a case that was measured: `copy.4MiB.buffer.median` and so on. */
export function caseMetrics(entry: BenchEntry): Record<string, number> {
  return Object.fromEntries(
    CASE_QUANTITIES.flatMap((quantity) => {
      const value = entry[quantity];
      return value === undefined ? [] : [[`${entry.id}.${quantity}`, value]];
    }),
  );
}

/** Brings cases and their metrics together again. */
export function caseMeasurements(
  cases: BenchmarkResult["cases"],
  rows: readonly MetricRow[],
): CaseMeasurement[] {
  const values = new Map(rows.map(({ name, value }) => [name, value]));
  return cases.map((each) => ({
    ...each,
    ...Object.fromEntries(CASE_QUANTITIES.flatMap((quantity) => {
      const value = values.get(`${each.id}.${quantity}`);
      return value === undefined ? [] : [[quantity, value]];
    })),
  }));
}

/** One execution at one count of tokens; a quantity that was not measured is absent. */
export interface BenchmarkPoint extends Readonly<Partial<Record<Quantity, number>>> {
  /** Which way. */
  readonly execution: Execution;
  /** Tokens of the step. */
  readonly tokens: number;
}

/** Name of a metric: `naive.peak_bytes`. */
export function benchmarkMetric(execution: Execution, quantity: Quantity): string {
  return `${execution}.${quantity}`;
}

/**
 * Collects a benchmark's metric rows, ordered by execution and tokens. Rows of other names are passed over.
 *
 * @example
 * ```ts
 * import { benchmarkPoints } from "./result.ts";
 * const points = benchmarkPoints([
 *   { step: 1024, name: "fused.forward_seconds", value: 0.5, measured: true },
 * ]);
 * console.assert(points[0]?.forward_seconds === 0.5);
 * ```
 */
export function benchmarkPoints(rows: readonly MetricRow[]): readonly BenchmarkPoint[] {
  return EXECUTIONS.flatMap((execution) => {
    const byTokens = new Map<number, Partial<Record<Quantity, number>>>();
    for (const quantity of QUANTITIES) {
      const name = benchmarkMetric(execution, quantity);
      for (const row of rows) {
        if (row.name !== name) continue;
        byTokens.set(row.step, { ...byTokens.get(row.step), [quantity]: row.value });
      }
    }
    return [...byTokens].sort(([a], [b]) => a - b)
      .map(([tokens, values]) => ({ execution, tokens, ...values }));
  });
}
