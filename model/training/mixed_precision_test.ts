import { assert, assertEquals } from "@std/assert";
import type { Gpu } from "../gpu/device.ts";
import { openTestGpu } from "../gpu/testing.ts";
import { BEAM, DENSE, type ModelChanges, PEER } from "../testing.ts";
import { parameterSpecs } from "../trunk/parameters.ts";
import {
  batchesOf,
  MHA,
  readGradients,
  referenceOf,
  TOPK_MOE,
  withTrainer,
} from "./trainer_testing.ts";

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
