import {
  assert,
  assertAlmostEquals,
  assertEquals,
  assertNotEquals,
  assertRejects,
  assertThrows,
} from "@std/assert";
import type { ProductKeyEthosSection } from "../ffn/ethos/schema.ts";
import { BEAM, DENSE, type ModelChanges, PEER } from "../testing.ts";
import { WEBGPU_DEFAULTS } from "../gpu/capabilities.ts";
import type { Gpu } from "../gpu/device.ts";
import { openTestGpu } from "../gpu/testing.ts";
import type { Routing } from "../reference/ffn/product_key.ts";
import { parameterSpecs } from "../trunk/parameters.ts";
import {
  assertSameBits,
  assertTrainsLikeReference,
  batchesOf,
  makeTrainer,
  readAll,
  readGradients,
  referenceOf,
  type TinyOptions,
  tinyTrain,
  tokenSource,
} from "./trainer_testing.ts";
import type { StateKind } from "../checkpoint/checkpoint.ts";
import { Trainer } from "./trainer.ts";

/** Runs a test with a trainer, and frees it. */
async function withTrainer<T>(
  gpu: Gpu,
  options: TinyOptions,
  work: (trainer: Trainer) => T | Promise<T>,
): Promise<T> {
  const trainer = await makeTrainer(gpu, options);
  try {
    return await work(trainer);
  } finally {
    trainer.destroy();
  }
}

/** Every number after training to the end. */
const trained = (gpu: Gpu, options: TinyOptions) =>
  withTrainer(gpu, options, async (trainer) => {
    while (trainer.step < trainer.steps) trainer.update(batchesOf(trainer, trainer.step));
    return await readAll(trainer);
  });

