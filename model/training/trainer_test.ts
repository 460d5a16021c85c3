import { assert, assertEquals, assertNotEquals, assertRejects, assertThrows } from "@std/assert";
import type { StateKind } from "../checkpoint/checkpoint.ts";
import { WEBGPU_DEFAULTS } from "../gpu/capabilities.ts";
import type { Gpu } from "../gpu/device.ts";
import { compilesSlowly, openTestGpu } from "../gpu/testing.ts";
import { BEAM, DENSE, PEER } from "../testing.ts";
import { parameterSpecs } from "../trunk/parameters.ts";
import {
  assertSameBits,
  assertTrainsLikeReference,
  batchesOf,
  MHA,
  readAll,
  referenceOf,
  tinyModel,
  type TinyOptions,
  tinyTrain,
  tokenSource,
  TOPK_MOE,
  withTrainer,
} from "./trainer_testing.ts";
import { Trainer } from "./trainer.ts";

/** Every number after training to the end. */
const trained = (gpu: Gpu, options: TinyOptions) =>
  withTrainer(gpu, options, async (trainer) => {
    while (trainer.step < trainer.steps) trainer.update(batchesOf(trainer, trainer.step));
    return await readAll(trainer);
  });

const MODELS: readonly [string, TinyOptions][] = [
  ["static experts with a load-balance term", {
    model: { ffn: { execution: "materialized", load_balance_coef: 0.1 } },
  }],
  ["context-aware experts, fused", { model: { ffn: { execution: "fused", d_context: 4 } } }],
  ["naive experts without batch norm, balanced", {
    model: { ffn: { execution: "naive", router_batch_norm: false, load_balance_coef: 0.1 } },
  }],
  ["experts behind beams", { model: { ffn: BEAM } }],
  ["context-aware experts behind beams, two micro-batches an update", {
    model: { ffn: { ...BEAM, d_context: 4 } },
    train: { gradient_accumulation: 2 },
  }],
  ["naive experts behind beams, of one axis", {
    model: { ffn: { ...BEAM, axes: 1, d_context: 4, execution: "naive" } },
  }],
  ["a dense model", { model: DENSE }],
  ["stored experts with a load-balance term", {
    model: { ffn: { ...PEER, execution: "fused", load_balance_coef: 0.1 } },
    // With the usual seed two experts come within 1e-6 of each other after an update.
    seed: 6,
  }],
  ["experts by mass with a load-balance term", {
    model: { ffn: { choice: "mass", mass: 0.6, load_balance_coef: 0.1 } },
  }],
  ["stored experts above a threshold, recomputed", {
    model: { ffn: { ...PEER, choice: "threshold", threshold: 0.35 } },
    train: { recompute: "experts" },
  }],
  ["stored experts without batch norm, two micro-batches an update", {
    model: { ffn: { ...PEER, execution: "naive", router_batch_norm: false } },
    train: { gradient_accumulation: 2 },
  }],
  ["switch", { model: { ffn: { kind: "switch", num_experts: 5, d_expert: 12 } } }],
  ["switch, two micro-batches an update", {
    model: { ffn: { kind: "switch", num_experts: 4, d_expert: 12, load_balance_coef: 0.1 } },
    train: { gradient_accumulation: 2 },
  }],
  ["topk_moe", { model: { ffn: TOPK_MOE } }],
  ["topk_moe, balanced, exact gelu, without biases, two micro-batches an update", {
    model: {
      ffn: { ...TOPK_MOE, num_experts: 8, biases: false, gelu: "exact", load_balance_coef: 0.1 },
    },
    train: { gradient_accumulation: 2 },
  }],
  ["topk_moe with as many experts as their probabilities take", {
    model: {
      ffn: { ...TOPK_MOE, top_k: 3, choice: "top_p", top_p: 0.5, load_balance_coef: 0.1 },
    },
  }],
  ["topk_moe with dropout inside experts, three micro-batches an update", {
    model: { ffn: { ...TOPK_MOE, gelu: "exact", expert_dropout: 0.3 } },
    train: { gradient_accumulation: 3 },
  }],
  ["dense with gelu", { model: { ...DENSE, ffn: { ...DENSE.ffn, activation: "gelu" } } }],
  ["dense with exact gelu, two micro-batches an update", {
    model: {
      ...DENSE,
      ffn: { ...DENSE.ffn, activation: "gelu_exact", weight_init: "fan_in" },
    },
    train: { gradient_accumulation: 2 },
  }],
  ["multi-head attention", { model: { ...DENSE, ...MHA, trunk: { norm: "layer" } } }],
  ["every parameter decays, with another second moment", {
    model: { ...DENSE, ...MHA, trunk: { norm: "layer" } },
    train: { decay: "all", beta2: 0.95, weight_decay: 5 },
  }],
  ["heads without biases that share keys, values and a turn", {
    model: {
      ...DENSE,
      attention: { ...MHA.attention, num_kv_heads: 2, d_rope: 6, bias: false },
    },
  }],
  ["dropout in three micro-batches an update", {
    model: {
      ...DENSE,
      attention: { ...MHA.attention, num_kv_heads: 2, d_rope: 6, dropout: 0.2 },
      trunk: { positions: "learned", max_positions: 13, dropout: 0.3 },
    },
    train: { gradient_accumulation: 3 },
  }],
  ["two micro-batches an update", {
    model: { ffn: { load_balance_coef: 0.1 } },
    train: { gradient_accumulation: 2 },
  }],
  ["single documents, padded", {
    model: { ffn: { load_balance_coef: 0.1 } },
    train: { documents: "single", gradient_accumulation: 2 },
  }],
];

