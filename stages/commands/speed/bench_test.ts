import {
  assert,
  assertAlmostEquals,
  assertEquals,
  assertMatch,
  assertRejects,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { fromFileUrl, join } from "@std/path";
import type { BenchEntry } from "../../../model/bench/suites/suite.ts";
import { withFolder } from "../../../model/checkpoint/folder_testing.ts";
import { openTestGpu } from "../../../model/gpu/testing.ts";
import { architectureOf } from "../../../model/config.ts";
import { tinyModel, tinyTrain } from "../../../model/training/trainer_testing.ts";
import { UserError } from "../../../pipeline/errors.ts";
import type { BaseModel } from "./base_model.ts";
import {
  bench,
  type BenchOptions,
  type BenchResult,
  compareBench,
  parseSuites,
  rateEntries,
  readSavedBench,
  renderBench,
} from "./bench.ts";
import { runTask } from "./task_testing.ts";

const ROOT = fromFileUrl(new URL("../../..", import.meta.url));

function baseModel(name: string): BaseModel {
  const architecture = tinyModel();
  const { config } = architecture;
  return { name, path: `${name}.yaml`, config, architecture, train: tinyTrain() };
}

async function measure(options: Partial<BenchOptions>) {
  const lines: string[] = [];
  const result = await bench({
    gpu: await openTestGpu(),
    model: baseModel("tiny"),
    root: ROOT,
    suites: ["experts"],
    only: [],
    warmup: 1,
    repeats: 1,
    steps: 1,
    seed: 1,
    progress: (line) => void lines.push(line),
    ...options,
  });
  return { result, lines };
}

Deno.test("bench() measures what it is asked for, and holds executions against each other", async () => {
  const only = [".32.f32.forward"];
  const { result, lines } = await measure({ only });
  assertEquals(result.failures, []);
  assertEquals(result.entries.length, 8);
  assertEquals(lines.length, 8);
  assertMatch(lines[0]!, /^\[1\/8\] experts\.naive\.32\.f32\.forward: .* tokens\/s, /);
  const ratio = result.ratios.find(({ id, execution }) =>
    id === "experts.32.f32.forward" && execution === "fused"
  )!;
  const median = (id: string) => result.entries.find((entry) => entry.id === id)!.median;
  assertEquals(
    ratio.speed_up,
    median("experts.naive.32.f32.forward") / median("experts.fused.32.f32.forward"),
  );
  assert(ratio.memory > 1);
  const text = renderBench(result);
  assertStringIncludes(text, "router.32.f32.forward");
  assertMatch(text, /times less memory\n/);
  await assertRejects(() => measure({ only: ["nothing"] }), UserError, "matches none of 16 cases");
});

Deno.test("bench() notes a case that fails and goes on", async () => {
  const tiny = baseModel("odd");
  // A schema would refuse the width; here a kernel does.
  const config = { ...tiny.config, attention: { ...tiny.config.attention, d_v: 6 } };
  const { result, lines } = await measure({
    model: { ...tiny, config, architecture: architectureOf(config) },
    suites: ["copy", "attention"],
    only: ["attention.forward", "1MiB.buffer"],
  });
  assertEquals(result.entries.map(({ id }) => id), ["copy.1MiB.buffer"]);
  assertEquals(result.failures.length, 2);
  assertStringIncludes(result.failures[0]!.error, "d_v is 6, not a positive multiple of 4");
  assertEquals(lines.length, 3);
  assertStringIncludes(renderBench(result), "Not measured:\n  attention.forward.");
});

Deno.test("bench() lists the points of an axis that it leaves out, and fits the others", async () => {
  const only = ["cost.micro_batch", "cost.d_model.5"];
  const { result, lines } = await measure({ suites: ["cost"], only });
  assertEquals(result.entries.map(({ params }) => params["value"]), [1, 2, 4]);
  assertEquals([result.failures, lines.length], [[], 4]);
  assertEquals(result.left_out.map(({ id }) => id), ["cost.d_model.5"]);
  assertEquals(result.costs.map(({ axis }) => axis), ["micro_batch"]);
  const text = renderBench(result);
  assertMatch(text, /\nmicro_batch 4 +\d/);
  assertStringIncludes(text, "Left out:\n  cost.d_model.5: d_model: 5 is not a multiple of 4");
  const twice = await measure({
    suites: ["cost"],
    only: ["micro_batch.1", "d_model.5"],
    rounds: 2,
  });
  assertEquals(twice.result.entries.map(({ repeats }) => repeats), [2]);
  assertEquals([twice.result.left_out.length, twice.lines.length], [1, 3]);
  const late = (await measure({ suites: ["cost"], only, seconds: 0 })).result;
  assertEquals([late.entries, late.left_out.length], [[], 4]);
  assertStringIncludes(late.left_out[0]!.error, "0 s had passed");
});

const entry = (id: string, median: number, more: Partial<BenchEntry> = {}): BenchEntry => ({
  ...{ id, suite: "gemm", params: { dtype: "f16" }, median, min: median, max: median, repeats: 1 },
  ...more,
});

Deno.test("rateEntries() takes the roofs from the run itself", () => {
  const square = { name: "square", dtype: "f16" };
  const rated = rateEntries([
    entry("copy.1024MiB.4x256.block", 1, { params: {}, gb_per_second: 4000 }),
    entry("copy.1024MiB.buffer", 1, { params: {}, gb_per_second: 5000 }),
    entry("gemm.square", 1, { params: square, tflop_per_second: 200, gb_per_second: 100 }),
    entry("gemm.w_o", 1, { tflop_per_second: 50, gb_per_second: 3000 }),
    entry("gemm.w_o.f32", 1, { params: { dtype: "f32" }, tflop_per_second: 50 }),
  ]);
  assertEquals(rated.map(({ of_ceiling }) => of_ceiling), [1, 1.25, 1, 0.75, undefined]);
});

Deno.test("compareBench() finds what is in both runs, and says when they cannot be compared", async () => {
  await withFolder(async (folder) => {
    const path = join(folder, "then.json");
    const { result } = await measure({ suites: ["copy"], only: ["1MiB.1x64", "1MiB.buffer"] });
    await Deno.writeTextFile(path, JSON.stringify(result));
    const [first, second] = result.entries;
    const faster = { ...first!, median: first!.median / 2 };
    const now = { ...result, entries: [faster, entry("new", 1)] };
    const comparison = compareBench(now, await readSavedBench(path));
    assert(comparison.same_configuration);
    assertAlmostEquals(comparison.rows[0]!.speed_up, 2);
    assertEquals([comparison.only_then, comparison.only_now], [[second!.id], ["new"]]);
    const text = renderBench(now, comparison);
    assertStringIncludes(text, "× 2.00");
    assertStringIncludes(text, "1 entry is only there.");
    const other = { ...now, train: { ...now.train, precision: "mixed" as const } };
    const differing = compareBench(other, await readSavedBench(path));
    assert(!differing.same_configuration);
    assertStringIncludes(renderBench(other, differing), "Model or training differ");

    const refused = async (text: string, message: string) => {
      await Deno.writeTextFile(path, text);
      const error = await assertRejects(() => readSavedBench(path), UserError, message);
      assertEquals(error.exitCode, 2);
    };
    await refused("{", "which is no JSON");
    await refused('{"format": "ethos-bench"}', "which is not what bench --save writes: version");
  });
  await assertRejects(() => readSavedBench("/nowhere.json"), UserError, "cannot be read");
});

Deno.test("parseSuites() takes names in any order", () => {
  assertEquals(parseSuites("gemm, copy"), ["copy", "gemm"]);
  const all = parseSuites("all");
  assertEquals(parseSuites(all.toReversed().join(",")), all);
  assert(all.length > 9);
  assertThrows(() => parseSuites("gem"), UserError, "gem is no suite; expected copy, gemm,");
  assertThrows(() => parseSuites(","), UserError, "names no suite");
});

Deno.test("The task bench lists, measures, saves and compares with the permissions that it names", async () => {
  await withFolder(async (folder) => {
    const save = join(folder, "bench.json");
    const task = async (code: number, ...args: string[]) => {
      const ended = await runTask(["bench", ...args]);
      assertEquals(ended.code, code, ended.stderr);
      return ended;
    };
    const config = ["--config", "configs/testing/minimal.yaml"];
    const what = [
      ...config,
      "--suite",
      "step,copy",
      "--only",
      "mixed.full",
      "--only",
      "1MiB.buffer",
    ];
    const list = await task(0, ...what, "--list");
    assertEquals(list.stdout, "copy.1MiB.buffer\nstep.mixed.full.2x32\n");
    await task(0, ...what, "--warmup", "1", "--repeats", "1", "--steps", "1", "--save", save);
    const saved: BenchResult = JSON.parse(await Deno.readTextFile(save));
    assertEquals(saved.entries.map(({ suite }) => suite), ["copy", "step"]);
    assertEquals(saved.config, "configs/testing/minimal.yaml");
    assertEquals(saved.measured_on.deno, Deno.version.deno);
    const again = await task(
      0,
      ...[...what, "--repeats", "1", "--steps", "1", "--against", save, "--json"],
    );
    const { against } = JSON.parse(again.stdout);
    assertEquals([against.rows.length, against.same_configuration], [2, true]);
    const wrong = await task(2, "--suite", "atention");
    assertStringIncludes(wrong.stderr, "Did you mean `attention`?");
    const missing = await task(2, "--against", join(folder, "none.json"));
    assertStringIncludes(missing.stderr, "none.json, which cannot be read");
  });
});
