import fc from "fast-check";
import { assert, assertEquals } from "@std/assert";
import { compareGolden } from "./compare.ts";
import type { GoldenTensor, ModelCase } from "./golden.ts";
import { gpuImplementation } from "./gpu.ts";
import { openTestGpu } from "../gpu/testing.ts";
import { parseGolden } from "./file.ts";
import { referenceImplementation } from "./reference.ts";
import { under } from "../reference/layer.ts";
import { ReferenceModel } from "../reference/model.ts";
import { normals, randomTensors, smallModel } from "../reference/testing.ts";
import { BEAM, type ModelChanges, PEER } from "../testing.ts";
import { tinyModel } from "../training/trainer_testing.ts";
import { parameterSpecs, statisticSpecs } from "../trunk/parameters.ts";
import { encodeSafetensors } from "../checkpoint/safetensors.ts";

type Shaped = [name: string, shape: readonly number[], data: Float64Array];

/** A file in float64 of these tensors, and of zeros for the results. */
function file(config: object, inputs: Shaped[], results: [string, readonly number[]][]) {
  const zeros = results.map(([name, shape]): Shaped => [
    name,
    shape,
    new Float64Array(shape.reduce((a, b) => a * b, 1)),
  ]);
  return encodeSafetensors(
    [...inputs, ...zeros].map(([name, shape, data]) => ({ name, dtype: "F64", shape, data })),
    { metadata: { config: JSON.stringify(config) } },
  );
}

const small = (max: number, min = 1) => fc.integer({ min, max });
const sizes = fc.record({
  d_model: small(6),
  heads: small(3),
  q_rank: small(5),
  kv_rank: small(5),
  d_nope: small(4),
  d_rope: small(3).map((half) => 2 * half),
  d_v: small(4),
  B: small(3),
  L: small(5, 2),
  vocab: small(9, 2),
  layers: small(3),
  d_ffn: small(5),
  sub_keys: small(4),
  routing_heads: small(3),
  d_query: small(3).map((half) => 2 * half),
  d_latent: small(4),
  d_hidden: small(5),
  d_context: small(3, 0),
  load_balance_coef: fc.constantFrom(0, 0.5),
  seed: small(1000),
}).chain((all) =>
  fc.record({ top_k: small(all.sub_keys), dense_layers: small(all.layers, 1).map((n) => n - 1) })
    .map((more) => ({ ...all, ...more }))
);

/** The same sizes in the model's own form. */
function modelOf(from: typeof sizes extends fc.Arbitrary<infer T> ? T : never) {
  return {
    vocab_size: from.vocab,
    d_model: from.d_model,
    num_layers: from.layers,
    leading_dense: { num_layers: from.dense_layers, d_ffn: from.d_ffn },
    attention: {
      num_heads: from.heads,
      q_lora_rank: from.q_rank,
      kv_lora_rank: from.kv_rank,
      d_nope: from.d_nope,
      d_rope: from.d_rope,
      d_v: from.d_v,
    },
    ffn: {
      num_experts: from.sub_keys ** 2,
      routing_heads: from.routing_heads,
      top_k: from.top_k,
      d_query: from.d_query,
      d_latent: from.d_latent,
      d_hidden: from.d_hidden,
      d_context: from.d_context,
      load_balance_coef: from.load_balance_coef,
    },
    trunk: { max_positions: 1 },
  } satisfies ModelChanges;
}

Deno.test("whole models of any sizes are read, and every tensor is computed", async () => {
  await fc.assert(
    fc.asyncProperty(sizes, async (from) => {
      const model = smallModel(modelOf(from));
      const trained = parameterSpecs(model);
      const all = [...trained, ...statisticSpecs(model)];
      const values = randomTensors(model, from.seed);
      const tokens = (shift: number) =>
        Float64Array.from({ length: from.B * from.L }, (_, i) => (i * 5 + shift) % from.vocab);
      const batch = [from.B, from.L];
      const run = { steps: 2, lr: 1e-3, clip: 1, weight_decay: 0.01 };
      const bytes = file(
        { ...from, ...run, kind: "ethos" },
        [
          ["tokens", batch, tokens(0)],
          ["targets", batch, tokens(1)],
          ...all.map(({ name, shape }): Shaped => [`param.${name}`, shape, values.get(name)!]),
        ],
        [
          ["out.logits", [...batch, from.vocab]],
          ["out.losses", [2]],
          ["out.totals", [2]],
          ["out.grad_norms", [2]],
          ["out.eval_loss_after", [1]],
          ...trained.map(({ name, shape }) => [`grad.${name}`, shape] as [string, number[]]),
          ...all.map(({ name, shape }) => [`after.${name}`, shape] as [string, number[]]),
        ],
      );
      const golden = parseGolden(bytes, "generated");
      assert(golden.kind === "model");
      assertEquals(golden.architecture.config, model.config);
      const rows = await compareGolden(referenceImplementation, golden);
      assertEquals(rows.filter(({ note, error }) => note !== undefined || Number.isNaN(error)), []);
      assertEquals(rows.find(({ tensor }) => tensor === "out.losses")?.ok, false);
    }),
    { numRuns: 20 },
  );
});

