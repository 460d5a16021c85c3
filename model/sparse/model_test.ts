import { assertEquals, assertRejects } from "@std/assert";
import { runPlan } from "../gpu/build.ts";
import type { Gpu } from "../gpu/device.ts";
import { Plan } from "../gpu/plan.ts";
import { openTestGpu } from "../gpu/testing.ts";
import { uploadParts } from "../gpu/transfer.ts";
import { LayerContext } from "../layer/context.ts";
import { Weights } from "../layer/weights.ts";
import { assertNear } from "../ops/testing.ts";
import { randomTensors, smallModel } from "../reference/testing.ts";
import { expandedLogits, expandModel } from "../reference/sparse/model.ts";
import type { Architecture } from "../trunk/architecture.ts";
import { headLogits } from "../trunk/head.ts";
import { weightSpecs } from "../trunk/parameters.ts";
import type { BlockOptions } from "./blocks.ts";
import type { DenseModel } from "./calibration.ts";
import { measureNeurons } from "./entanglement/neurons.ts";
import { ExpandedModel } from "./model.ts";
import { PRUNING } from "./options.ts";
import { Tensors } from "./rows.ts";

const [LENGTH, WINDOWS, VOCABULARY] = [16, 14, 23];

const expansion = { clusters: 2, pca_factor: 6, restarts: 2, max_iterations: 50 };

/** Tokens that look random, the same for the same seed. */
const tokensOf = (count: number, seed: number) =>
  Uint32Array.from({ length: count }, (_, i) => (i * i * 7 + i * (seed + 3) + seed) % VOCABULARY);

const options: BlockOptions = {
  tokens: tokensOf(LENGTH * WINDOWS, 1),
  length: LENGTH,
  expansion,
  pruning: { ...PRUNING, sparsity: 0.5, block: 8 },
  seed: 5,
};

/** A model like Pythia, or with one of its parts another. */
const example = (
  ffn: Record<string, unknown> = { activation: "gelu_exact", biases: true },
  residual: "parallel" | "sequential" = "parallel",
): Architecture =>
  smallModel({
    vocab_size: VOCABULARY,
    d_model: 16,
    num_layers: 2,
    leading_dense: { num_layers: 0, d_ffn: 20 },
    attention: { kind: "mha", num_heads: 2, bias: true, d_rope: 4, rope_base: 10000, dropout: 0 },
    ffn: { kind: "dense", d_ffn: 20, ...ffn },
    trunk: { norm: "layer", residual, head: "own" },
  });

/** Weights on the device, which f32 holds exactly. */
function loaded(gpu: Gpu, architecture: Architecture, precision: "f32" | "mixed" = "f32") {
  const tensors = new Map(
    Array.from(randomTensors(architecture, 11), ([name, values]) => [
      name,
      values.map((v) => Math.fround(v)),
    ]),
  );
  const weights = new Weights(gpu, weightSpecs(architecture), { train: false, precision });
  for (const [name, values] of tensors) uploadParts(gpu, weights.value(name).parts, values);
  return { tensors, model: { architecture, weights } satisfies DenseModel };
}

const forms = [
  ["gelu_exact", true, "parallel"],
  ["gelu", false, "sequential"],
  ["swiglu", false, "parallel"],
] as const;

for (const [activation, biases, residual] of forms) {
  Deno.test(`a model with ${activation} is expanded layer after layer as float64 does`, async () => {
    const gpu = await openTestGpu();
    const architecture = example({ activation, biases }, residual);
    const { tensors, model } = loaded(gpu, architecture);
    const { config } = architecture;
    const mlps = expandModel(config, tensors, options);
    const labels: Record<string, number[]> = {};
    const masks = new Map<string, number[]>();
    const measured: [layer: string, rows: number][][] = [];
    using expanded = await ExpandedModel.expand(gpu, model, {
      ...options,
      // The last batch has fewer windows than the others.
      most: 64,
      onRouter(block, site, { kmeans }) {
        labels[`${block} ${site}`] = [...kmeans.clusters.labels];
      },
      onExpert({ block, layer, matrix }) {
        const at = `${block} ${layer}`;
        masks.set(at, [...masks.get(at) ?? [], ...matrix.mask]);
      },
      async onMlp({ block, ...at }) {
        const neurons = await measureNeurons(gpu, at, { neurons: 4, rows: 99, shown: 0, seed: 1 });
        measured[block] = neurons.map(({ layer, rows }) => [layer, rows.reduce((a, b) => a + b)]);
      },
    });
    // The first batch has 64 rows.
    const layers = activation === "swiglu" ? ["gate", "up", "down"] : ["up", "down"];
    const expectedRows = layers.map((layer): [string, number] => [layer, 64]);
    assertEquals(measured, [expectedRows, expectedRows]);
    for (const [block, mlp] of mlps.entries()) {
      for (const site of ["in", "mid"] as const) {
        assertEquals(labels[`${block} ${site}`], [...mlp[site].labels], `${block} ${site}`);
        for (const [layer, experts] of Object.entries(mlp[site].experts)) {
          assertEquals(masks.get(`${block} ${layer}`), experts.flatMap(({ mask }) => [...mask]));
        }
      }
    }
    const test = { tokens: tokensOf(3 * LENGTH, 2), length: LENGTH };
    using inputs = new Tensors(gpu);
    const plan = new Plan(gpu, "test");
    const ids = inputs.tensor("ids", [test.tokens.length], { dtype: "u32", values: test.tokens });
    const context = new LayerContext(plan, model.weights, {
      batch: 3,
      length: LENGTH,
      mode: "evaluate",
    });
    const padded = headLogits(context, { architecture, x: expanded.record(context, ids) });
    const found = await runPlan(plan, { padded });
    const logits = found.padded.filter((_, i) => i % padded.width < VOCABULARY);
    const expected = expandedLogits(config, tensors, { ...test, mlps });
    assertNear(logits, expected.data, { tolerance: 1e-4, what: activation });
    model.weights.destroy();
  });
}

Deno.test("a model is not expanded from tokens, weights or layers that do not fit", async () => {
  const gpu = await openTestGpu();
  const refused = async (
    expected: string,
    architecture: Architecture,
    changes: Partial<BlockOptions> & { precision?: "mixed"; broken?: string } = {},
  ) => {
    const { precision, broken, ...more } = changes;
    const { model } = loaded(gpu, architecture, precision);
    if (broken) {
      const { parts, shape } = model.weights.value(broken);
      const count = shape.reduce((product, n) => product * n, 1);
      uploadParts(gpu, parts, new Float32Array(count).fill(NaN));
    }
    await assertRejects(
      () => ExpandedModel.expand(gpu, model, { ...options, ...more }),
      RangeError,
      expected,
    );
    model.weights.destroy();
  };
  const plain = example();
  await refused("224 calibration tokens are no windows of 11", plain, { length: 11 });
  await refused("0 calibration tokens are no windows of 16", plain, { tokens: [] });
  const tokens = options.tokens as Uint32Array;
  await refused("the token 23, expected one below 23", plain, { tokens: tokens.with(7, 23) });
  await refused("The weights are mixed, expected f32", plain, { precision: "mixed" });
  await refused("the MLP has a gate and biases", example({ activation: "swiglu", biases: true }));
  const experts = { kind: "switch", num_experts: 2, d_expert: 8 };
  await refused("block 0: the feed-forward is switch, expected dense", example(experts));
  const broken = "layers.1.ffn.w_up";
  await refused("block 1 mid: A row has a number that is not finite", plain, { broken });
  const clusters = 300;
  await refused("block 0 in: clusters is 300", plain, { expansion: { ...expansion, clusters } });
});
