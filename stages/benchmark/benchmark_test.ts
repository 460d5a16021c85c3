import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { benchmark } from "./benchmark.ts";
import { benchmarkResultSchema, executionTimings, timingsSchema } from "./result.ts";
import { SMALL_TRAINING, writeDataset } from "../commands/model/checkpoint_testing.ts";
import type { JsonValue } from "../../pipeline/stage.ts";
import { runStage } from "../testing.ts";

Deno.test("benchmark measures executions and suites, and publishes what it measured apart from the figures", async () => {
  const dir = await Deno.makeTempDir();
  try {
    const dataset = await writeDataset(join(dir, "dataset"));
    const params = SMALL_TRAINING as { readonly model: Readonly<Record<string, JsonValue>> };
    const measure = (changes: Record<string, JsonValue>, section: Record<string, JsonValue>) =>
      runStage(benchmark, {
        params: {
          ...params,
          model: { ...params.model, ...changes },
          benchmark: { warmup_steps: 1, steps: 2, ...section },
        },
        inputs: { dataset: [dataset] },
        dir: join(dir, "run"),
      });
    const run = await measure({}, { executions: ["fused"], suites: ["copy", "inference"] });
    const result = benchmarkResultSchema.parse(run.json.benchmark);
    const timings = timingsSchema.parse(run.measured.timings);
    const [fused, ...others] = executionTimings(timings);
    assertEquals([fused!.execution, fused!.tokens, others], ["fused", result.tokens[0], []]);
    assert(fused!.forward_seconds > 0 && fused!.forward_backward_seconds > 0);
    assert(fused!.peak_bytes > 0);
    const cases = timings.filter((row) => "suite" in row);
    assertEquals(cases.map(({ id, suite }) => ({ id, suite })), result.cases);
    assertEquals(new Set(cases.map(({ suite }) => suite)), new Set(["copy", "inference"]));
    for (const { id, median, min, max, peak_bytes, gb_per_second, suite } of cases) {
      assert(median > 0 && min <= median && median <= max, id);
      assert((suite === "copy" ? gb_per_second : peak_bytes)! > 0, id);
    }
    assertEquals(run.metrics, []);
    assertEquals(run.progress.at(-1)?.done, 1 + cases.length);

    const dense = await measure({ ffn: { kind: "dense", d_ffn: 16 } }, {});
    assertEquals(benchmarkResultSchema.parse(dense.json.benchmark).cases, []);
    assertEquals(dense.measured.timings, []);

    const cost = await measure({ ffn: { kind: "dense", d_ffn: 16 } }, { suites: ["cost"] });
    const points = benchmarkResultSchema.parse(cost.json.benchmark).cases.map(({ id }) => id);
    const possible = timingsSchema.parse(cost.measured.timings).filter((row) => "suite" in row);
    assertEquals(
      possible.map(({ id }) => id),
      points.filter((id) => id !== "cost.sequence_length.128"),
    );
    assertEquals(cost.log.length, 1);
    assertStringIncludes(cost.log[0]!, "warn: cost.sequence_length.128 is left out: a micro-batch");
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("executions come slowest first, each by ascending tokens, whatever order they were timed in", () => {
  const timing = { forward_seconds: 1, forward_backward_seconds: 2, peak_bytes: 3 };
  const rows = timingsSchema.parse([
    { execution: "fused", tokens: 8, ...timing },
    { id: "copy.4MiB.buffer", suite: "copy", median: 1, min: 1, max: 1, gb_per_second: 1 },
    { execution: "naive", tokens: 16, ...timing },
    { execution: "naive", tokens: 8, ...timing },
  ]);
  assertEquals(executionTimings(rows), [rows[3], rows[2], rows[0]]);
});