Deno.test("ETHOS layers of any sizes are read, and every tensor is computed", async () => {
  await fc.assert(
    fc.asyncProperty(sizes, small(7, 2), async (from, T) => {
      const model = smallModel({
        ...modelOf(from),
        num_layers: 1,
        leading_dense: { num_layers: 0 },
      });
      const prefix = "layers.0.ffn.";
      const own = <Spec extends { name: string }>(specs: Spec[]) =>
        specs.filter(({ name }) => name.startsWith(prefix))
          .map((spec) => ({ ...spec, name: spec.name.slice(prefix.length) }));
      const trained = own(parameterSpecs(model));
      const statistics = own(statisticSpecs(model));
      const values = under(randomTensors(model, from.seed), prefix);
      const x = [T, from.d_model];
      const random = normals(from.seed);
      const kept = [T, from.routing_heads, from.top_k];
      const { layers: _, vocab: __, heads: ___, ...metadata } = from;
      const bytes = file(
        { ...metadata, T, kind: "ethos", dense_layers: 0 },
        [
          ["x", x, random(T * from.d_model)],
          ["g", x, random(T * from.d_model)],
          ...[...trained, ...statistics]
            .map(({ name, shape }): Shaped => [name, shape, values[name]!]),
        ],
        [
          ["out.y", x],
          ["out.y_naive", x],
          ["out.index", kept],
          ["out.score", kept],
          ["grad.x", x],
          ...statistics.map(({ name, shape }) => [`out.${name}`, shape] as [string, number[]]),
          ...trained.map(({ name, shape }) => [`grad.${name}`, shape] as [string, number[]]),
        ],
      );
      const golden = parseGolden(bytes, "generated");
      assert(golden.kind === "layer");
      const rows = await compareGolden(referenceImplementation, golden);
      assertEquals(rows.filter(({ note, error }) => note !== undefined || Number.isNaN(error)), []);
    }),
    { numRuns: 20 },
  );
});

const sparse = fc.record({
  heads: small(3),
  d_head: small(4),
  B: small(3),
  L: small(5, 2),
  more: small(3, 0),
  vocab: small(9, 2),
  layers: small(3),
  d_ffn: small(5),
  tied: fc.boolean(),
  decay: fc.constantFrom("matrices", "all"),
  beta2: fc.constantFrom(0.95, 0.999),
  seed: small(1000),
});

Deno.test("whole models with multi-head attention, layer norm, positions and a decay of all are read", async () => {
  await fc.assert(
    fc.asyncProperty(sparse, async ({ heads, d_head, more, ...from }) => {
      const d_model = heads * d_head;
      const positions = from.L + more;
      const model = smallModel({
        vocab_size: from.vocab,
        d_model,
        num_layers: from.layers,
        leading_dense: { num_layers: 0, d_ffn: from.d_ffn },
        attention: {
          kind: "mha",
          num_heads: heads,
          bias: true,
          d_rope: 0,
          rope_base: 1e4,
          dropout: 0,
        },
        ffn: { kind: "dense", d_ffn: from.d_ffn },
        trunk: {
          norm: "layer",
          epsilon: 1e-5,
          positions: "learned",
          max_positions: positions,
          head: from.tied ? "tied" : "own",
        },
      });
      const all = parameterSpecs(model);
      const values = randomTensors(model, from.seed);
      const batch = [from.B, from.L];
      const tokens = (shift: number) =>
        Float64Array.from({ length: from.B * from.L }, (_, i) => (i * 5 + shift) % from.vocab);
      const reference = new ReferenceModel(model, values, {
        adamW: { beta2: from.beta2 },
        decay: from.decay as "matrices" | "all",
      });
      const example = { tokens: tokens(0), targets: tokens(1), length: from.L };
      for (let step = 0; step < 2; step++) reference.trainStep([example], { learningRate: 1e-3 });
      const run = { steps: 2, lr: 1e-3, clip: 1, weight_decay: 0.01 };
      const { decay, beta2, tied, vocab, layers, d_ffn, B, L } = from;
      const bytes = file(
        {
          ...{ decay, beta2, tied, vocab, layers, d_ffn, B, L },
          ...{ ...run, kind: "dense", d_model, heads, positions, layer_norm_eps: 1e-5 },
        },
        [
          ["tokens", batch, tokens(0)],
          ["targets", batch, tokens(1)],
          ...all.flatMap(({ name, shape }): Shaped[] => [
            [`param.${name}`, shape, values.get(name)!],
            [`after.${name}`, shape, reference.parameters.get(name)!],
          ]),
        ],
        [
          ["out.logits", [...batch, from.vocab]],
          ["out.losses", [2]],
          ["out.totals", [2]],
          ["out.grad_norms", [2]],
          ["out.eval_loss_after", [1]],
          ...all.map(({ name, shape }) => [`grad.${name}`, shape] as [string, number[]]),
        ],
      );
      const golden = parseGolden(bytes, "generated");
      assert(golden.kind === "model");
      assertEquals(golden.architecture.config, model.config);
      const rows = await compareGolden(referenceImplementation, golden);
      assertEquals(rows.filter(({ note, error }) => note !== undefined || Number.isNaN(error)), []);
      // The decay and what it applies to reach the optimiser.
      assertEquals(rows.filter(({ tensor, ok }) => tensor.startsWith("after.") && !ok), []);
    }),
    { numRuns: 20 },
  );
});

