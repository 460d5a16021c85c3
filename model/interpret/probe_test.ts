import { assert, assertAlmostEquals, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { openTestGpu } from "../gpu/testing.ts";
import { Evaluator } from "../inference/evaluator.ts";
import { noisyTensors, smallModel } from "../inference/inference_testing.ts";
import { Generator, type PassChoices } from "../inference/generator.ts";
import { InferenceModel } from "../inference/model.ts";
import { packedBatch } from "../inference/token_batch.ts";
import { beamRoute } from "../reference/ffn/beam.ts";
import { dense } from "../reference/ffn/dense.ts";
import { experts } from "../reference/ffn/ethos/experts.ts";
import { route } from "../reference/ffn/product_key.ts";
import { under } from "../reference/layer.ts";
import { crossEntropy } from "../reference/loss.ts";
import { addScaled, type Matrix, matrix, row } from "../reference/matrix.ts";
import { networkForward } from "../reference/network.ts";
import { BEAM, DENSE, type ModelChanges, PEER } from "../testing.ts";
import type { Architecture } from "../trunk/architecture.ts";
import { ablate } from "./ablation.ts";
import { assignments, equalUse } from "./expert_counts.ts";
import { expertLayer, expertLayers, expertName, expertNumbers } from "./expert_layers.ts";
import { ExpertProbe } from "./probe.ts";

const VOCABULARY = 31;
const SIZES = { batch: 3, length: 7 };
const TOKENS = Uint32Array.from({ length: 20 }, (_, i) => (i * 11 + (i >> 2)) % VOCABULARY);
/** One token of the last sequence is not predicted. */
const BATCH = packedBatch(TOKENS, 21);

const KINDS: Readonly<Record<string, ModelChanges>> = {
  ethos: {},
  "ethos, context, dropped by mass": { ffn: { d_context: 8, choice: "mass", mass: 0.6 } },
  beams: { ffn: BEAM },
  peer: { ffn: PEER },
  topk_moe: { ffn: { kind: "topk_moe", num_experts: 6, d_expert: 12, top_k: 2 } },
  switch: { ffn: { kind: "switch", num_experts: 5, d_expert: 12 } },
};

async function opened(changes: ModelChanges, seed = 3) {
  const gpu = await openTestGpu();
  const architecture = smallModel(VOCABULARY, changes);
  const tensors = noisyTensors(architecture, seed);
  const model = await InferenceModel.filled(gpu, {
    architecture,
    async fill(sink) {
      for (const [name, values] of tensors) {
        await sink.writeState("value", name, Float32Array.from(values));
      }
    },
  });
  return { gpu, architecture, tensors, model };
}

/** Mean loss in float64 with an expert's score, or its output, zeroed. */
function referenceLoss(
  architecture: Architecture,
  tensors: ReadonlyMap<string, Float64Array>,
  { layer, expert }: { readonly layer: number; readonly expert?: readonly number[] },
): Float64Array {
  const { config } = architecture;
  const { ffn } = config;
  const changed = new Map(tensors);
  const zeroRow = (name: string, parts: number) => {
    const values = tensors.get(`layers.${layer}.ffn.${name}`);
    if (!values || !expert) return;
    const size = values.length / parts;
    changed.set(
      `layers.${layer}.ffn.${name}`,
      values.map((v, i) => Math.floor(i / size) === expert[0] ? 0 : v),
    );
  };
  if (ffn.kind === "peer") zeroRow("v", ffn.num_experts);
  if (ffn.kind === "topk_moe") { for (const name of ["w2", "b2"]) zeroRow(name, ffn.num_experts); }
  if (ffn.kind === "switch") zeroRow("w_down", ffn.num_experts);
  const ethos = (i: number, x: Matrix): Matrix => {
    const weights = under(tensors, `layers.${i}.ffn.`);
    if (i < config.leading_dense.num_layers) {
      return dense({ d_ffn: config.leading_dense.d_ffn }, weights, { x }).y;
    }
    if (ffn.kind !== "ethos") throw new Error(ffn.kind);
    const ofRouter = under(Object.entries(weights), "router.");
    const input = { x, training: false };
    const isLeftOut = (numbers: ArrayLike<number>) =>
      i === layer && expert !== undefined && expert.every((n, axis) => numbers[axis] === n);
    if (ffn.router === "beam") {
      const { axes, axis_size, d_latent } = ffn;
      const { index, score } = beamRoute(ffn, ofRouter, input);
      const z = matrix(axes * axis_size, d_latent, weights["z"]!);
      const codes = matrix(score.length, d_latent);
      index.forEach((at, n) => addScaled(row(codes, Math.floor(n / axes)), 1, row(z, at)));
      return experts({ ...ffn, num_experts: score.length }, { ...weights, z: codes.data }, {
        x,
        kept: {
          index: Int32Array.from(score.keys()),
          score: score.map((s, n) => isLeftOut(index.subarray(n * axes, (n + 1) * axes)) ? 0 : s),
        },
        execution: "reordered",
      }).y;
    }
    const { index, score } = route(ffn, ofRouter, input);
    return experts(ffn, weights, {
      x,
      kept: { index, score: score.map((s, n) => isLeftOut([index[n]!]) ? 0 : s) },
      execution: "reordered",
    }).y;
  };
  const { logits } = networkForward(config, changed, {
    tokens: BATCH.tokens,
    length: SIZES.length,
    training: false,
    ...(ffn.kind === "ethos" && { feedForward: ethos }),
  });
  return Float64Array.from(
    { length: TOKENS.length - 1 },
    (_, t) => {
      const one = matrix(1, logits.columns, row(logits, t).slice());
      return crossEntropy(one, [BATCH.targets[t]!]).loss;
    },
  );
}

for (const [name, changes] of Object.entries(KINDS)) {
  Deno.test(`the trace of ${name} has the counts of an evaluation, and a left-out expert the loss in float64`, async () => {
    const { gpu, architecture, tensors, model } = await opened(changes);
    using _ = model;
    using probe = await ExpertProbe.open(model, { ...SIZES, capacity: 3 });
    const scored = await probe.run(BATCH, { choices: true });
    using evaluator = await Evaluator.open(gpu, { architecture, weights: model.weights, ...SIZES });
    const source = {
      length: TOKENS.length,
      read: (at: number, n: number) => TOKENS.slice(at, at + n),
    };
    const { usage, total_nats } = await evaluator.evaluate(source);
    assertEquals(probe.layers.map(({ layer }) => layer), usage.map(({ layer }) => layer));
    assertAlmostEquals(scored.losses.reduce((a, b) => a + b, 0), total_nats, 1e-4);
    for (const { layer, counts } of usage) {
      const found = new Uint32Array(counts.length);
      const weights = new Float64Array(TOKENS.length - 1);
      const own = expertLayer(probe.layers, layer);
      for (const { t, expert, weight } of assignments(own, scored)) {
        for (const number of expertNumbers(own, expert)) found[number]!++;
        weights[t]! += weight;
      }
      assertEquals(found, counts);
      const heads = "routing_heads" in architecture.config.ffn
        ? architecture.config.ffn.routing_heads
        : 1;
      if (architecture.config.ffn.kind !== "switch") {
        for (const weight of weights) assertAlmostEquals(weight, heads, 1e-5);
      }
    }
    // The expert with the most weight in the last layer, and none.
    const last = probe.layers.at(-1)!;
    const best = [...assignments(last, scored)].reduce((a, b) => b.weight > a.weight ? b : a);
    const expert = expertNumbers(last, best.expert);
    const whole = referenceLoss(architecture, tensors, { layer: last.layer });
    const without = referenceLoss(architecture, tensors, { layer: last.layer, expert });
    whole.forEach((loss, t) => assertAlmostEquals(scored.losses[t]!, loss, 2e-4));
    probe.leaveOut(new Map([[last.layer, [expert]]]));
    const left = await probe.run(BATCH, { choices: true });
    without.forEach((loss, t) => assertAlmostEquals(left.losses[t]!, loss, 2e-4));
    assert(without.some((loss, t) => Math.abs(loss - whole[t]!) > 1e-3), "nothing changed");
    for (const { expert, weight } of assignments(last, left)) {
      if (expert === best.expert) assertEquals(weight, 0);
    }
    const edit = { name: "best", without: new Map([[last.layer, [best.expert]]]) };
    const options = { edits: [edit], controls: 2, seed: 1, most_tokens: 3 };
    const { nats, tokens, edits: [effect] } = await ablate(probe, [BATCH], options);
    const mean = (values: Float64Array) => values.reduce((a, b) => a + b, 0) / values.length;
    assertEquals(tokens, TOKENS.length - 1);
    assertAlmostEquals(nats, mean(whole), 1e-4);
    assertAlmostEquals(effect!.change, mean(without) - mean(whole), 1e-4);
    assertEquals(effect!.by_token.length, 3);
    // The list is empty again.
    assertEquals((await probe.run(BATCH)).losses, scored.losses);
  });
}

Deno.test("a probe refuses a dense model, and layers and experts that do not exist", async () => {
  const { model } = await opened(DENSE);
  using _ = model;
  await assertRejects(
    () => ExpertProbe.open(model, SIZES),
    RangeError,
    "The model has no layer with experts",
  );
  assertThrows(() => expertLayer([], 1), RangeError, "no layer with experts");
  const layers = expertLayers(smallModel(VOCABULARY));
  assertThrows(() => expertLayer(layers, 0), RangeError, "Layer 0 has no experts; expected one of");
  for (const wrong of ["49", "-1", "1.2", "x", ""]) {
    assertThrows(() => expertNumbers(layers[0]!, wrong), RangeError, "a number from 0 to 48");
  }
  const [beams] = expertLayers(smallModel(VOCABULARY, { ffn: BEAM }));
  assertEquals(expertNumbers(beams!, "6.0.2"), [6, 7, 16]);
  assertEquals(expertName(beams!, [9, 6, 7, 16], 1), "6.0.2");
  assertThrows(() => expertNumbers(beams!, "6.0.7"), RangeError, "3 numbers from 0 to 6");
});

Deno.test("random experts of equal use are others, and as near as there are", () => {
  const counts = new Map(Array.from({ length: 40 }, (_, i) => [String(i), 1 + i * i]));
  const found = equalUse(counts, ["30", "3"], { seed: 4 });
  assertEquals(found, equalUse(counts, ["30", "3"], { seed: 4 }));
  assertEquals(new Set([...found, "30", "3"]).size, 4);
  assert(Math.abs(Number(found[0]) - 30) <= 8 && Number(found[1]) <= 9, found.join());
  assertEquals(equalUse(new Map([["1", 5]]), ["1"], { seed: 1 }), []);
});

/** The weight of each expert that tokens keep: `3: 17`, for the expert 17 of token 3. */
function keptWeights(
  layer: ReturnType<typeof expertLayer>,
  { index, weight }: { readonly index: Uint32Array; readonly weight: Float32Array },
  first = 0,
): Map<string, number> {
  const kept = new Map<string, number>();
  for (const [at, value] of weight.entries()) {
    if (value === 0) continue;
    const key = `${first + Math.floor(at / layer.kept)}: ${
      expertName(layer, index, at * layer.axes)
    }`;
    kept.set(key, (kept.get(key) ?? 0) + value);
  }
  return kept;
}

for (const [name, changes] of Object.entries(KINDS)) {
  Deno.test(`A generator tells the experts that its tokens choose: ${name}`, async () => {
    const { model, architecture } = await opened(changes);
    using opening = model;
    const batch = packedBatch(TOKENS.subarray(0, 9), 8);
    using probe = await ExpertProbe.open(opening, { batch: 1, length: 8 });
    const expected = (await probe.run(batch, { choices: true })).choices;
    const passes: PassChoices[] = [];
    using generator = await Generator.create(opening, {
      capacity: 16,
      chunk: 4,
      onChoices: (pass) => passes.push(pass),
    });
    // A whole chunk, one that is filled up, and a single token.
    await generator.feed(batch.tokens.subarray(0, 7));
    await generator.feed(batch.tokens.subarray(7, 8));
    assertEquals(passes.map(({ position }) => position), [0, 4, 7]);
    assertEquals(passes.flatMap(({ tokens }) => tokens), Array.from(batch.tokens));
    for (const [i, layer] of expertLayers(architecture).entries()) {
      const found = new Map(passes.flatMap(({ position, layers }) => {
        assertEquals(layers[i]!.at, layer.at);
        return [...keptWeights(layer, layers[i]!, position)];
      }));
      const wanted = keptWeights(layer, expected.get(layer.layer)!);
      assertEquals([...found.keys()].sort(), [...wanted.keys()].sort());
      for (const [key, weight] of wanted) assertAlmostEquals(found.get(key)!, weight, 1e-4);
    }
  });
}