for (const [name, options] of MODELS) {
  Deno.test(`Trainer trains like the reference: ${name}`, async () => {
    await withTrainer(await openTestGpu(), options, assertTrainsLikeReference);
  });
}

Deno.test("Trainer trains like the reference on lesser devices", async (t) => {
  await t.step({
    name: "WebGPU's default limits and features",
    ignore: compilesSlowly(),
    async fn() {
      await withTrainer(
        await openTestGpu(WEBGPU_DEFAULTS),
        { model: { ffn: { d_context: 4 } } },
        assertTrainsLikeReference,
      );
    },
  });
  await t.step("codes of experts behind beams in parts", async () => {
    const gpu = await openTestGpu({ max_binding_bytes: 8192 });
    await withTrainer(
      gpu,
      { model: { ffn: { ...BEAM, d_latent: 20 } } },
      assertTrainsLikeReference,
    );
  });

  await t.step("experts in parts", async () => {
    // The higher tiles of other devices pad rows beyond a binding that cuts the experts.
    const gpu = await openTestGpu({ max_binding_bytes: 12288, software: true });
    for (const ffn of [{ kind: "switch" }, { kind: "topk_moe", top_k: 1 }]) {
      const model = { ffn: { ...ffn, num_experts: 16, d_expert: 12 } };
      await withTrainer(gpu, { model }, async (trainer) => {
        const [name] = parameterSpecs(trainer.architecture).filter(({ shape }) =>
          shape.length === 3
        );
        assertEquals(trainer.weights.value(name!.name).parts.map(({ shape }) => shape[0]), [12, 4]);
        await assertTrainsLikeReference(trainer);
      });
    }
  });
  await t.step("tables in parts, logits in chunks", async () => {
    const gpu = await openTestGpu({ max_binding_bytes: 8192 });
    // 102 rows of the embedding would fit a binding: a table's parts are multiples of four.
    const model = { vocab_size: 262, ffn: { num_experts: 289, d_latent: 12 } };
    await withTrainer(gpu, { model }, async (trainer) => {
      assert(trainer.weights.value("embed.weight").parts.length > 2);
      assert(trainer.weights.value("layers.1.ffn.z").parts.length > 1);
      await assertTrainsLikeReference(trainer);
    });
    const stored = { ...model, ffn: { ...PEER, num_experts: 289 } };
    await withTrainer(gpu, { model: stored, seed: 6 }, async (trainer) => {
      assert(trainer.weights.value("layers.1.ffn.u").parts.length > 2);
      assert(trainer.weights.groups[0]!.chunks.length > 6);
      await assertTrainsLikeReference(trainer);
    });
  });
});

