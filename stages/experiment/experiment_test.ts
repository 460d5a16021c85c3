import { assert, assertEquals, assertStrictEquals } from "@std/assert";
import type { JsonValue, NodeSpec } from "../../pipeline/stage.ts";
import { ablate } from "../ablate/ablate.ts";
import { experimentSchema } from "./config.ts";
import { trainSchema } from "../../model/training/config.ts";
import { experiment, startKey } from "./experiment.ts";
import { TEST_STAGES, testParts, testStage } from "./config_testing.ts";

const minimal = {
  name: "test",
  data: { source: "embedded" },
  tokenizer: { vocabulary: "compact" },
  model: { ffn: { kind: "ethos", d_latent: 16, top_k: 4 } },
  train: { sequence_length: 64, steps: 100, learning_rate: { warmup_steps: 10 } },
};

function build(changes: Record<string, unknown>) {
  const configuration = experimentSchema(testParts).parse({ ...minimal, ...changes });
  const { nodes, results } = experiment(configuration, {
    stages: TEST_STAGES,
    vocab_size: 512,
  });
  const named = (name: string) => nodes.filter((node) => node.stage.name === name);
  const one = (name: string) => named(name)[0] as NodeSpec;
  return { nodes, results, named, one };
}

const ffnOf = (node: NodeSpec | undefined) =>
  (node?.params as { model: { ffn: Record<string, JsonValue> } }).model.ffn;

const d_latent = { name: "d_latent", path: "model.ffn.d_latent", values: [8, 16, 32] };
const top_k = { name: "top_k", path: "model.ffn.top_k", values: [2, 4] };

Deno.test("without ablations there is one model a seed", () => {
  const { nodes, named, one, results } = build({ seeds: [1, 2] });
  assertEquals(nodes.map(({ stage, label }) => `${stage.name}[${label ?? ""}]`), [
    "download[]",
    "tokenize[]",
    "train[base,seed=1]",
    "train[base,seed=2]",
    "evaluate[base,seed=1]",
    "evaluate[base,seed=2]",
    "benchmark[]",
    "ablate[]",
    "report[]",
  ]);
  assertStrictEquals(named("evaluate")[1]?.inputs?.train?.[0], named("train")[1]);
  assertStrictEquals(one("train").inputs?.dataset?.[0], one("tokenize"));
  assertEquals(Object.keys(one("report").inputs ?? {}), [
    "download",
    "dataset",
    "train",
    "evaluate",
    "ablate",
    "benchmark",
  ]);
  assertEquals(results, [{ node: one("report"), output: "report", to: "results" }]);
  // The stage itself accepts them.
  assert(ablate.params.safeParse(one("ablate").params).success);
});

Deno.test("one factor at a time: the base is shared, other cells have their own seeds", () => {
  const { named, one } = build({
    seeds: [1, 2, 3],
    ablation_seeds: [1, 2],
    ablations: [d_latent, { ...top_k, seeds: [3] }],
  });
  assertEquals(named("train").map(({ label }) => label), [
    "base,seed=1",
    "base,seed=2",
    "base,seed=3",
    "d_latent=8,seed=1",
    "d_latent=8,seed=2",
    "d_latent=32,seed=1",
    "d_latent=32,seed=2",
    "top_k=2,seed=3",
  ]);
  assertEquals(named("train")[0]?.labels, {
    cell: "base",
    seed: 1,
    base: true,
    factor: null,
    value: null,
    factors: { d_latent: 16, top_k: 4 },
  });
  assertEquals(named("train")[5]?.labels, {
    cell: "d_latent=32",
    seed: 1,
    base: false,
    factor: "d_latent",
    value: 32,
    factors: { d_latent: 32 },
  });
  assertEquals(ffnOf(named("train")[5]).d_latent, 32);
  assertEquals(ffnOf(named("train")[5]).top_k, 4);
  const { factors } = one("ablate").params as { factors: JsonValue };
  assertEquals(factors, [
    {
      name: "d_latent",
      title: "model.ffn.d_latent",
      values: [
        { value: 8, cell: "d_latent=8" },
        { value: 16, cell: "base" },
        { value: 32, cell: "d_latent=32" },
      ],
    },
    {
      name: "top_k",
      title: "model.ffn.top_k",
      values: [{ value: 2, cell: "top_k=2" }, { value: 4, cell: "base" }],
    },
  ]);
});

