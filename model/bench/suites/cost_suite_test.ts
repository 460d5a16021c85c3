import { assert, assertEquals, assertRejects } from "@std/assert";
import { architectureOf, modelSchema } from "../../config.ts";
import { DEVICE_PROFILES, profileGpu } from "../../gpu/recording.ts";
import { openTestGpu } from "../../gpu/testing.ts";
import { DENSE } from "../../testing.ts";
import { tinyModel } from "../../training/trainer_testing.ts";
import type { Architecture } from "../../trunk/architecture.ts";
import { trainSchema } from "../../training/config.ts";
import { costSuite } from "./cost_suite.ts";
import { type BenchEntry, LeftOut, measureCase, overRounds, type SuiteContext } from "./suite.ts";
import { tinyContext } from "./suites_testing.ts";

const GPU = DEVICE_PROFILES.find(({ name }) => name === "GPU")!;

const context = (options: Partial<SuiteContext> = {}) => tinyContext(profileGpu(GPU), options);

/** The values of each axis. */
function valuesOf(options: Partial<SuiteContext>): Record<string, (string | number)[]> {
  const axes: Record<string, (string | number)[]> = {};
  for (const { params } of costSuite(context(options))) {
    (axes[params["axis"]!] ??= []).push(params["value"]!);
  }
  return axes;
}

Deno.test("the axes are multiples of the configuration's sizes", () => {
  const paper = architectureOf({ ...modelSchema.parse({}), vocab_size: 100277 });
  const train = trainSchema.parse({ sequence_length: 4096, micro_batch: 8, steps: 2000 });
  assertEquals(valuesOf({ architecture: paper, train }), {
    num_experts: [4096, 16384, 65536, 262144, 1048576],
    sequence_length: [1024, 2048, 4096, 8192, 16384, 32768],
    d_model: [256, 512, 1024, 2048],
    micro_batch: [1, 2, 4, 8, 16],
  });
  assertEquals(valuesOf({ architecture: tinyModel(DENSE) }), {
    sequence_length: [13, 26, 52, 104],
    d_model: [5, 10, 20, 40],
    micro_batch: [1, 2, 4],
  });
});

Deno.test("points that a device can't hold, and sizes that can't be, are left out with their reasons", async () => {
  const refused = async (id: string, reason: string, options: Partial<SuiteContext> = {}) => {
    const point = costSuite(context(options)).find((each) => each.id === id)!;
    await assertRejects(() => measureCase(point), LeftOut, reason);
  };
  await refused("cost.d_model.5", "d_model: 5 is not a multiple of 4");
  await refused("cost.sequence_length.104", "26 tokens, no whole number of sequences of 104");
  await refused("cost.micro_batch.4", "it takes", { memory: 1000 });
  await refused("cost.sequence_length.26", "the model has 13 positions", {
    architecture: tinyModel({ trunk: { positions: "learned", max_positions: 13 } }),
  });
  const few = { ffn: { num_experts: 64, top_k: 6 } };
  await refused("cost.num_experts.16", "ffn.top_k: 6 is more than the 4 sub-keys", {
    architecture: tinyModel(few),
  });
  const capabilities = { ...GPU.capabilities, max_binding_bytes: 1 << 13 };
  await refused("cost.micro_batch.4", "can have", { gpu: profileGpu({ ...GPU, capabilities }) });
});

Deno.test("a step's phases and parts are those of the step, and grow with its work", async () => {
  const gpu = await openTestGpu();
  const measured = async (architecture: Architecture, id: string) =>
    await measureCase(
      costSuite(context({ gpu, architecture })).find((each) => each.id === id)!,
    );
  const one = await measured(tinyModel(), "cost.micro_batch.1");
  const four = await measured(tinyModel(), "cost.micro_batch.4");
  assertEquals(one.params, { axis: "micro_batch", value: 1 });
  assertEquals(Math.round(four.tokens_per_second! * four.median), 52);
  assert(four.flops! > 2 * one.flops! && four.peak_bytes! > one.peak_bytes!);
  if (!gpu.capabilities.timestamps) return assertEquals(one.parts, undefined);
  const { phase, part } = one.parts!;
  assertEquals(Object.keys(phase).sort(), ["backward", "forward", "head", "update"]);
  // The ends of the norms' gradients are of all layers, where a software adapter joins them.
  assertEquals(
    Object.keys(part).filter((name) => name !== "rest").sort(),
    ["attention", "feed-forward", "head", "router", "update"],
  );
  const sum = (parts: Readonly<Record<string, number>>) =>
    Object.values(parts).reduce((a, b) => a + b, 0);
  assert(Math.abs(sum(phase) / sum(part) - 1) < 1e-9);
});

Deno.test("overRounds() takes medians, and rates that belong to them", () => {
  const round = (median: number, attention: number): BenchEntry => ({
    ...{ id: "cost.d_model.8", suite: "cost", params: {}, peak_bytes: 7, flops: 12e12 },
    ...{ median, min: median - 1, max: median + 1, repeats: 2 },
    ...{ tokens_per_second: 24 / median, tflop_per_second: 12 / median },
    parts: { phase: { forward: median }, part: { attention } },
  });
  assertEquals(overRounds([round(3, 1), round(9, 2), round(4, 3)]), {
    ...round(4, 2),
    ...{ min: 2, max: 10, repeats: 6 },
  });
});