const TOPK_MOE = { kind: "topk_moe", num_experts: 7, d_expert: 12, expert_init: "fan_in" };
/** Multi-head attention with heads that are not as wide as the model together. */
const MHA = { attention: { kind: "mha", num_heads: 4, d_head: 12 } };

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
  await t.step("WebGPU's default limits and features", async () => {
    await withTrainer(
      await openTestGpu(WEBGPU_DEFAULTS),
      { model: { ffn: { d_context: 4 } } },
      assertTrainsLikeReference,
    );
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

/** Gradients of the first update, by parameter. */
const firstGradients = (gpu: Gpu, model: ModelChanges, precision: "f32" | "mixed") =>
  withTrainer(gpu, {
    model,
    train: { precision, loss_scale: { initial: 1024 } },
  }, async (trainer) => {
    trainer.update(batchesOf(trainer, 0));
    const gradients = await readGradients(trainer);
    for (const { name, held } of parameterSpecs(trainer.architecture)) {
      if (held) gradients.delete(name);
    }
    const [record] = await trainer.records();
    assertEquals(record?.loss_scale, precision === "mixed" ? 1024 : 1);
    return { gradients, record: record! };
  });

Deno.test("Mixed precision keeps the direction of every gradient, f16 native and packed", async (t) => {
  const models: ModelChanges[] = [
    { ffn: { d_context: 4 } },
    { ffn: PEER },
    { ffn: BEAM },
    DENSE,
    { ...DENSE, attention: { ...MHA.attention, dropout: 0.2 } },
    { ffn: { kind: "switch", num_experts: 5, d_expert: 12 } },
    { ffn: { ...TOPK_MOE, load_balance_coef: 0.1 } },
    { ffn: { ...TOPK_MOE, expert_dropout: 0.2 } },
    { ...DENSE, ffn: { ...DENSE.ffn, activation: "gelu_exact" } },
  ];
  for (const model of models) {
    const exact = await firstGradients(await openTestGpu(), model, "f32");
    const rounded: Map<string, Float32Array>[] = [];
    for (const f16 of [true, false]) {
      await t.step(`${JSON.stringify(model)}, f16 ${f16}`, async () => {
        const gpu = await openTestGpu(f16 ? undefined : { f16 });
        const mixed = await firstGradients(gpu, model, "mixed");
        rounded.push(mixed.gradients);
        assert(Math.abs(mixed.record.loss / exact.record.loss - 1) < 1e-3);
        assert(Math.abs(mixed.record.grad_norm / exact.record.grad_norm - 1) < 1e-2);
        for (const [name, a] of exact.gradients) {
          const b = mixed.gradients.get(name)!;
          let [ab, aa, bb] = [0, 0, 0];
          a.forEach((x, i) => {
            ab += x * b[i]!;
            aa += x * x;
            bb += b[i]! * b[i]!;
          });
          const cosine = ab / Math.sqrt(aa * bb);
          assert(cosine >= 0.999, `${name}: cosine ${cosine}`);
          assert(
            Math.abs(Math.sqrt(bb / aa) / 1024 - 1) < 0.02,
            `${name} is not 1024 times as long`,
          );
        }
      });
    }
  }
});

Deno.test("Mixed precision trains on and keeps its f16 weights up to date", async () => {
  const gpu = await openTestGpu();
  const options = { train: { precision: "mixed", steps: 4, loss_scale: { initial: 256 } } };
  await withTrainer(gpu, options, async (trainer) => {
    const batch = batchesOf(trainer, 0);
    for (let step = 0; step < 4; step++) trainer.update(batch);
    const records = await trainer.records();
    assert(records.every(({ applied }) => applied));
    assert(records[3]!.loss < records[0]!.loss - 0.01, "the loss falls on one batch");
    const losses = await trainer.losses(batch[0]!);
    const mean = losses.reduce((a, b) => a + b, 0) / losses.length;
    const reference = (await referenceOf(trainer)).evaluate({ ...batch[0]!, length: 13 });
    assert(Math.abs(mean / reference.crossEntropy - 1) < 2e-3, "the operands follow the weights");
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

Deno.test("Trainer.evaluate() scores single documents, whose padding counts nowhere", async () => {
  await withTrainer(await openTestGpu(), {}, async (trainer) => {
    const end = 60;
    const lengths = [3, 20, 2, 14, 9, 13];
    const rows = lengths.map((n, i) => [...tokenSource(n - 1, end, i).read(0, n - 1), end]);
    const all = Uint32Array.from([end, ...rows.flat(), end]);
    const source = { length: all.length, read: (at: number, n: number) => all.slice(at, at + n) };
    const reference = await referenceOf(trainer);
    const { num_experts } = trainer.config.ffn as ProductKeyEthosSection;
    for (const most of [Infinity, 25, 1]) {
      const counts = new Uint32Array(num_experts);
      let [nats, tokens, bytes] = [0, 0, 0];
      for (const document of rows) {
        const count = Math.min(13, document.length - 1, most - tokens);
        if (count === 0) break;
        const row = Uint32Array.from(document);
        const { crossEntropy, routings } = reference.evaluate({
          tokens: row.slice(0, count),
          targets: row.slice(1, count + 1),
          length: count,
        });
        nats += crossEntropy * count;
        tokens += count;
        bytes += row.slice(1, count + 1).filter((token) => token !== end).length;
        for (const expert of (routings.get(1) as Routing).index) counts[expert]! += 1;
      }
      const result = await trainer.evaluate(source, {
        documents: { endoftext: end },
        byteLength: (token) => token === end ? 0 : 1,
        ...most < Infinity && { tokens: most },
      });
      assertEquals([result.tokens, result.bytes], [tokens, bytes]);
      assert(Math.abs(result.total_nats / nats - 1) < 1e-5, `${result.total_nats}, not ${nats}`);
      assertEquals(result.usage[0]!.counts, counts);
    }
  });
});

Deno.test("Trainer.evaluate() measures what the reference does, whatever the batch leaves over", async () => {
  await withTrainer(await openTestGpu(), {}, async (trainer) => {
    const source = tokenSource(60, trainer.config.vocab_size, 9);
    const result = await trainer.evaluate(source);
    assertEquals(result.tokens, 59);
    const reference = await referenceOf(trainer);
    let nats = 0;
    const ethos = trainer.config.ffn as ProductKeyEthosSection;
    const counts = new Uint32Array(ethos.num_experts);
    const norms: number[] = [];
    // Sequences of 13, then the 7 predictions that are left: the rows after them do not matter.
    for (let at = 0; at < 59; at += 13) {
      const count = Math.min(13, 59 - at);
      const row = source.read(at, count + 1);
      const losses = reference.evaluate({
        tokens: row.slice(0, count),
        targets: row.slice(1),
        length: count,
      });
      nats += losses.crossEntropy * count;
      const { index, query } = losses.routings.get(1) as Routing;
      for (const expert of index) counts[expert]! += 1;
      // Of the first batch, two sequences.
      const width = ethos.d_query;
      for (let i = 0; at < 26 && i < query.data.length; i += width) {
        norms.push(Math.hypot(...query.data.subarray(i, i + width)));
      }
    }
    assert(Math.abs(result.total_nats / nats - 1) < 1e-5);
    assert(Math.abs(result.perplexity! - Math.exp(nats / 59)) < 1e-2);
    assertEquals(result.usage.map(({ layer }) => layer), [1]);
    const [usage] = result.usage;
    assertEquals(usage!.counts, counts);
    const mean = norms.reduce((a, b) => a + b) / norms.length;
    const variance = norms.reduce((sum, n) => sum + (n - mean) ** 2, 0) / norms.length;
    assert(Math.abs(usage!.statistics["query_norm_mean"]! / mean - 1) < 1e-5);
    assert(Math.abs(usage!.statistics["query_norm_std"]! / Math.sqrt(variance) - 1) < 1e-4);
    assertEquals(await trainer.evaluate(source), result);
    const part = await trainer.evaluate(source, { tokens: 20 });
    assertEquals(part.tokens, 20);
    assertEquals(part.usage[0]!.counts.reduce((a, b) => a + b), 20 * 2 * 3);
  });
});

Deno.test("Trainer.evaluate() tells how many experts a token keeps, and counts those alone", async () => {
  const gpu = await openTestGpu();
  const model = { ffn: { ...PEER, choice: "mass", mass: 0.38 } };
  await withTrainer(gpu, { model }, async (trainer) => {
    // Fresh sub-keys give nearly even scores, of which every head keeps as many.
    for (const key of ["k1", "k2"]) {
      const name = `layers.1.ffn.router.${key}`;
      const values = await trainer.readState("value", name);
      trainer.writeState("value", name, values.map((v) => 20 * v));
    }
    // One batch, whose numbers are reported.
    const source = tokenSource(27, trainer.config.vocab_size, 9);
    const row = source.read(0, 27);
    const batch = { tokens: row.slice(0, 26), targets: row.slice(1), length: 13 };
    const routing = (await referenceOf(trainer)).evaluate(batch).routings.get(1) as Routing;
    const kept = PEER.routing_heads * PEER.top_k;
    const numbers = Array.from(
      { length: 26 },
      (_, t) => routing.score.subarray(t * kept, (t + 1) * kept).filter((s) => s > 0).length,
    );
    const mean = numbers.reduce((a, b) => a + b) / 26;
    const variance = numbers.reduce((sum, n) => sum + (n - mean) ** 2, 0) / 26;
    const [usage] = (await trainer.evaluate(source)).usage;
    const of = (name: string) => usage!.statistics[`experts_per_token_${name}`]!;
    assertAlmostEquals(of("mean"), mean, 1e-5);
    assertAlmostEquals(of("std"), Math.sqrt(variance), 1e-5);
    assertEquals([of("min"), of("max")], [Math.min(...numbers), Math.max(...numbers)]);
    assert(of("min") < of("max"));
    assert(usage!.statistics["query_norm_mean"]! > 0);
    const counts = new Uint32Array(PEER.num_experts);
    routing.index.forEach((expert, i) => counts[expert]! += routing.score[i]! > 0 ? 1 : 0);
    assertEquals(usage!.counts, counts);
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
