import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { openTestGpu } from "../../gpu/testing.ts";
import { tinyModel, tinyTrain } from "../../training/trainer_testing.ts";
import { measureCeilings } from "./ceilings.ts";
import { profileStep, type StepProfile } from "./step_profile.ts";
import { addUp, foldLabel, partOf, rate, toTrace } from "./step_report.ts";
import { zipfBatches } from "./synthetic_tokens.ts";

const options = {
  architecture: tinyModel(),
  train: tinyTrain({ gradient_accumulation: 2, recompute: "full" }),
  seed: 3,
  warmup: 1,
  steps: 3,
};
const ROOFS = { bytes_per_second: 1e9, flops_per_second: 1e10, copy: "", product: "" };

function assertWhole(profile: StepProfile): void {
  assertEquals(profile.tokens, 2 * 2 * 13);
  assertEquals(profile.step.repeats, 3);
  assert(profile.step.min > 0 && profile.step.median <= profile.step.max);
  assert(profile.host.median > 0);
  assertEquals(profile.skipped, 0);
  assert(profile.losses.every((loss) => loss > 1 && loss < 10), `${profile.losses}`);
  const phases = new Set(profile.dispatches.map(({ phase }) => phase));
  assertEquals([...phases].sort(), ["backward", "forward", "head", "recompute", "update"]);
  // Two micro-batches: their dispatches are twice in a step, the update's once.
  const calls = (pattern: RegExp) =>
    profile.dispatches.filter(({ label }) => pattern.test(label)).length;
  assertEquals(calls(/^head\.logits$/), 2);
  assertEquals(calls(/^layers\.1\.attn\.attention$/), 2);
  assert(profile.recorded_flops > profile.model_flops / 2);
  const { total, lines, activations } = profile.memory;
  assertEquals(lines.reduce((n, { bytes }) => n + bytes, 0), total);
  assert(activations.reduce((n, { bytes }) => n + bytes, 0) > 0);
}

Deno.test("profileStep() times steps and every dispatch of one", async () => {
  const gpu = await openTestGpu();
  const profile = await profileStep(gpu, { ...options, profiles: 2 });
  assertWhole(profile);
  if (!gpu.capabilities.timestamps) return;
  assert(profile.timed && profile.clock === "device");
  assert(profile.waiting! >= 0 && profile.waiting! < 1);
  let at = 0;
  for (const { begin, seconds, label } of profile.dispatches) {
    assert(begin! >= at - 1e-9 && seconds! >= 0, `${label} begins before what comes before it`);
    at = begin!;
  }
  const trace = toTrace(profile.dispatches, { device: "a" });
  const spans = trace.traceEvents.filter((event) => event.ph === "X");
  assertEquals(spans.length, profile.dispatches.length);
  assert(spans.some(({ name, cat }) => name === "layers.0.attn.attention" && cat !== name));
  const named = trace.traceEvents.flatMap(({ ph, name, args }) =>
    ph === "M" && name === "thread_name" ? [args["name"]] : []
  );
  assert(named.includes("backward layer 1") && named.includes("update"));
  assertEquals(new Set(named).size, named.length);
});

Deno.test("profileStep() does without timestamps", async () => {
  const gpu = await openTestGpu({ timestamps: false });
  const profile = await profileStep(gpu, options);
  assertWhole(profile);
  assertEquals([profile.timed, profile.clock, profile.busy], [false, "host", undefined]);
  assertThrows(() => toTrace(profile.dispatches), RangeError, "a device with timestamps");
  const [line] = rate(addUp(profile.dispatches, "kernel"), ROOFS);
  assert(line!.flops > 0 && line!.share === undefined);
});

Deno.test("lines add up and are held against the nearer roof", () => {
  const dispatch = { kernel: "gemm", phase: "forward", flops: 4e9, bytes: 1e8 } as const;
  const lines = rate(
    addUp([
      { ...dispatch, label: "layers.0.attn.q", begin: 0, seconds: 0.5 },
      { ...dispatch, label: "layers.11.attn.q", begin: 0.5, seconds: 0.5 },
      { ...dispatch, label: "norm", kernel: "norm", flops: 0, begin: 1, seconds: 1 },
    ], "label"),
    ROOFS,
  );
  assertEquals(lines.map(({ name, calls, bound }) => [name, calls, bound]), [
    ["layers.*.attn.q", 2, "compute"],
    ["norm", 1, "memory"],
  ]);
  assertAlmostEquals(lines[0]!.of_ceiling!, 0.8);
  assertAlmostEquals(lines[1]!.of_ceiling!, 0.1);
  assertAlmostEquals(lines[1]!.share!, 0.5);
  assertEquals(foldLabel("recompute.layers.12.ffn.z.3"), "recompute.layers.*.ffn.z.*");
});

Deno.test("partOf() finds the part of every dispatch, forward and back", () => {
  const parts = Object.entries({
    "embed.sort.count": "head",
    "layers.0.attn_norm.gain": "attention",
    "recompute.layers.12.attn.w_q": "attention",
    "layers.3.ffn_norm": "feed-forward",
    "layers.3.ffn.dw_gate": "feed-forward",
    "layers.3.ffn.router.bn.sums": "router",
    "head.dembed": "head",
    "update.norm": "update",
    balance: "rest",
  });
  assertEquals(parts.map(([label]) => partOf(label)), parts.map(([, part]) => part));
});

Deno.test("zipfBatches() draws the same tokens for the same seed, small ones more often", () => {
  const draw = (seed: number) => zipfBatches({ vocabulary: 50, tokens: 999, count: 2, seed });
  const [first, second] = draw(7);
  assertEquals(draw(7)[1], second);
  assert(first!.tokens.some((token, i) => token !== draw(8)[0]!.tokens[i]));
  assertEquals(first!.targets.subarray(0, 998), first!.tokens.subarray(1));
  const share = first!.tokens.filter((token) => token === 0).length / 999;
  // The harmonic number of 50 is 4.5.
  assertAlmostEquals(share, 1 / 4.5, 0.05);
  assert(Math.max(...first!.tokens) < 50);
});

Deno.test("measureCeilings() finds roofs that are there", async () => {
  const gpu = await openTestGpu();
  const roofs = await measureCeilings(gpu, { dtype: "f16", warmup: 1, repeats: 1, minimum: 0.001 });
  assert(roofs.bytes_per_second > 1e7 && roofs.flops_per_second > 1e7);
  assert(/³ (nn|nt|tn), f16/.test(roofs.product), roofs.product);
});
