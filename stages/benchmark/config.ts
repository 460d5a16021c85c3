/**
 * The `benchmark` section: what is timed, and for how long. A file of its own, so that the stage's code closure holds
 * no other stage.
 *
 * @module
 */

import { z } from "zod";
import { SUITES } from "../../model/bench/suites/suite.ts";
import { EXECUTIONS } from "./result.ts";

/** Schema of the `benchmark` section. */
export const benchmarkSchema = z.strictObject({
  executions: z.array(z.enum(EXECUTIONS)).min(1).max(3).default([...EXECUTIONS])
    .refine((list) => new Set(list).size === list.length, { error: "an execution is listed twice" })
    .describe("ways to run the experts that are timed on the base model"),
  suites: z.array(z.enum(SUITES)).max(SUITES.length).default([])
    .refine((list) => new Set(list).size === list.length, { error: "a suite is listed twice" })
    .describe("suites of `deno task bench` that are measured at the base model's sizes, too"),
  warmup_steps: z.int().min(1).max(1000).default(2)
    .describe("updates before the clock starts: compilation and first touches"),
  steps: z.int().min(1).max(10000).default(5).describe("updates that are timed, one by one"),
});

/** The `benchmark` section, validated. */
export type BenchmarkSection = z.infer<typeof benchmarkSchema>;