Deno.test("a variant can have seeds of its own", () => {
  const { named } = build({
    seeds: [1, 2],
    ablations: [{
      name: "architecture",
      variants: [
        { value: "ethos" },
        { value: "wide", set: { "model.ffn.d_latent": 32 } },
        { value: "narrow", set: { "model.ffn.d_latent": 8 }, seeds: [2] },
      ],
    }],
  });
  assertEquals(named("train").map(({ label }) => label), [
    "base,seed=1",
    "base,seed=2",
    "architecture=wide,seed=1",
    "architecture=wide,seed=2",
    "architecture=narrow,seed=2",
  ]);
});

Deno.test("the base's own value joins a factor that leaves it out", () => {
  const { one } = build({
    ablations: [
      { ...d_latent, values: [32, 8] },
      { name: "context", variants: [{ value: "aware", set: { "model.ffn.d_context": 16 } }] },
    ],
  });
  const { factors } = one("ablate").params as { factors: { values: { value: JsonValue }[] }[] };
  assertEquals(factors.map(({ values }) => values.map(({ value }) => value)), [
    [8, 16, 32],
    ["base", "aware"],
  ]);
});

Deno.test("variants change several keys, and one matches a dense model's parameters", () => {
  const { named } = build({
    seeds: [1],
    ablations: [{
      name: "architecture",
      variants: [
        { value: "ethos" },
        { value: "dense", equal_active_parameters: true },
        {
          value: "narrow",
          set: { "model.ffn.kind": "dense" },
          equal: { quantity: "flops", by: "model.ffn.d_ffn" },
        },
        { value: "short", set: { "train.steps": 50, "model.ffn.router_batch_norm": false } },
      ],
    }],
  });
  assertEquals(named("train").map(({ label }) => label), [
    "base,seed=1",
    "architecture=dense,seed=1",
    "architecture=narrow,seed=1",
    "architecture=short,seed=1",
  ]);
  assertEquals(ffnOf(named("train")[1]), { kind: "dense", d_ffn: 2112 });
  // Layers that generate an expert compute more than a dense layer of as many active parameters.
  assertEquals(ffnOf(named("train")[2]), { kind: "dense", d_ffn: 2496 });
  assertEquals(ffnOf(named("train")[3]).router_batch_norm, false);
  assertEquals((named("train")[3]?.params as { train: { steps: number } }).train.steps, 50);
});

Deno.test("a variant of another kind has that kind's keys, and the base's other sections", () => {
  const { named } = build({
    seeds: [1],
    model: { num_layers: 5, ffn: { kind: "ethos", d_latent: 16 } },
    ablations: [{
      name: "architecture",
      variants: [{ value: "dense", set: { "model.ffn.d_ffn": 64, "model.ffn.kind": "dense" } }],
    }],
  });
  const [base, dense] = named("train").map(({ params }) => (params as { model: object }).model);
  assertEquals(dense, { ...base, ffn: { kind: "dense", d_ffn: 64 } });
});

Deno.test("a variant of another router has that router's keys, and the base's other sections", () => {
  const { named } = build({
    seeds: [1],
    model: { num_layers: 5, ffn: { kind: "ethos", num_experts: 64, top_k: 8, d_latent: 16 } },
    ablations: [{
      name: "router",
      variants: [{
        value: "beam",
        set: { "model.ffn.axes": 2, "model.ffn.d_latent": 16, "model.ffn.router": "beam" },
      }],
    }],
  });
  const [base, beam] = named("train").map(({ params }) => (params as { model: object }).model);
  assertEquals(beam, {
    ...base,
    ffn: {
      kind: "ethos",
      router: "beam",
      routing_heads: 4,
      top_k: 8,
      axes: 2,
      axis_query: 32,
      axis_size: 512,
      axis_candidates: 32,
      beam_width: 64,
      d_latent: 16,
      d_hidden: 512,
      d_context: 0,
      execution: "auto",
    },
  });
});

Deno.test("two factors that come to the same cell share it", () => {
  const { named } = build({
    seeds: [1, 2],
    ablations: [
      { name: "a", path: "model.ffn.d_latent", values: [8], seeds: [1] },
      { name: "b", variants: [{ value: "narrow", set: { "model.ffn.d_latent": 8 } }], seeds: [2] },
    ],
  });
  assertEquals(named("train").map(({ label }) => label), [
    "base,seed=1",
    "base,seed=2",
    "a=8,seed=1",
    "a=8,seed=2",
  ]);
  assertEquals(named("train")[2]?.labels?.factors, { a: 8, b: "narrow" });
});

