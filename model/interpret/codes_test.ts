import { assert, assertAlmostEquals, assertEquals, assertRejects } from "@std/assert";
import { openTestGpu } from "../gpu/testing.ts";
import { noisyTensors, smallModel } from "../inference/inference_testing.ts";
import { InferenceModel } from "../inference/model.ts";
import { packedBatch } from "../inference/token_batch.ts";
import { experts } from "../reference/ffn/ethos/experts.ts";
import { matrix } from "../reference/matrix.ts";
import { ReferenceModel } from "../reference/model.ts";
import { under } from "../reference/layer.ts";
import { BEAM, type ModelChanges, PEER } from "../testing.ts";
import { readCodes, writeCode } from "./codes.ts";
import { assignments } from "./expert_counts.ts";
import { expertLayer, expertLayers } from "./expert_layers.ts";
import { generateExperts, interpolate } from "./interpolation.ts";
import { ExpertProbe } from "./probe.ts";

const VOCABULARY = 31;
const SIZES = { batch: 1, length: 9 };
const BATCH = packedBatch(Uint32Array.from({ length: 10 }, (_, i) => (i * 11 + 2) % VOCABULARY), 9);

async function opened(changes: ModelChanges) {
  const architecture = smallModel(VOCABULARY, changes);
  const tensors = noisyTensors(architecture, 8);
  const model = await InferenceModel.filled(await openTestGpu(), {
    architecture,
    async fill(sink) {
      for (const [name, values] of tensors) {
        await sink.writeState("value", name, Float32Array.from(values));
      }
    },
  });
  return { architecture, tensors, model };
}

const KINDS: Readonly<Record<string, readonly [ModelChanges, readonly string[]]>> = {
  ethos: [{}, ["z"]],
  peer: [{ ffn: PEER }, ["u", "v"]],
  topk_moe: [{ ffn: { kind: "topk_moe", num_experts: 6, d_expert: 12 } }, ["w1", "b1", "w2", "b2"]],
  switch: [{ ffn: { kind: "switch", num_experts: 5, d_expert: 12 } }, ["w_gate", "w_up", "w_down"]],
};

for (const [name, [changes, tables]] of Object.entries(KINDS)) {
  Deno.test(`a replaced code of ${name} gives the losses of the reference with that code`, async () => {
    const { architecture, tensors, model } = await opened(changes);
    using _ = model;
    using probe = await ExpertProbe.open(model, SIZES);
    const layer = probe.layers[0]!;
    const before = await probe.run(BATCH, { choices: true });
    const used = [...assignments(layer, before)];
    const [from, to] = [used[0]!, used.find(({ expert }) => expert !== used[0]!.expert)!]
      .map(({ expert }) => expert) as [string, string];
    const { values, width } = await readCodes(model, layer, [from, to]);
    const all = await readCodes(model, layer);
    assertEquals(all.rows, layer.experts);
    assertEquals(
      all.values.subarray(width * Number(to), width * (Number(to) + 1)),
      values.slice(width),
    );
    const changed = new Map(tensors);
    for (const table of tables) {
      const key = `${layer.at}.${table}`;
      const table_values = tensors.get(key)!.slice();
      const size = table_values.length / layer.experts;
      table_values.copyWithin(Number(from) * size, Number(to) * size, (Number(to) + 1) * size);
      changed.set(key, table_values);
    }
    await writeCode(model, layer, { expert: from, code: values.slice(width) });
    const { losses } = await probe.run(BATCH);
    const expected = new ReferenceModel(architecture, changed).evaluate({
      tokens: BATCH.tokens,
      targets: BATCH.targets,
      length: SIZES.length,
    }).crossEntropy;
    const mean = losses.reduce((a, b) => a + b, 0) / losses.length;
    assertAlmostEquals(mean, expected, 1e-4);
    assert(Math.abs(mean - before.losses.reduce((a, b) => a + b, 0) / losses.length) > 1e-5);
    await assertRejects(
      () => writeCode(model, layer, { expert: from, code: [1] }),
      RangeError,
      `has ${width} numbers, got 1`,
    );
  });
}

Deno.test("a path begins at one code, ends at the other, and leaves the model as it was", async () => {
  const { tensors, model } = await opened({});
  using _ = model;
  using probe = await ExpertProbe.open(model, { ...SIZES, logits: true });
  const layer = expertLayer(probe.layers, 2);
  const before = await probe.run(BATCH, { choices: true });
  const heaviest = [...assignments(layer, before)].reduce((a, b) => b.weight > a.weight ? b : a);
  const from = heaviest.expert;
  const to = from === "7" ? "8" : "7";
  const context = { batch: BATCH, t: heaviest.t };
  const path = await interpolate(model, probe, {
    ...{ layer, from, to, steps: 4, context, most_tokens: 3 },
  });
  assertEquals(path.points.map(({ share }) => share), [0, 0.25, 0.5, 0.75, 1]);
  const [first, last] = [path.points[0]!, path.points.at(-1)!];
  assertAlmostEquals(first.divergence, 0, 1e-9);
  assertAlmostEquals(first.loss, before.losses[heaviest.t]!, 1e-4);
  assertAlmostEquals(first.input_cosines[0], 1, 1e-12);
  assertAlmostEquals(last.output_cosines[1], 1, 1e-12);
  assert(last.divergence > 0 && path.without.divergence > 0);
  assertAlmostEquals(first.bend, 0, 1e-12);
  assert(path.points[2]!.bend > 0);
  assertEquals((await probe.run(BATCH)).losses, before.losses);
  // The generated vectors are those of the reference: y = gelu(u · x) v of an expert with the score 1.
  const { values, width } = await readCodes(model, layer, [from]);
  const [made] = await generateExperts(model, layer, [values.subarray(0, width)]);
  const x = matrix(1, 24, Float64Array.from({ length: 24 }, (_, i) => Math.sin(i)));
  const { ffn } = model.config;
  if (ffn.kind !== "ethos" || ffn.router !== "product_key") throw new Error(ffn.kind);
  const { y } = experts(ffn, under(tensors, `${layer.at}.`), {
    x,
    kept: { index: Int32Array.of(Number(from)), score: Float64Array.of(1) },
    execution: "naive",
  });
  const dot = made!.input.reduce((sum, value, i) => sum + value * x.data[i]!, 0);
  const active = dot / 2 * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (dot + 0.044715 * dot ** 3)));
  y.data.forEach((value, i) => assertAlmostEquals(value, active * made!.output[i]!, 1e-6));
});

Deno.test("codes behind beams are sums of rows, and can't be replaced", async () => {
  const { tensors, model } = await opened({ ffn: BEAM });
  using _ = model;
  const layer = expertLayers(model.architecture)[0]!;
  const { values, width } = await readCodes(model, layer, ["6.0.2"]);
  const z = tensors.get(`${layer.at}.z`)!;
  values.forEach((value, j) => {
    const sum = [6, 7, 16].reduce((sum, row) => sum + z[row * width + j]!, 0);
    assertAlmostEquals(value, sum, 1e-6);
  });
  await assertRejects(() => readCodes(model, layer), RangeError, "too many experts");
  await assertRejects(
    () => writeCode(model, layer, { expert: "6.0.2", code: values }),
    RangeError,
    "share the rows of their codes",
  );
});