Deno.test("Trainer gives the same bits in every run, with memory that is not shared, and recomputing", async () => {
  const gpu = await openTestGpu();
  const experts = { ffn: { load_balance_coef: 0.1, d_context: 4 } };
  const options = { model: experts };
  const first = await trained(gpu, options);
  for (const model of [experts, { ffn: { ...PEER, load_balance_coef: 0.1 } }]) {
    const options = { model };
    const once = model === experts ? first : await trained(gpu, options);
    assertSameBits(await trained(gpu, options), once);
    assertSameBits(await trained(gpu, { ...options, isolate: true }), once);
    for (const recompute of ["experts", "full"]) {
      assertSameBits(await trained(gpu, { ...options, train: { recompute } }), once);
    }
  }
  const beams = { model: { ffn: { ...BEAM, d_context: 4 } } };
  const ofBeams = await trained(gpu, beams);
  assertSameBits(await trained(gpu, { ...beams, isolate: true }), ofBeams);
  for (const recompute of ["experts", "full"]) {
    assertSameBits(await trained(gpu, { ...beams, train: { recompute } }), ofBeams);
  }
  for (const ffn of [{ kind: "switch", num_experts: 5, d_expert: 12 }, TOPK_MOE]) {
    const kept = await trained(gpu, { model: { ffn } });
    for (const more of [{}, { isolate: true }, { train: { recompute: "full" } }]) {
      assertSameBits(await trained(gpu, { model: { ffn }, ...more }), kept);
    }
  }
  const other = await trained(gpu, { ...options, seed: 6 });
  assertNotEquals(other.get("value.embed.weight"), first.get("value.embed.weight"));
});

Deno.test("Dropout gives the same bits in every run, recomputing and after a resume", async () => {
  const gpu = await openTestGpu();
  const options = {
    model: {
      attention: { ...MHA.attention, dropout: 0.2 },
      ffn: { ...TOPK_MOE, expert_dropout: 0.25 },
      trunk: { dropout: 0.1 },
    },
    train: { steps: 4, gradient_accumulation: 2 },
  };
  const first = await trained(gpu, options);
  assertSameBits(await trained(gpu, options), first);
  assertSameBits(await trained(gpu, { ...options, isolate: true }), first);
  const full = { ...options, train: { ...options.train, recompute: "full" } };
  assertSameBits(await trained(gpu, full), first);
  // Half of the updates, and the others in another trainer.
  const half = await withTrainer(gpu, options, async (trainer) => {
    for (const step of [0, 1]) trainer.update(batchesOf(trainer, step));
    return { state: await readAll(trainer), control: await trainer.readControl() };
  });
  await withTrainer(gpu, options, async (trainer) => {
    for (const [key, values] of half.state) {
      const dot = key.indexOf(".");
      trainer.writeState(key.slice(0, dot) as StateKind, key.slice(dot + 1), values);
    }
    await trainer.resume(2, half.control);
    for (const step of [2, 3]) trainer.update(batchesOf(trainer, step));
    assertSameBits(await readAll(trainer), first);
  });
  // Evaluation drops nothing: it depends on the weights alone.
  await withTrainer(gpu, options, async (trainer) => {
    const [batch] = batchesOf(trainer, 0);
    const losses = await trainer.losses(batch!);
    trainer.update(batchesOf(trainer, 0).map(() => batch!));
    const [record] = await trainer.records();
    const mean = losses.reduce((a, b) => a + b, 0) / losses.length;
    assert(Math.abs(record!.loss - mean) > 1e-4, "training drops");
    const reference = (await referenceOf(trainer)).evaluate({ ...batch!, length: 13 });
    const after = await trainer.losses(batch!);
    const evaluated = after.reduce((a, b) => a + b, 0) / after.length;
    assert(Math.abs(evaluated / reference.crossEntropy - 1) < 1e-4);
  });
});

Deno.test("Two micro-batches are not one batch of their size", async () => {
  const gpu = await openTestGpu();
  const halves = await withTrainer(
    gpu,
    { train: { gradient_accumulation: 2 } },
    async (trainer) => {
      const batches = batchesOf(trainer, 0);
      trainer.update(batches);
      return { batches, gradient: await trainer.readGradient("layers.0.attn.w_o") };
    },
  );
  const [a, b] = halves.batches;
  await withTrainer(gpu, { train: { micro_batch: 4 } }, async (trainer) => {
    trainer.update([{
      tokens: Uint32Array.from([...a!.tokens, ...b!.tokens]),
      targets: Uint32Array.from([...a!.targets, ...b!.targets]),
    }]);
    // Batch norm sees other tokens, so this is more than rounding.
    assertNotEquals(await trainer.readGradient("layers.0.attn.w_o"), halves.gradient);
  });
});