Deno.test("a grid has every combination, with the base among them", () => {
  const { named, one } = build({
    combine: "grid",
    seeds: [1],
    ablations: [{ ...d_latent, values: [8, 16] }, top_k],
  });
  assertEquals(named("train").map(({ label }) => label), [
    "base,seed=1",
    "d_latent=8,top_k=2,seed=1",
    "d_latent=8,top_k=4,seed=1",
    "d_latent=16,top_k=2,seed=1",
  ]);
  assertEquals(named("train")[0]?.labels?.factors, { d_latent: 16, top_k: 4 });
  const { factors } = one("ablate").params as { factors: { name: string; values: unknown[] }[] };
  assertEquals(factors.map(({ name, values }) => [name, values.length]), [["d_latent-top_k", 4]]);
});

Deno.test("seed moves every training seed", () => {
  const { named } = build({ seed: 100, seeds: [1, 2] });
  assertEquals(named("train").map(({ params }) => (params as { seed: number }).seed), [101, 102]);
});

Deno.test("a cell's parameters are those of the same cell of another sweep, so it is cached", () => {
  const all = build({ seeds: [1], ablations: [d_latent, top_k] });
  const alone = build({ seeds: [1], name: "other", ablations: [top_k] });
  const params = (nodes: readonly NodeSpec[], label: string) =>
    nodes.find((node) => node.label === label)?.params;
  assertEquals(
    params(alone.named("train"), "top_k=2,seed=1"),
    params(all.named("train"), "top_k=2,seed=1"),
  );
});

Deno.test("an extension reads the finished training, and what is measured reads the extension", () => {
  const train = { ...minimal.train, extend: 300 };
  const plain = build({ seeds: [1], ablations: [d_latent] });
  const { named, one } = build({ seeds: [1], ablations: [d_latent], train });
  assertEquals(named("train").map(({ label }) => label), [
    "base,seed=1",
    "base,seed=1,extend=300",
    "d_latent=8,seed=1",
    "d_latent=8,seed=1,extend=300",
    "d_latent=32,seed=1",
    "d_latent=32,seed=1,extend=300",
  ]);
  const finished = named("train").filter((_, i) => i % 2 === 0);
  const extended = named("train").filter((_, i) => i % 2 === 1);
  assertEquals(finished.map(({ params }) => params), plain.named("train").map((n) => n.params));
  for (const [i, node] of extended.entries()) {
    assertStrictEquals(node.inputs?.["finished"]?.[0], finished[i]);
    assertEquals((node.params as { train: { extend: number } }).train.extend, 300);
  }
  assertEquals(named("evaluate").map(({ inputs }) => inputs?.["train"]?.[0]), extended);
  assertEquals(one("report").inputs?.["train"], extended);
  assertEquals(one("benchmark").params, plain.one("benchmark").params);
});

Deno.test("samples are a parameter of trainings alone", () => {
  const train = trainSchema.parse({ ...minimal.train, sample_every: 10 });
  const plain = build({ seeds: [1] });
  const { one } = build({ seeds: [1], train });
  const params = one("train").params as { train: object };
  assertEquals(params.train, {
    ...(plain.one("train").params as { train: object }).train,
    ...train,
  });
  assertEquals(one("benchmark").params, plain.one("benchmark").params);
  assertEquals(one("evaluate").params, plain.one("evaluate").params);
});

Deno.test("trainings that start from one published model share its node", () => {
  const configuration = experimentSchema(testParts).parse({
    ...minimal,
    seeds: [1, 2],
    train: { ...minimal.train, initial: { checkpoint: "org/name", revision: "v1" } },
  });
  const starts = new Map([[startKey(configuration.train.initial!), {
    pretrained: { stage: testStage("pretrained"), params: { name: "org/name", revision: "v1" } },
  }]]);
  const { nodes } = experiment(configuration, { stages: TEST_STAGES, vocab_size: 512, starts });
  const published = nodes.filter(({ stage }) => stage.name === "pretrained");
  assertEquals(published.map(({ label, params }) => [label, params]), [
    ["org/name v1", { name: "org/name", revision: "v1" }],
  ]);
  for (const { stage, inputs } of nodes) {
    if (stage.name === "train") assertStrictEquals(inputs?.["initial"]?.[0], published[0]);
  }
});
