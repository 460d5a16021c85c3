import { assert, assertAlmostEquals, assertEquals, assertRejects } from "@std/assert";
import { openTestGpu } from "../../gpu/testing.ts";
import { Evaluator } from "../../inference/evaluator.ts";
import { InferenceModel } from "../../inference/model.ts";
import { chanceCv, expertBalance } from "../../inference/usage_statistics.ts";
import { changedModel, DENSE, type ModelChanges } from "../../testing.ts";
import { layerGradients } from "./gradients.ts";
import { fitLine, layerMemory } from "./layer_memory.ts";
import { ActivationCounter, countRows, isExact } from "./what_ran.ts";
import { zipfBatches } from "../measure/synthetic_tokens.ts";

const TOPK = { kind: "topk_moe", num_experts: 12, d_expert: 16, expert_init: "fan_in" };

const modelOf = (ffn: ModelChanges["ffn"]) =>
  changedModel({ d_model: 16, num_layers: 2, vocab_size: 31 }, {
    leading_dense: { num_layers: 0 },
    attention: { kind: "mha", num_heads: 2 },
    ffn: ffn!,
  });

Deno.test("what ran is what the gate chose, k different experts a token", async () => {
  const gpu = await openTestGpu();
  for (
    const [ffn, kept] of [[TOPK, 2], [{ ...TOPK, top_k: 3 }, 3], [{
      kind: "switch",
      num_experts: 5,
      d_expert: 8,
    }, 1]] as const
  ) {
    using model = await InferenceModel.untrained(gpu, modelOf(ffn), { seed: 3 });
    const sizes = { batch: 3, length: 16 };
    using counter = await ActivationCounter.open(model, sizes);
    using evaluator = await Evaluator.open(gpu, {
      architecture: model.architecture,
      weights: model.weights,
      ...sizes,
    });
    const batches = zipfBatches({ vocabulary: 31, tokens: 48, count: 2, seed: 1 });
    const counts = new Map<number, number[]>();
    for (const { tokens, targets } of batches) {
      await counter.add(tokens);
      const row = Uint32Array.of(...tokens, targets.at(-1)!);
      const source = { length: row.length, read: (at: number, n: number) => row.slice(at, at + n) };
      for (const { layer, counts: found } of (await evaluator.evaluate(source)).usage) {
        counts.set(layer, Array.from(found, (n, e) => n + (counts.get(layer)?.[e] ?? 0)));
      }
    }
    assertEquals(counter.layers.length, 2);
    for (const layer of counter.layers) {
      assert(isExact(layer), JSON.stringify(layer));
      assertEquals([layer.tokens, layer.slots, layer.kept], [96, 96 * kept, kept]);
      assertEquals(layer.counts, counts.get(layer.layer));
    }
  }
  // As many as their probabilities take: one or two.
  const ffn = { ...TOPK, choice: "top_p", top_p: 0.15 };
  using model = await InferenceModel.untrained(gpu, modelOf(ffn), { seed: 3 });
  using counter = await ActivationCounter.open(model, { batch: 1, length: 32 });
  await counter.add(zipfBatches({ vocabulary: 31, tokens: 32, count: 1, seed: 1 })[0]!.tokens);
  const [layer] = counter.layers;
  assertEquals([layer!.fewest_experts, layer!.most_experts, layer!.repeated], [1, 2, 0]);
  assert(!isExact(layer!) && layer!.slots < 64);
});

Deno.test("a counter refuses a model without whole experts, and a batch of another size", async () => {
  const gpu = await openTestGpu();
  using dense = await InferenceModel.untrained(gpu, modelOf(DENSE.ffn), { seed: 1 });
  const sizes = { batch: 1, length: 4 };
  await assertRejects(() => ActivationCounter.open(dense, sizes), RangeError, "no layer whose");
  using model = await InferenceModel.untrained(gpu, modelOf(TOPK), { seed: 1 });
  using counter = await ActivationCounter.open(model, sizes);
  await assertRejects(() => counter.add(new Uint32Array(5)), RangeError, "has 4 tokens, got 5");
});

