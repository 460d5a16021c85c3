import { assert, assertAlmostEquals, assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { bitsPerByte, Evaluator } from "./evaluator.ts";
import { openTestGpu } from "../gpu/testing.ts";
import type { Architecture } from "../trunk/architecture.ts";
import { openInferenceModel } from "./open.ts";
import { noisyTensors, smallModel, writeModelFile } from "./inference_testing.ts";
import { ReferenceModel } from "../reference/model.ts";
import { writeSafetensors } from "../checkpoint/safetensors.ts";
import { expertGini, usageStatistics } from "./usage_statistics.ts";

const VOCABULARY = 50;
const TEXT = Uint32Array.from({ length: 60 }, (_, i) => (i * i * 5 + i + 11) % VOCABULARY);
const BATCH = 2;
const LENGTH = 8;
const SOURCE = {
  length: TEXT.length,
  read: (at: number, count: number) => TEXT.subarray(at, at + count),
};

const architecture = smallModel(VOCABULARY);
/** Of a layer of the small model. */
const EXPERTS = 49;
const tensors = noisyTensors(architecture, 5);

/** Losses of the reference, sequence by sequence, of the first predictions, and how often each of a layer's `counted` experts was kept. */
function expected(
  predictions: number,
  model: { architecture: Architecture; tensors: Map<string, Float64Array>; counted: number } = {
    architecture,
    tensors,
    counted: EXPERTS,
  },
): { nats: number; counts: Map<number, Uint32Array> } {
  const reference = new ReferenceModel(model.architecture, model.tensors);
  const counts = new Map([1, 2].map((layer) => [layer, new Uint32Array(model.counted)]));
  let total = 0;
  for (let at = 0; at < predictions; at += LENGTH) {
    const length = Math.min(LENGTH, predictions - at);
    const tokens = TEXT.subarray(at, at + length);
    const result = reference.evaluate({
      tokens,
      targets: TEXT.subarray(at + 1, at + 1 + length),
      length,
    });
    total += result.crossEntropy * length;
    for (const [layer, { used }] of result.routings) {
      for (const expert of used) counts.get(layer)![expert]!++;
    }
  }
  return { nats: total / predictions, counts };
}

Deno.test("Evaluator agrees with the float64 reference, from a split and from a stream", async (t) => {
  const folder = await Deno.makeTempDir();
  const path = join(folder, "model.safetensors");
  await writeModelFile(path, architecture, tensors);
  const gpu = await openTestGpu();
  using model = await openInferenceModel(gpu, path);
  const { weights } = model;
  using evaluator = await Evaluator.open(gpu, {
    architecture,
    weights,
    batch: BATCH,
    length: LENGTH,
  });
  const byteLength = (token: number) => token % 3;

  for (const tokens of [undefined, 1, 16, 37, 1000]) {
    await t.step(`${tokens ?? "all"} predictions`, async () => {
      const progress: number[] = [];
      const onProgress = (done: number) => void progress.push(done);
      const limit = tokens === undefined ? {} : { tokens };
      const options = { ...limit, byteLength, onProgress };
      const result = await evaluator.evaluate(SOURCE, options);
      const predictions = Math.min(tokens ?? Infinity, TEXT.length - 1);
      const { nats, counts } = expected(predictions);
      assertEquals(result.tokens, predictions);
      assertAlmostEquals(result.nats, nats, 1e-5);
      assertEquals(result.perplexity, Math.exp(result.nats));
      const bytes = TEXT.subarray(1, 1 + predictions).reduce((n, token) => n + token % 3, 0);
      assertEquals(result.bytes, bytes);
      if (bytes > 0) {
        assertAlmostEquals(bitsPerByte(result)!, nats * predictions / bytes / Math.LN2, 1e-4);
      }
      assertEquals(new Map(result.usage.map((u) => [u.layer, u.counts])), counts);
      assertEquals(progress.at(-1), predictions);
      const { expert_usage } = usageStatistics(result.usage);
      assert(expert_usage! > 0 && expert_usage! <= 1);

      const blocks = [TEXT.subarray(0, 1), TEXT.subarray(1, 30), new Uint32Array(), TEXT.slice(30)];
      assertEquals(await evaluator.evaluateStream(blocks, options), result);
    });
  }

  await t.step("whole sequences alone, each by itself", async () => {
    const reference = new ReferenceModel(architecture, tensors);
    // A text that ends within a sequence, at the end of one, and at the end of a batch.
    for (const tokens of [TEXT.length, 56, 48, 17, 8]) {
      const windows = Math.floor(tokens / LENGTH);
      let [total, bytes] = [0, 0];
      for (let at = 0; at < windows * LENGTH; at += LENGTH) {
        const targets = TEXT.subarray(at + 1, at + LENGTH);
        const input = TEXT.subarray(at, at + LENGTH - 1);
        total += reference.evaluate({ tokens: input, targets, length: LENGTH - 1 }).crossEntropy;
        for (const target of targets) bytes += byteLength(target);
      }
      const blocks = [TEXT.subarray(0, tokens)];
      const own: number[] = [];
      const onSequence = (nats: number) => void own.push(nats);
      const options = { windows: true, byteLength, onSequence };
      const result = await evaluator.evaluateStream(blocks, options);
      assertEquals([result.tokens, result.bytes], [windows * (LENGTH - 1), bytes]);
      assertAlmostEquals(result.nats, total / windows, 1e-5);
      assertEquals(own.length, windows);
      assertAlmostEquals(own.reduce((sum, nats) => sum + nats) / windows, result.nats, 1e-9);
    }
    await assertRejects(
      () => evaluator.evaluateStream([TEXT.subarray(0, 7)], { windows: true }),
      RangeError,
      "The text has no token to predict",
    );
  });

  await t.step("nothing to predict, and an abort", async () => {
    await assertRejects(
      () => evaluator.evaluate({ length: 1, read: SOURCE.read }),
      RangeError,
      "The split has no token to predict",
    );
    await assertRejects(
      () => evaluator.evaluateStream([TEXT.subarray(0, 1)]),
      RangeError,
      "The text has no token to predict",
    );
    await assertRejects(
      () => evaluator.evaluate(SOURCE, { signal: AbortSignal.abort() }),
      DOMException,
    );
  });
  await Deno.remove(folder, { recursive: true });
});

Deno.test("Evaluator counts how often each id of each axis is used behind beams", async () => {
  const folder = await Deno.makeTempDir();
  const path = join(folder, "model.safetensors");
  const sizes = { axes: 3, axis_query: 8, axis_size: 7, axis_candidates: 5, beam_width: 6 };
  const architecture = smallModel(VOCABULARY, {
    ffn: {
      kind: "ethos",
      router: "beam",
      routing_heads: 2,
      top_k: 3,
      ...sizes,
      d_latent: 8,
      d_hidden: 12,
    },
  });
  const tensors = noisyTensors(architecture, 6);
  await writeModelFile(path, architecture, tensors);
  using model = await openInferenceModel(await openTestGpu(), path);
  const { weights } = model;
  using evaluator = await Evaluator.open(model.gpu, {
    architecture,
    weights,
    batch: BATCH,
    length: LENGTH,
  });
  const { nats, usage } = await evaluator.evaluate(SOURCE);
  const wanted = expected(TEXT.length - 1, { architecture, tensors, counted: 3 * 7 });
  assertAlmostEquals(nats, wanted.nats, 1e-5);
  assertEquals(new Map(usage.map(({ layer, counts }) => [layer, counts])), wanted.counts);
  // Each kept expert has an id on each axis.
  const [{ counts }] = usage as [typeof usage[number]];
  for (const axis of [0, 1, 2]) {
    const uses = counts.subarray(7 * axis, 7 * axis + 7).reduce((a, b) => a + b, 0);
    assertEquals(uses, (TEXT.length - 1) * 2 * 3);
  }
  await Deno.remove(folder, { recursive: true });
});

Deno.test("openInferenceModel() names what is wrong with a file", async () => {
  const folder = await Deno.makeTempDir();
  const gpu = await openTestGpu();
  const path = join(folder, "model.safetensors");
  try {
    await assertRejects(() => openInferenceModel(gpu, path), Deno.errors.NotFound);
    await writeModelFile(path, architecture, tensors);
    const whole = await Deno.readFile(path);
    await Deno.writeFile(path, whole.subarray(0, whole.length - 4));
    await assertRejects(() => openInferenceModel(gpu, path), Error, path);
    await writeSafetensors(path, [], { metadata: { config: JSON.stringify(architecture.config) } });
    await assertRejects(
      () => openInferenceModel(gpu, path),
      Error,
      `${path} has no tensor embed.weight`,
    );
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("The Gini coefficient is 0 for even use, and 1 − 1/N for one expert", () => {
  assertEquals(expertGini(Uint32Array.of(7, 7, 7)), 0);
  assertEquals(expertGini(Uint32Array.of(0, 0, 5, 0)), 0.75);
  assertEquals(expertGini(new Uint32Array(4)), 0);
  // Half of the mean absolute difference over the mean: pairs of 1, 2, 3 differ by 8/9 on average.
  assertAlmostEquals(expertGini(Uint32Array.of(3, 1, 2)), 2 / 9, 1e-12);
});
