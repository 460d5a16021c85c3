/** The trunk's options, in models of each kind of feed-forward layer: training and generation against float64. */

import { assert, assertRejects } from "@std/assert";
import { buildPlans } from "../gpu/build.ts";
import { Arena } from "../gpu/memory.ts";
import { Plan } from "../gpu/plan.ts";
import { openTestGpu } from "../gpu/testing.ts";
import { download, upload } from "../gpu/transfer.ts";
import { LayerContext } from "../layer/context.ts";
import { assertNear, Inputs } from "../ops/testing.ts";
import { DENSE, type ModelChanges } from "../testing.ts";
import type { Trainer } from "../training/trainer.ts";
import {
  assertSameBits,
  assertTrainsLikeReference,
  batchesOf,
  makeTrainer,
  readAll,
  referenceOf,
  withTrainer,
} from "../training/trainer_testing.ts";
import { decoders, recordDecoding } from "./decoding.ts";

const ALL = {
  norm: "layer",
  epsilon: 1e-3,
  positions: "learned",
  max_positions: 20,
  residual: "parallel",
  head: "own",
};

const OPTIONS: readonly (readonly [name: string, trunk: Record<string, unknown>])[] = [
  ["layer norm", { norm: "layer" }],
  ["learned positions", { positions: "learned", max_positions: 20 }],
  ["a parallel residual", { residual: "parallel" }],
  ["a head of its own", { head: "own" }],
  ["every option", ALL],
];

const MODELS: readonly (readonly [name: string, changes: ModelChanges])[] = [
  ["ETHOS", { ffn: { load_balance_coef: 0.1 } }],
  ["dense", DENSE],
];

/** Logits after each token of a sequence, which is given to the trained weights in chunks of these sizes. */
async function decode(
  trainer: Trainer,
  tokens: Uint32Array,
  chunks: readonly number[],
): Promise<Float32Array[]> {
  const { gpu, architecture, weights } = trainer;
  const cached = decoders(architecture, { capacity: tokens.length, dtype: "f32" });
  const arena = new Arena(gpu, "cache", cached.flatMap(({ cache }) => cache));
  using inputs = new Inputs(gpu);
  const position = inputs.tensor("position", [1], { dtype: "u32" });
  const row = inputs.tensor("row", [1], { dtype: "u32" });
  const recorded = [...new Set(chunks)].map((length) => {
    const plan = new Plan(gpu, `decode ${length}`);
    const context = new LayerContext(plan, weights, { batch: 1, length, mode: "evaluate" });
    const chunk = inputs.tensor("tokens", [length], { dtype: "u32" });
    const input = { tokens: chunk, position, row, decoders: cached };
    return { length, plan, chunk, logits: plan.keep(recordDecoding(context, architecture, input)) };
  });
  const built = await buildPlans(gpu, recorded.map(({ plan }) => plan));
  const all: Float32Array[] = [];
  let at = 0;
  for (const length of chunks) {
    const i = recorded.findIndex((plan) => plan.length === length);
    const { chunk, logits } = recorded[i]!;
    upload(gpu, position, [at]);
    upload(gpu, chunk, tokens.subarray(at, at + length));
    for (let r = 0; r < length; r++) {
      upload(gpu, row, [r]);
      built.plans[i]!.run();
      const padded = await download(gpu, logits) as Float32Array;
      all.push(padded.slice(0, architecture.config.vocab_size));
    }
    at += length;
  }
  gpu.check();
  built.destroy();
  arena.destroy();
  return all;
}

/** Asserts that generation continues as the forward pass in float64 does, at every position. */
async function assertDecodesLikeReference(trainer: Trainer): Promise<void> {
  const tokens = batchesOf(trainer, 0)[0]!.tokens.subarray(0, 13);
  const reference = await referenceOf(trainer);
  const { logits } = reference.evaluate({ tokens, targets: tokens, length: tokens.length });
  const decoded = await decode(trainer, tokens, [5, 1, 1, 5, 1]);
  decoded.forEach((actual, position) => {
    const expected = logits.data.subarray(position * actual.length, (position + 1) * actual.length);
    assertNear(actual, expected, { tolerance: 1e-4, what: `logits at position ${position}` });
  });
}

for (const [option, trunk] of OPTIONS) {
  for (const [model, changes] of MODELS) {
    Deno.test(`A model with ${option} trains and generates like the reference: ${model}`, async () => {
      await withTrainer(
        await openTestGpu(),
        { model: { ...changes, trunk } },
        async (trainer) => {
          await assertTrainsLikeReference(trainer);
          await assertDecodesLikeReference(trainer);
        },
      );
    });
  }
}

Deno.test("A model with every option trains like the reference with two micro-batches an update and tables in parts", async () => {
  const gpu = await openTestGpu({ max_binding_bytes: 8192 });
  const options = {
    model: { vocab_size: 262, trunk: ALL },
    train: { gradient_accumulation: 2 },
  };
  await withTrainer(gpu, options, async (trainer) => {
    for (const name of ["embed.weight", "head.weight"]) {
      assert(trainer.weights.value(name).parts.length > 2, name);
    }
    await assertTrainsLikeReference(trainer);
  });
});

Deno.test("A model with every option gives the same bits when it recomputes", async () => {
  const gpu = await openTestGpu();
  const trained = (recompute: string) =>
    withTrainer(gpu, { model: { trunk: ALL }, train: { recompute } }, async (trainer) => {
      while (trainer.step < trainer.steps) trainer.update(batchesOf(trainer, trainer.step));
      return await readAll(trainer);
    });
  const kept = await trained("none");
  for (const recompute of ["experts", "full"]) assertSameBits(await trained(recompute), kept);
});

Deno.test("A model refuses sequences that are longer than its learned positions", async () => {
  const trunk = { positions: "learned", max_positions: 12 };
  const gpu = await openTestGpu();
  await assertRejects(() => makeTrainer(gpu, { model: { trunk } }), RangeError, "12");
});
