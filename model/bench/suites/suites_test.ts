import { assert, assertEquals } from "@std/assert";
import { DEVICE_PROFILES, profileGpu } from "../../gpu/recording.ts";
import { openTestGpu } from "../../gpu/testing.ts";
import { tinyModel } from "../../training/trainer_testing.ts";
import { DENSE } from "../../testing.ts";
import { measureCase, type SuiteContext, SUITES } from "./suite.ts";
import { casesOf } from "./suites.ts";
import { tinyContext } from "./suites_testing.ts";

Deno.test("every suite's cases have names of their own, on every kind of device", () => {
  for (const profile of DEVICE_PROFILES) {
    const mixture = { ffn: { kind: "topk_moe", num_experts: 5, d_expert: 12 } };
    for (const architecture of [tinyModel(), tinyModel(DENSE), tinyModel(mixture)]) {
      const cases = casesOf(SUITES, tinyContext(profileGpu(profile), { architecture }));
      const ids = cases.map(({ id }) => id);
      assertEquals(new Set(ids).size, ids.length);
      const suites = new Set(cases.map(({ suite }) => suite));
      assertEquals(suites.has("experts"), architecture.feedForward(1).bench !== undefined);
      assert(suites.has("copy") && suites.has("scaling"));
    }
  }
});

Deno.test("a case of every suite can be measured, with the rates that it has", async () => {
  const gpu = await openTestGpu();
  const cases = casesOf(SUITES, tinyContext(gpu));
  const rates: Record<string, readonly string[]> = {
    "copy.1MiB.4x256.spread": ["gb_per_second"],
    "copy.1MiB.buffer": ["gb_per_second"],
    "gemm.square.128x128x128.tn.f16": ["tflop_per_second", "gb_per_second"],
    "grouped.square.128.nn.f32": ["tflop_per_second", "gb_per_second"],
    "grouped.experts.4.512x64x64.nn.f32": ["tflop_per_second"],
    "grouped.experts.4.512x64x64.nt.f16": ["tflop_per_second"],
    "grouped.experts.4.512x64x64.tn.f16": ["tflop_per_second"],
    "pruning.moment.256x64": ["tflop_per_second", "gb_per_second", "peak_bytes"],
    "pruning.factor.64": ["tflop_per_second", "gb_per_second", "peak_bytes"],
    "pruning.clusters.4.256x64": ["tflop_per_second", "gb_per_second", "peak_bytes"],
    "pruning.matrix.64x64.half": ["tflop_per_second", "gb_per_second", "peak_bytes"],
    "pruning.matrix.64x64.2of4": ["tflop_per_second", "gb_per_second", "peak_bytes"],
    "pruning.matrix.64x64.half.4bit": ["tflop_per_second", "gb_per_second", "peak_bytes"],
    "pruning.product.4.256x64x64.one": ["tflop_per_second", "gb_per_second"],
    "pruning.product.4.256x64x64.dense": ["tflop_per_second", "gb_per_second", "peak_bytes"],
    "pruning.product.4.256x64x64.2of4.f32": ["tflop_per_second", "gb_per_second", "peak_bytes"],
    "pruning.product.4.256x64x64.2of4.4bit": ["tflop_per_second", "gb_per_second", "peak_bytes"],
    "pruning.product.4.256x64x64.half.f16": ["tflop_per_second", "gb_per_second", "peak_bytes"],
    "pruning.product.4.256x64x64.half.4bit": ["tflop_per_second", "gb_per_second", "peak_bytes"],
    "attention.forward.2x13x2.f16": ["tflop_per_second", "tokens_per_second"],
    "attention.backward.2x13x2.f32": ["tflop_per_second", "tokens_per_second", "peak_bytes"],
    "layer.fused.32.f32.forward_backward": ["tokens_per_second", "peak_bytes"],
    "experts.naive.32.f32.forward": ["tokens_per_second", "peak_bytes"],
    "router.32.f32.forward": ["tokens_per_second", "peak_bytes"],
    "step.mixed.experts.2x13": ["tokens_per_second", "peak_bytes"],
    "scaling.num_experts.64.fused": ["tokens_per_second", "peak_bytes"],
    "cost.num_experts.196": ["tflop_per_second", "tokens_per_second", "peak_bytes"],
    "inference.prefill.24.64.f32": ["tokens_per_second", "peak_bytes"],
    "inference.decode.24.f32": ["tokens_per_second", "peak_bytes"],
    "inference.decode.24.device.mixed": ["tokens_per_second", "peak_bytes"],
  };
  for (const [id, expected] of Object.entries(rates)) {
    const found = cases.find((each) => each.id === id);
    assert(found, `${id} is not among ${cases.map(({ id }) => id).join(" ")}`);
    const entry = await measureCase(found);
    assert(entry.min > 0 && entry.min <= entry.median && entry.median <= entry.max, id);
    assertEquals(entry.repeats, 2);
    const all = ["tflop_per_second", "gb_per_second", "tokens_per_second", "peak_bytes"] as const;
    assertEquals(all.filter((rate) => entry[rate] !== undefined), [...expected], id);
    assert(all.every((rate) => entry[rate] === undefined || entry[rate] > 0), id);
  }
});

Deno.test("products of a mixture's experts have its sizes, and are no plain products", () => {
  const gpu = profileGpu(DEVICE_PROFILES.at(-1)!);
  const ffn = { kind: "topk_moe", num_experts: 5, top_k: 3, d_expert: 12 };
  const of = (architecture: SuiteContext["architecture"]) =>
    casesOf(["gemm", "grouped"], tinyContext(gpu, { architecture })).map(({ id }) => id);
  const ids = of(tinyModel({ ffn }));
  assert(ids.includes("grouped.experts.5.78x20x12.nn.f32"), ids.join(" "));
  assert(!ids.some((id) => /^gemm\.(w1|w2|b1|b2|w_g)\./.test(id)), ids.join(" "));
  assert(of(tinyModel({ ffn: { ...ffn, num_experts: 8 } })).some((id) => id.includes("gemm.w_g.")));
  // As many operations as a square product of 4096.
  assert(of(tinyModel()).includes("grouped.square.4096.tn.f16"));
});

Deno.test("the cases of a step differ in what they name alone", async () => {
  const gpu = await openTestGpu();
  const scaling = casesOf(["scaling"], tinyContext(gpu)).map(({ params }) => params);
  const factors = new Set(scaling.map(({ factor }) => factor));
  assertEquals(
    [...factors].sort(),
    ["num_experts", "routing_heads", "sequence_length", "tokens", "top_k"],
  );
  const executions = scaling.filter(({ factor }) => factor === "num_experts")
    .map(({ execution }) => execution);
  assertEquals(new Set(executions), new Set(["auto", "fused"]));
});
