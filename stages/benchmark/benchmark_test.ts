import { assert, assertEquals } from "@std/assert";
import { join } from "@std/path";
import { benchmark } from "./benchmark.ts";
import { benchmarkPoints, type BenchmarkResult, caseMeasurements } from "./result.ts";
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
    const result = run.json.benchmark as unknown as BenchmarkResult;
    assertEquals(benchmarkPoints(run.metrics).map(({ execution }) => execution), ["fused"]);
    const cases = caseMeasurements(result.cases, run.metrics);
    assertEquals(new Set(cases.map(({ suite }) => suite)), new Set(["copy", "inference"]));
    for (const { id, median, min, max, peak_bytes, gb_per_second, suite } of cases) {
      assert(median! > 0 && min! <= median! && median! <= max!, id);
      assert((suite === "copy" ? gb_per_second : peak_bytes)! > 0, id);
    }
    assert(run.metrics.every(({ measured }) => measured), "no clock is part of a digest");
    assertEquals(run.progress.at(-1)?.done, 1 + cases.length);

    const dense = await measure({ ffn: { kind: "dense", d_ffn: 16 } }, {});
    assertEquals((dense.json.benchmark as unknown as BenchmarkResult).cases, []);
    assertEquals(dense.metrics, []);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});
