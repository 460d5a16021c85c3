/**
 * The outputs of `benchmark`: schemas for those who read it.
 *
 * @module
 */

import { z } from "zod";
import { SUITES } from "../../model/bench/suites/suite.ts";

/** Ways to run the experts, slowest first. */
export const EXECUTIONS = ["naive", "materialized", "fused"] as const;

/** One of {@linkcode EXECUTIONS}. */
export type Execution = (typeof EXECUTIONS)[number];

/** The `benchmark` output: what was timed. */
export const benchmarkResultSchema = z.object({
  scope: z.enum(["layer", "model"]).describe("one expert layer, or a whole step"),
  executions: z.array(z.enum(EXECUTIONS)),
  tokens: z.array(z.int()).describe("tokens of a step, ascending"),
  repetitions: z.int().describe("repetitions that a median is over"),
  cases: z.array(z.object({ id: z.string(), suite: z.enum(SUITES) }))
    .describe("cases of the suites, in their order; one that the device can't hold has no timing"),
});

/** The `benchmark` output. */
export type BenchmarkResult = z.infer<typeof benchmarkResultSchema>;

const executionTiming = z.object({
  execution: z.enum(EXECUTIONS),
  tokens: z.int().describe("tokens of the step"),
  forward_seconds: z.number(),
  forward_backward_seconds: z.number(),
  peak_bytes: z.number().describe("largest device memory of both passes"),
});

const caseTiming = z.object({
  id: z.string(),
  suite: z.enum(SUITES),
  median: z.number().describe("seconds of one run"),
  min: z.number(),
  max: z.number(),
  tflop_per_second: z.number().exactOptional(),
  gb_per_second: z.number().exactOptional(),
  tokens_per_second: z.number().exactOptional(),
  peak_bytes: z.number().exactOptional(),
});

/** The `timings` output: a row for each execution, and one for each case of a suite. */
export const timingsSchema = z.array(z.union([executionTiming, caseTiming]));

/** One execution at one count of tokens; seconds are medians over the repetitions. */
export type ExecutionTiming = z.infer<typeof executionTiming>;

/** One case of a suite; a rate that it does not have is absent. */
export type CaseTiming = z.infer<typeof caseTiming>;

/** One row of the `timings` output. */
export type TimingRow = ExecutionTiming | CaseTiming;

/** The executions among the rows, slowest first, each by ascending tokens. */
export function executionTimings(rows: readonly TimingRow[]): ExecutionTiming[] {
  return rows.filter((row) => "execution" in row).sort((a, b) =>
    EXECUTIONS.indexOf(a.execution) - EXECUTIONS.indexOf(b.execution) || a.tokens - b.tokens
  );
}