/** A whole model's case with random weights, and what the reference says of it. */
async function generated(
  changes: ModelChanges,
  options: { seed: number; batch: number; length: number },
): Promise<ModelCase> {
  const { seed, batch, length } = options;
  const architecture = tinyModel(changes);
  const tensor = (data: Float64Array, whole = false): GoldenTensor => ({
    shape: [data.length],
    data,
    whole,
  });
  const random = normals(seed + 1);
  const ids = () =>
    random(batch * length).map((v) =>
      Math.floor(Math.abs(v) * 1e3) % architecture.config.vocab_size
    );
  const golden: ModelCase = {
    kind: "model",
    file: `seed ${seed}`,
    architecture,
    batch,
    length,
    steps: 2,
    learningRate: 1e-3,
    clip: 1,
    weightDecay: 0.01,
    decay: "matrices",
    beta1: 0.9,
    beta2: 0.999,
    epsilon: 1e-8,
    inputs: new Map([
      ["tokens", tensor(ids(), true)],
      ["targets", tensor(ids(), true)],
      ...Array.from(
        randomTensors(architecture, seed),
        ([name, data]) => [`param.${name}`, tensor(data.map(Math.fround))] as const,
      ),
    ]),
    expected: new Map(),
  };
  const results = await referenceImplementation.model(golden);
  const names = [...results.keys()].filter((name) => /^(out|grad|after)\./.test(name));
  const expected = new Map(
    names.map((name) => [name, tensor(Float64Array.from(results.get(name)!))]),
  );
  return { ...golden, expected };
}

const MOE = { kind: "topk_moe", num_experts: 7, d_expert: 12, top_k: 2 } as const;
const SPARSE = {
  d_model: 24,
  attention: { kind: "mha", num_heads: 2, bias: true },
  trunk: { norm: "layer", positions: "learned", max_positions: 29, head: "own" },
} as const;

const mixed: [string, ModelChanges][] = [
  ["ethos, deep", { num_layers: 4 }],
  ["ethos, context-aware and balanced", { ffn: { d_context: 8, load_balance_coef: 0.1 } }],
  ["ethos by mass, wide", { d_model: 52, vocab_size: 131, ffn: { choice: "mass", mass: 0.6 } }],
  ["ethos without batch norm", { ffn: { router_batch_norm: false } }],
  ["beams", { ffn: BEAM }],
  ["beams, context-aware", { ffn: { ...BEAM, d_context: 8 } }],
  ["peer, balanced", { ffn: { ...PEER, load_balance_coef: 0.1 } }],
  ["peer above a threshold", { ffn: { ...PEER, choice: "threshold", threshold: 0.35 } }],
  ["switch", {
    leading_dense: { num_layers: 0 },
    ffn: { kind: "switch", num_experts: 5, d_expert: 12 },
  }],
  ["topk_moe with biases", { ffn: { ...MOE, biases: true } }],
  ["topk_moe by probabilities, balanced", {
    ...SPARSE,
    ffn: { ...MOE, top_k: 4, choice: "top_p", top_p: 0.6, load_balance_coef: 0.1 },
  }],
  ["topk_moe with dropout", {
    ...SPARSE,
    trunk: { ...SPARSE.trunk, dropout: 0.1 },
    ffn: { ...MOE, expert_dropout: 0.2 },
  }],
];

Deno.test("whole models in mixed precision agree with float64 given the same choice", async (t) => {
  const gpu = await openTestGpu();
  let others = 0;
  for (const [i, [name, changes]] of mixed.entries()) {
    for (const seed of [1, 2, 3]) {
      await t.step(`${name}, seed ${seed}`, async () => {
        const options = { seed: 97 * i + seed, batch: 1 + (i + seed) % 3, length: 7 + 5 * seed };
        const golden = await generated(changes, options);
        const execution = (["fused", "materialized", "naive"] as const)[(i + seed) % 3]!;
        const rows = await compareGolden(gpuImplementation(gpu, execution, "mixed"), golden);
        assertEquals(rows.filter(({ ok }) => !ok), []);
        const counted = rows.filter(({ measure }) => measure === "tokens");
        assert(counted.length > 0);
        others += counted.reduce((sum, { error }) => sum + error, 0);
      });
    }
  }
  // Halves do decide near ties otherwise here, so that the choice is given and not only equal.
  assert(others > 0);
});
