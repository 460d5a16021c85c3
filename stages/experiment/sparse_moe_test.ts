/** The configurations of the sparse transformer: their figures are those of its specification. */

import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { fromFileUrl } from "@std/path";
import { architectureOf } from "../../model/config.ts";
import { learningRate } from "../../model/training/schedule.ts";
import { tokensPerStep, trainingSteps } from "../../model/training/config.ts";
import { countActive, countFlops, countParameters } from "../../model/trunk/counts.ts";
import { loadConfiguration } from "../../pipeline/config/config.ts";
import { applyVariant, variantsOf } from "./cells.ts";
import { experimentSchema } from "./config.ts";
import { PARTS } from "./parts.ts";

const vocab_size = 50257;

async function load(file: string) {
  const path = fromFileUrl(new URL(`../../configs/${file}`, import.meta.url));
  const { value } = await loadConfiguration(path, { schema: experimentSchema(PARTS) });
  /** The variant of this name, and the base for `base`. */
  const sections = (variant: string | number) => {
    if (variant === "base") return value;
    const found = value.ablations.flatMap(variantsOf).find(({ value }) => value === variant)!;
    const changed = applyVariant(value, found, { vocab_size });
    assert("model" in changed, JSON.stringify(changed));
    return changed;
  };
  return { ...value, architecture: architectureOf({ ...value.model, vocab_size }), sections };
}

Deno.test("sparse_moe has the figures that follow from its sizes", async () => {
  const { architecture } = await load("sparse_moe.yaml");
  const { stored, active, byRole } = countParameters(architecture);
  assertEquals(stored, 158_623_744);
  assertEquals(byRole["attention"], 6 * 1_050_624);
  assertEquals(byRole["gate"], 6 * 8192);
  assertEquals(byRole["experts"], 6 * 16 * 1_048_576);
  assertEquals(byRole["embedding"], 25_731_584 + 131_072);
  assertEquals(byRole["head"], 25_731_584);
  assertEquals(byRole["norm"], 6 * 2048 + 1024);
  assertEquals(countActive(architecture), {
    layers: 18_949_120,
    with_head: 44_680_704,
    with_tables: 70_543_360,
  });
  assertEquals(active, 70_543_360);
  const { total, ...parts } = countFlops(architecture, { sequenceLength: 128 });
  const giga = (flops: number) => (128 * flops / 1e9).toFixed(2);
  assertEquals(
    Object.fromEntries(Object.entries(parts).map(([name, flops]) => [name, giga(flops)])),
    {
      head: "6.59",
      experts: "3.22",
      attentionProjections: "1.61",
      attentionContext: "0.10",
      gate: "0.01",
    },
  );
  assertEquals(giga(total), "11.53");
  // With all experts 34.08.
  assertEquals(giga(total + 7 * parts["experts"]!), "34.08");
  const { total: longer } = countFlops(architecture, { sequenceLength: 256 });
  assertEquals((longer / 1e6).toFixed(1), "90.9");
});

Deno.test("the dense equivalent has the same active parameters and operations", async () => {
  const { sections, architecture } = await load("sparse_moe.yaml");
  const dense = architectureOf({ ...sections("dense").model, vocab_size });
  assertEquals(countParameters(dense).stored, 70_494_208);
  assertEquals(dense.config.ffn, {
    kind: "dense",
    d_ffn: 2048,
    activation: "gelu_exact",
    weight_init: "fan_in",
  });
  assertEquals(dense.config.trunk, architecture.config.trunk);
  assertEquals(dense.config.attention, architecture.config.attention);
  const gates = 6 * 8192;
  assertEquals(countActive(dense).layers + gates, countActive(architecture).layers);
  const of = (model: typeof dense) => countFlops(model, { sequenceLength: 128 }).total;
  assertEquals(of(architecture) - of(dense), 2 * gates);
  assert(of(architecture) / of(dense) < 1.0012);
});

Deno.test("larger sizes and longer positions have the specified counts", async () => {
  for (
    const [file, variant, stored, with_head] of [
      ["sparse_moe_512m.yaml", "base", 519_373_824, 116_658_432],
      ["sparse_moe_1b.yaml", "base", 1_031_237_632, 215_362_560],
      ["ablations/positions.yaml", 2048, 159_541_248, 44_680_704],
    ] as const
  ) {
    const { sections } = await load(file);
    const { model, train } = sections(variant);
    const architecture = architectureOf({ ...model, vocab_size });
    assertEquals(countParameters(architecture).stored, stored);
    assertEquals(countActive(architecture).with_head, with_head);
    assertEquals(tokensPerStep(train), 8192);
    assertEquals(train.sequence_length, model.trunk.max_positions);
  }
  const { sections } = await load("ablations/positions.yaml");
  const { model } = sections(2048);
  const { total } = countFlops(architectureOf({ ...model, vocab_size }), { sequenceLength: 2048 });
  assertEquals((total / 1e6).toFixed(1), "101.9");
});

Deno.test("both schedules follow the published formula", async () => {
  const published = (n: number) =>
    3e-4 * (n < 200 ? n / 200 : 0.5 * (1 + Math.cos(Math.PI * (n - 200) / (5000 - 200))));
  for (
    const [file, steps] of [["sparse_moe.yaml", 5000], ["sparse_moe_published.yaml", 625]] as const
  ) {
    const { train } = await load(file);
    assertEquals(trainingSteps(train), steps);
    assertEquals(tokensPerStep(train), 32 * 256);
    const { initial, peak, warmup_steps: warmup, schedule: after } = train.learning_rate;
    const { final_fraction, cosine_end: end } = train.learning_rate;
    const of = (n: number) =>
      learningRate(n, { initial, peak, warmup, after, final_fraction, total: steps, end });
    for (const n of [0, 1, 199, 200, 201, 500, steps - 1]) {
      assertAlmostEquals(of(n), published(n), 1e-12);
    }
    assertEquals(of(0), 0);
  }
  assertAlmostEquals(published(624), 2.94e-4, 5e-7);
});

Deno.test("the offline variant has every option of the published sizes", async () => {
  const [full, offline] = await Promise.all(
    ["sparse_moe.yaml", "testing/sparse_moe_offline.yaml"].map(load),
  );
  const sizes = new Set([
    ...["d_model", "num_layers", "num_heads", "num_experts", "d_expert", "max_positions"],
    ...["sequence_length", "micro_batch", "gradient_accumulation", "steps", "peak", "cosine_end"],
    ...["warmup_steps", "evaluate_every", "evaluate_tokens", "checkpoint_every", "log_every"],
  ]);
  const options = (value: unknown): unknown =>
    typeof value !== "object" || value === null ? value : Object.fromEntries(
      Object.entries(value).filter(([key]) => !sizes.has(key)).map(([key, v]) => [key, options(v)]),
    );
  for (const section of ["model", "train"] as const) {
    assertEquals(options(offline![section]), options(full![section]));
  }
  assert(offline!.train.gradient_accumulation > 1);
});