Deno.test("Trainer skips updates that are not finite, and says so", async () => {
  const gpu = await openTestGpu();
  const options = { train: { precision: "mixed", steps: 8, loss_scale: { initial: 512 } } };
  await withTrainer(gpu, options, async (trainer) => {
    // Ahead of everything, so that all activations are not numbers.
    const name = "layers.0.attn_norm.weight";
    const good = await trainer.readState("value", name);
    trainer.writeState("value", name, good.with(3, NaN));
    const before = await readAll(trainer);
    for (const step of [0, 1]) trainer.update(batchesOf(trainer, step));
    // Running statistics too: NaN in them would be there for good.
    assertSameBits(await readAll(trainer), before);
    trainer.writeState("value", name, good);
    trainer.update(batchesOf(trainer, 2));
    const records = await trainer.records();
    assertEquals(records.map(({ applied }) => applied), [false, false, true]);
    assertEquals(records.map(({ loss_scale }) => loss_scale), [512, 256, 128]);
    assertEquals(records.map(({ skipped }) => skipped), [1, 2, 2]);
    assertEquals(records.map(({ skipped_in_row }) => skipped_in_row), [1, 2, 0]);
  });
});

Deno.test("Trainer starts from weights that depend on the seed and the names alone", async () => {
  const gpu = await openTestGpu();
  const start = (options: TinyOptions) => withTrainer(gpu, options, readAll);
  const f32 = await start({});
  const mixed = await start({ train: { precision: "mixed", micro_batch: 1 } });
  assertSameBits(mixed, f32);
  assertEquals(f32.get("value.final_norm.weight"), new Float32Array(20).fill(1));
  assertEquals(f32.get("value.layers.1.ffn.router.bn.var"), new Float32Array(32).fill(1));
  assert(f32.get("m.embed.weight")!.every((m) => m === 0));
});

Deno.test("Trainer accounts for its memory", async () => {
  const gpu = await openTestGpu();
  const memory = (options: TinyOptions) => withTrainer(gpu, options, ({ memory }) => memory);
  const shared = await memory({});
  const isolated = await memory({ isolate: true });
  const mixed = await memory({ train: { precision: "mixed" } });
  const bytes = (lines: typeof shared, owner: string) =>
    lines.lines.find((line) => line.owner === owner)?.bytes ?? 0;
  assertEquals(shared.total, shared.lines.reduce((n, line) => n + line.bytes, 0));
  assertEquals(bytes(shared, "moments"), 2 * bytes(shared, "weights"));
  assertEquals(bytes(mixed, "f16 weights"), bytes(mixed, "weights") / 2);
  assert(bytes(shared, "activations") < bytes(isolated, "activations") / 2);
});

Deno.test("Trainer.bytesOf() knows the memory before it is allocated", async () => {
  const gpu = await openTestGpu();
  const options = (train: Record<string, unknown>) => ({
    architecture: tinyModel(MHA),
    train: tinyTrain(train),
    seed: 1,
  });
  for (const train of [{}, { precision: "mixed", recompute: "full", gradient_accumulation: 2 }]) {
    const needed = Trainer.bytesOf(gpu, options(train));
    assertEquals(
      needed,
      await withTrainer(gpu, { model: MHA, train }, ({ memory }) => memory.total),
    );
  }
  const small = { max_binding_bytes: 1 << 12, max_buffer_bytes: 1 << 12 };
  const lesser = { ...gpu, capabilities: { ...gpu.capabilities, ...small } };
  assertThrows(
    () => Trainer.bytesOf(lesser, options({})),
    RangeError,
    "elements; a chunk of memory can have 1024",
  );
});

Deno.test("Trainer names what it is given wrongly", async () => {
  await withTrainer(await openTestGpu(), {}, async (trainer) => {
    assertThrows(() => trainer.update([]), RangeError, "takes 1 micro-batches, got 0");
    const [batch] = batchesOf(trainer, 0);
    assertThrows(
      () => trainer.update([{ ...batch!, tokens: new Uint32Array(5) }]),
      RangeError,
      "tokens has 26 elements",
    );
    await assertRejects(
      () => trainer.evaluate(tokenSource(1, 61)),
      RangeError,
      "no token to predict",
    );
    assertThrows(() => trainer.weights.value("nothing"), RangeError, "no value named nothing");
    assertThrows(() => trainer.plan("next"), RangeError, "no plan next");
  });
  assertEquals(tinyTrain().steps, 3);
});
