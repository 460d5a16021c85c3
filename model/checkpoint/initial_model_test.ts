import {
  assert,
  assertAlmostEquals,
  assertEquals,
  assertNotEquals,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { join } from "@std/path";
import { openTestGpu } from "../gpu/testing.ts";
import { noisyTensors, writeModelFile } from "../inference/inference_testing.ts";
import { relativeError } from "../ops/testing.ts";
import { ReferenceModel } from "../reference/model.ts";
import { BEAM, DENSE, type ModelChanges, PEER } from "../testing.ts";
import type { Trainer } from "../training/trainer.ts";
import {
  assertSameBits,
  batchesOf,
  makeTrainer,
  readAll,
  referenceOf,
  tinyModel,
  type TinyOptions,
  withTrainer,
} from "../training/trainer_testing.ts";
import { saveModel } from "./checkpoint.ts";
import { withFolder } from "./folder_testing.ts";
import {
  assertStartsFrom,
  describeStart,
  loadInitialModel,
  openInitialModel,
} from "./initial_model.ts";

const UPCYCLE = { lengthen: false, upcycle: { noise: 0 } };

const model = (max_positions: number, more = {}): ModelChanges => ({
  ...DENSE,
  attention: { kind: "mha", num_heads: 4, d_head: 12 },
  trunk: { positions: "learned", max_positions, ...more },
});

/** A model of 13 positions after two updates, in a file, and trainers that are freed afterwards. */
async function scene(
  work: (
    trained: Trainer,
    path: string,
    make: (options: TinyOptions) => Promise<Trainer>,
  ) => Promise<void>,
): Promise<void> {
  const gpu = await openTestGpu();
  const folder = await Deno.makeTempDir();
  const trainers: Trainer[] = [];
  const make = async (options: TinyOptions) => {
    const trainer = await makeTrainer(gpu, options);
    trainers.push(trainer);
    return trainer;
  };
  try {
    const trained = await make({ model: model(13) });
    for (const step of [0, 1]) trained.update(batchesOf(trained, step));
    const path = join(folder, "model.safetensors");
    await saveModel(path, trained);
    await work(trained, path, make);
  } finally {
    for (const trainer of trainers) trainer.destroy();
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("a lengthened model has the file's rows first, and new ones as its seed gives them", async () => {
  await scene(async (trained, path, make) => {
    const options = { model: model(21), seed: 9, train: { precision: "mixed" } } as const;
    const longer = await make(options);
    const untrained = await readAll(longer);
    await loadInitialModel(await openInitialModel(path), longer, { lengthen: true });
    const [before, after] = [await readAll(trained), await readAll(longer)];
    const name = "value.position.weight";
    const table = after.get(name)!;
    const kept = before.get(name)!.length;
    assertEquals(table.length, kept / 13 * 21);
    assertEquals(table.subarray(0, kept), before.get(name));
    assertEquals(table.subarray(kept), untrained.get(name)!.subarray(kept));
    const rows = table.subarray(kept);
    const deviation = Math.sqrt(rows.reduce((n, x) => n + x * x, 0) / rows.length);
    assert(Math.abs(deviation / 0.02 - 1) < 0.2, `${deviation}`);
    for (const [key, values] of after) {
      if (key.startsWith("value.") && key !== name) assertEquals(values, before.get(key), key);
      if (!key.startsWith("value.")) assert(values.every((x) => x === 0), key);
    }
    assertEquals(longer.step, 0);
    // The halves that products read are those of the loaded weights, and training goes on from there alike each time.
    const [batch] = batchesOf(longer, 0);
    longer.update([batch!]);
    const again = await make(options);
    await loadInitialModel(await openInitialModel(path), again, { lengthen: true });
    again.update([batch!]);
    assertSameBits(await readAll(again), await readAll(longer));
  });
});

Deno.test("a model of as many positions starts as it was, whatever the seed", async () => {
  await scene(async (trained, path, make) => {
    const other = await make({ model: model(13), seed: 77 });
    const [batch] = batchesOf(other, 0);
    assertNotEquals(await other.losses(batch!), await trained.losses(batch!));
    await loadInitialModel(await openInitialModel(path), other, { lengthen: false });
    assertEquals(await other.losses(batch!), await trained.losses(batch!));
  });
});

Deno.test("a file that does not fit is refused, and says why", async () => {
  await scene(async (_, path, make) => {
    const refused = async (changes: ModelChanges, lengthen: boolean, message: string) => {
      const trainer = await make({ model: changes });
      await assertRejects(
        async () => loadInitialModel(await openInitialModel(path), trainer, { lengthen }),
        Error,
        message,
      );
    };
    await refused(model(21), false, "13 positions, the model 21; expected as many, or lengthen");
    await refused(model(13), true, "13 positions already, as the model");
    await refused(model(21, { norm: "layer" }), true, "trunk.norm is rms, expected layer");
    await refused({ ...model(21), trunk: {} }, true, "no learned positions");
    await refused({ ...model(21), trunk: {} }, false, "trunk.positions is learned, expected none");
    const shorter = { ...model(21), trunk: { positions: "learned", max_positions: 13 } };
    const trainer = await make({ model: model(14) });
    await saveModel(path, trainer);
    await refused(shorter, true, "has 14 positions, the model 13; expected at least as many");
  });
});

const TOPK = {
  kind: "topk_moe",
  num_experts: 5,
  top_k: 2,
  d_expert: 36,
  gelu: "exact",
  biases: true,
} as const;
const GELU = { kind: "dense", d_ffn: 36, activation: "gelu_exact", biases: true } as const;
const ATTENTION = { kind: "mha", num_heads: 4, d_head: 12 } as const;
const upcyclable = (ffn: Record<string, unknown>): ModelChanges => ({
  leading_dense: { num_layers: 0 },
  attention: ATTENTION,
  ffn,
});

/** A dense model of noisy weights in a file. */
async function denseFile(folder: string, ffn: Record<string, unknown> = GELU) {
  const architecture = tinyModel(upcyclable(ffn));
  const path = join(folder, "dense.safetensors");
  const tensors = noisyTensors(architecture, 3);
  await writeModelFile(path, architecture, tensors);
  return { path, architecture, tensors };
}

Deno.test("equal copies of a dense layer behind a top-k gate give the dense model's logits", async () => {
  await withFolder(async (folder) => {
    const gpu = await openTestGpu();
    const { path, architecture, tensors } = await denseFile(folder);
    for (const choice of [{ choice: "top_k" }, { choice: "top_p", top_p: 0.6 }]) {
      await withTrainer(gpu, { model: upcyclable({ ...TOPK, ...choice }) }, async (trainer) => {
        const source = await openInitialModel(path);
        const plan = await loadInitialModel(source, trainer, UPCYCLE);
        assertEquals(plan.initial.map(({ name }) => name), [
          "layers.0.ffn.w_g",
          "layers.1.ffn.w_g",
        ]);
        assertEquals(plan.unused, []);
        const [batch] = batchesOf(trainer, 0);
        const reference = new ReferenceModel(architecture, tensors);
        const dense = reference.evaluate({ ...batch!, length: 13 });
        const sparse = await referenceOf(trainer);
        const { logits } = sparse.evaluate({ ...batch!, length: 13 });
        assert(relativeError(logits.data, dense.logits.data) < 1e-12);
        const losses = await trainer.losses(batch!);
        const mean = losses.reduce((a, b) => a + b) / losses.length;
        assertAlmostEquals(mean, dense.crossEntropy, 1e-4);
      });
    }
  });
});

Deno.test("noise makes copies differ by so many deviations, the same for the same seed", async () => {
  await withFolder(async (folder) => {
    const gpu = await openTestGpu();
    const swiglu = { kind: "dense", d_ffn: 36 };
    const { path, tensors } = await denseFile(folder, swiglu);
    const model = upcyclable({ kind: "switch", num_experts: 4, d_expert: 36 });
    const source = await openInitialModel(path);
    const start = (seed: number, noise: number) =>
      withTrainer(gpu, { model, seed }, async (trainer) => {
        await loadInitialModel(source, trainer, { lengthen: false, upcycle: { noise } });
        return await trainer.readState("value", "layers.1.ffn.w_up");
      });
    const dense = tensors.get("layers.1.ffn.w_up")!;
    const deviation = (values: ArrayLike<number>) =>
      Math.sqrt(Array.from(values).reduce((sum, v) => sum + v * v, 0) / values.length);
    const noisy = await start(5, 0.1);
    assertEquals(noisy, await start(5, 0.1));
    assertNotEquals(noisy, await start(6, 0.1));
    const parts = Array.from(
      { length: 4 },
      (_, e) =>
        noisy.subarray(e * dense.length, (e + 1) * dense.length).map((v, i) => v - dense[i]!),
    );
    for (const part of parts) {
      assertAlmostEquals(deviation(part) / deviation(dense), 0.1, 0.01);
      assert(Math.abs(part.reduce((a, b) => a + b) / part.length) < 0.01 * deviation(dense));
    }
    assertNotEquals(parts[0], parts[1]);
    assertEquals(
      (await start(5, 0)).subarray(dense.length, 2 * dense.length),
      Float32Array.from(dense),
    );
  });
});

Deno.test("a dense model is upcycled to nothing that it does not fit", async () => {
  await withFolder(async (folder) => {
    const { path } = await denseFile(folder);
    const refused = async (ffn: Record<string, unknown>, message: string) => {
      const source = await openInitialModel(path);
      const error = await assertRejects(
        () => assertStartsFrom(source, tinyModel(upcyclable(ffn)), UPCYCLE),
        Error,
      );
      assertStringIncludes(error.message, message);
      assert(!error.message.includes("\n"));
    };
    await refused(PEER, "can't be upcycled to model.ffn.kind peer: its experts are single neurons");
    await refused(BEAM, "can't be upcycled to model.ffn.kind ethos: its experts are generated");
    await refused(GELU, "can't be upcycled to model.ffn.kind dense: it has no experts");
    await refused({ ...TOPK, gelu: "tanh" }, "activation gelu_exact in layer 0; the experts of");
    await refused({ ...TOPK, d_expert: 32 }, "d_ffn 36 in layer 0; the experts of topk_moe");
    await refused({ ...TOPK, biases: false }, "layers.0.ffn.b_up is left over: the model has none");
    await refused(
      { kind: "switch", num_experts: 4, d_expert: 36 },
      "activation gelu_exact in layer 0; the experts of switch of the model expects swiglu",
    );
  });
});

Deno.test("strict: false takes what fits, and lists what it leaves", async () => {
  await withFolder(async (folder) => {
    const gpu = await openTestGpu();
    const { path, tensors } = await denseFile(folder);
    const model = { ...upcyclable({ ...GELU, d_ffn: 40 }), num_layers: 3, vocab_size: 67 };
    const source = await openInitialModel(path);
    await withTrainer(gpu, { model }, async (trainer) => {
      const untrained = await readAll(trainer);
      await assertRejects(
        () => loadInitialModel(source, trainer, { lengthen: false }),
        Error,
        "is of another model: num_layers is 2, expected 3",
      );
      const plan = await loadInitialModel(source, trainer, { lengthen: false, strict: false });
      const initial = new Map(plan.initial.map(({ name, why }) => [name, why]));
      assertEquals(initial.get("embed.weight"), "[61, 20] in the source, [67, 20] here");
      assertEquals(initial.get("layers.0.ffn.b_up"), "[36] in the source, [40] here");
      assertEquals(initial.get("layers.2.attn.w_qkv"), "the source has none");
      assert(plan.unused.some(({ name }) => name === "embed.weight"));
      assert(plan.differences.includes("num_layers is 2, expected 3"));
      assertStringIncludes(describeStart(plan).join("\n"), "left at initial values: embed.weight");
      const taken = new Set(plan.taken.map(({ name }) => name));
      assert(taken.has("layers.1.attn.w_qkv") && taken.has("layers.0.ffn.b_down"));
      for (const [key, values] of await readAll(trainer)) {
        if (!key.startsWith("value.")) continue;
        const name = key.slice("value.".length);
        assertEquals(taken.has(name), !initial.has(name), name);
        const expected = taken.has(name)
          ? Float32Array.from(tensors.get(name)!)
          : untrained.get(key);
        assertEquals(values, expected, name);
      }
    });
    const other = tinyModel({ d_model: 24, vocab_size: 67 });
    await assertRejects(
      () => assertStartsFrom(source, other, { lengthen: false, strict: false }),
      Error,
      "has no tensor that fits the model",
    );
  });
});
