/**
 * What the `benchmark` stage publishes, and how the report reads it.
 *
 * What was timed is JSON (`benchmark`), a function of the configuration. What a clock or an allocator said is rows of
 * measured metrics named `<execution>.<quantity>`, with the **tokens** of the step in the place of a step.
 *
 * @module
 */

import type { MetricRow } from "../pipeline/stage.ts";

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
};

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
 * import { benchmarkPoints } from "./benchmark_result.ts";
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