Deno.test("rows that are missing, doubled or padding are told apart", () => {
  const sizes = { tile: 2, tokens: 2, experts: 3, kept: 2 };
  const none = 2 ** 32 - 1;
  const exact = countRows([0, 2, 1, none, 3, none, none, none], [0, 1, 2, 3], sizes);
  assertEquals(exact.counts, [2, 1, 1]);
  assertEquals([exact.slots, exact.padding, exact.repeated], [4, 2, 0]);
  assert(isExact({ layer: 0, ...exact }));
  // Token 0 twice in one expert.
  const twice = countRows([0, 1, 2, none, 3, none], [0, 1, 2], sizes);
  assertEquals([twice.fewest_experts, twice.most_experts, twice.repeated], [1, 2, 1]);
  assert(!isExact({ layer: 0, ...twice }));
  const missing = countRows([0, 2, 1, none], [0, 1], sizes);
  assert(!isExact({ layer: 0, ...missing }));
});

Deno.test("balance and the one that chance gives", () => {
  assertEquals(expertBalance([3, 3, 3, 3]), {
    cv: 0,
    entropy: Math.log(4),
    fewest: 3,
    most: 3,
    rare: 0,
  });
  const uneven = expertBalance([0, 0, 0, 8]);
  assertAlmostEquals(uneven.cv, Math.sqrt(3));
  assertAlmostEquals(uneven.entropy, 0);
  assertEquals([uneven.fewest, uneven.most, uneven.rare], [0, 8, 3]);
  assertAlmostEquals(chanceCv(8192 * 2, 16), Math.sqrt((15 / 16) / 1024));
});

Deno.test("memory of a layer grows by as much with each sequence, and starts at its weights", async () => {
  const gpu = await openTestGpu();
  const architecture = modelOf({ ...TOPK, d_expert: 256, biases: false });
  const memory = await layerMemory(gpu, {
    architecture,
    length: 32,
    sequences: [1, 4, 8, 16, 32],
    precision: "f32",
  });
  const stored = 4 * (16 * 12 + 2 * 12 * 16 * 256);
  assert(memory.weights >= stored && memory.weights < 1.01 * stored);
  assertEquals(memory.points.map(({ sequences }) => sequences), [1, 4, 8, 16, 32]);
  // Tiles that experts fill up with zeros do not depend on the batch either.
  assert(memory.fit.a > memory.weights && memory.fit.a < 1.5 * memory.weights);
  const [first, last] = [memory.slopes[0]!, memory.slopes.at(-1)!];
  assert(last > 0 && last < 1.3 * first, JSON.stringify(memory.slopes));
  const line = fitLine([1, 2, 5].map((sequences) => ({ sequences, bytes: 70 + 3 * sequences })));
  assertAlmostEquals(line.fit.a, 70);
  assertAlmostEquals(line.fit.b, 3);
  assertEquals(line.slopes, [3, 3]);
});

Deno.test("gradients are zero where no token goes, and finite differences agree", async () => {
  const gpu = await openTestGpu();
  const cases: [Record<string, unknown>, "zero" | "nonzero"][] = [
    [{ ...TOPK, expert_dropout: 0.3 }, "zero"],
    [{ ...TOPK, biases: false, gelu: "exact", top_k: 3 }, "zero"],
    [{ kind: "switch", num_experts: 7, d_expert: 8 }, "nonzero"],
  ];
  for (const [ffn, columns] of cases) {
    using model = await InferenceModel.untrained(gpu, modelOf(ffn), { seed: 5 });
    for (const balanced of [false, true]) {
      const found = await layerGradients(model, { layer: 1, balanced, seed: 2 });
      const what = JSON.stringify([ffn, found]);
      assert(found.finite && found.unused_are_zero && found.used_are_not && found.unused > 0, what);
      assertEquals(found.unused_columns, balanced ? "nonzero" : columns, what);
      const biases = ffn["biases"] === false || ffn["kind"] === "switch" ? [] : ["b1", "b2"];
      for (const name of ["w_g", "w1", "w2", ...biases]) {
        if (ffn["kind"] === "switch" && name !== "w_g") continue;
        assert(found.differences.some((each) => each.name === name), `${name}: ${what}`);
      }
      for (const { name, relative } of found.differences) {
        assert(relative < 2e-3, `${name}: ${what}`);
      }
    }
  }
});
