import { assert, assertAlmostEquals, assertEquals, assertLess, assertThrows } from "@std/assert";
import { parameterSpecs } from "../trunk/parameters.ts";
import { ReferenceModel } from "./model.ts";
import { AdamW, clipByGlobalNorm } from "./optimizer.ts";
import { DENSE, type ModelChanges } from "../testing.ts";
import { randomTensors, smallModel } from "./testing.ts";

const batch = {
  tokens: [1, 5, 2, 9, 1, 0, 10, 3],
  targets: [5, 2, 9, 4, 0, 10, 3, 3],
  length: 4,
};
const other = { ...batch, tokens: batch.targets, targets: batch.tokens };

function model(changes: ModelChanges = {}) {
  const architecture = smallModel(changes);
  return new ReferenceModel(architecture, randomTensors(architecture, 21));
}

Deno.test("ReferenceModel learns a batch", () => {
  const trained = model();
  const before = trained.loss(batch).crossEntropy;
  for (let i = 0; i < 60; i++) trained.trainStep([batch], { learningRate: 1e-2 });
  assertLess(trained.loss(batch).crossEntropy, before / 4);
  assertLess(trained.evaluate(batch).crossEntropy, before);
});

Deno.test("ReferenceModel looks at no later token", () => {
  const changed = { ...batch, tokens: batch.tokens.with(3, 0) };
  const dense = model(DENSE);
  const a = dense.loss(batch).logits.data;
  const b = dense.loss(changed).logits.data;
  const { vocab_size } = dense.architecture.config;
  assertEquals(a.slice(0, 3 * vocab_size), b.slice(0, 3 * vocab_size));
  assert(a[3 * vocab_size] !== b[3 * vocab_size]);
  assertEquals(a.slice(4 * vocab_size), b.slice(4 * vocab_size));
});

Deno.test("ReferenceModel.loss() and evaluate() change nothing", () => {
  const still = model();
  const copy = () =>
    structuredClone([...still.parameters, ...still.statistics].map(([, value]) => [...value]));
  const before = copy();
  still.loss(batch);
  still.evaluate(batch);
  still.gradients(batch);
  assertEquals(copy(), before);
});

Deno.test("ReferenceModel.trainStep() averages micro-batches and moves statistics by each", () => {
  const stepped = model();
  const a = stepped.gradients(batch);
  const b = stepped.gradients(other);
  const result = stepped.trainStep([batch, other], { learningRate: 1e-3 });
  assertAlmostEquals(result.crossEntropy, (a.crossEntropy + b.crossEntropy) / 2, 1e-12);
  for (const [name, gradient] of result.gradients) {
    gradient.forEach((value, i) =>
      assertAlmostEquals(
        value,
        (a.gradients.get(name)![i]! + b.gradients.get(name)![i]!) / 2,
        1e-12,
      )
    );
  }
  const once = model();
  once.trainStep([batch], { learningRate: 0 });
  once.trainStep([other], { learningRate: 0 });
  assertEquals(stepped.statistics, once.statistics);
});

Deno.test("ReferenceModel leaves what does not decay and has no gradient alone", () => {
  const stepped = model();
  const before = stepped.parameters.get("layers.1.ffn.router.b_q")!.slice();
  stepped.trainStep([batch], { learningRate: 1e-2 });
  assertEquals(stepped.parameters.get("layers.1.ffn.router.b_q"), before);
});

Deno.test("ReferenceModel refuses tensors that don't fit", () => {
  const small = smallModel();
  const tensors = randomTensors(small, 1);
  const without = new Map(tensors);
  without.delete("layers.1.ffn.z");
  assertThrows(() => new ReferenceModel(small, without), Error, "layers.1.ffn.z is missing");
  const short = new Map(tensors).set("layers.1.ffn.z", new Float64Array(3));
  assertThrows(() => new ReferenceModel(small, short), Error, "[25, 4] has 3 numbers");
  const more = new Map(tensors).set("layers.7.ffn.z", new Float64Array(3));
  assertThrows(() => new ReferenceModel(small, more), Error, "no parameter layers.7.ffn.z");
});

Deno.test("ReferenceModel refuses batches that don't fit", () => {
  const some = model();
  assertThrows(() => some.loss({ ...batch, length: 3 }), RangeError, "8 tokens are not whole");
  const high = { ...batch, tokens: batch.tokens.with(0, 11) };
  assertThrows(() => some.loss(high), RangeError, "Token 11 is not in the vocabulary of 11");
  const target = { ...batch, targets: batch.targets.with(0, -1) };
  assertThrows(() => some.loss(target), RangeError, "Target -1 is not in the vocabulary");
  assertThrows(() => some.trainStep([], { learningRate: 1 }), RangeError, "at least one");
});

Deno.test("clipByGlobalNorm() scales large gradients alone", () => {
  const small = clipByGlobalNorm(new Map([["a", Float64Array.of(0.3)]]), 1);
  assertEquals([...small.gradients.get("a")!], [0.3]);
  const large = clipByGlobalNorm(new Map([["a", Float64Array.of(3)], ["b", Float64Array.of(4)]]));
  assertEquals(large.norm, 5);
  assertAlmostEquals(large.gradients.get("b")![0]!, 0.8, 1e-6);
});

Deno.test("AdamW decays what it is told to", () => {
  const parameters = new Map([["w", Float64Array.of(2)], ["gain", Float64Array.of(2)]]);
  const zero = new Map([["w", new Float64Array(1)], ["gain", new Float64Array(1)]]);
  const decaying = new Set(
    parameterSpecs(smallModel()).filter(({ decay }) => decay).map(({ name }) => name),
  );
  assert(decaying.has("layers.1.ffn.router.k1") && !decaying.has("final_norm.weight"));
  new AdamW(new Set(["w"]), { weightDecay: 0.5 }).step(parameters, zero, { learningRate: 0.1 });
  assertAlmostEquals(parameters.get("w")![0]!, 1.9, 1e-12);
  assertEquals(parameters.get("gain")![0], 2);
  assertThrows(
    () => new AdamW(new Set()).step(parameters, new Map(), { learningRate: 1 }),
    Error,
    "w has no gradient",
  );
});
