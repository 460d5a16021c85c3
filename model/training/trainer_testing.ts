/**
 * Helpers for tests of training: a tiny model, its data, and the same model in float64.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { changedModel, type ModelChanges } from "../testing.ts";
import type { Architecture } from "../trunk/architecture.ts";
import type { Gpu } from "../gpu/device.ts";
import { noise, relativeError } from "../ops/testing.ts";
import { NO_TARGET } from "../ops/elementwise/cross_entropy.ts";
import { parameterSpecs, statisticSpecs } from "../trunk/parameters.ts";
import { ReferenceModel } from "../reference/model.ts";
import type { TokenSource } from "../text/token_source.ts";
import type { TokenBatch } from "./sampler.ts";
import { trainSchema, type TrainSection } from "./config.ts";
import type { StateKind } from "../checkpoint/checkpoint.ts";
import { Trainer, type TrainerOptions } from "./trainer.ts";

/** Few stored experts behind a gate. */
export const TOPK_MOE = { kind: "topk_moe", num_experts: 7, d_expert: 12, expert_init: "fan_in" };
/** Multi-head attention with heads that are not as wide as the model together. */
export const MHA = { attention: { kind: "mha", num_heads: 4, d_head: 12 } };

/** A model with every kind of layer, at sizes as odd as kernels allow. */
export function tinyModel(changes: ModelChanges = {}): Architecture {
  return changedModel({
    vocab_size: 61,
    d_model: 20,
    num_layers: 2,
    leading_dense: { num_layers: 1, d_ffn: 28 },
    attention: {
      kind: "mla",
      num_heads: 2,
      q_lora_rank: 12,
      kv_lora_rank: 8,
      d_nope: 8,
      d_rope: 8,
      d_v: 12,
    },
    ffn: {
      kind: "ethos",
      num_experts: 49,
      routing_heads: 2,
      top_k: 3,
      d_query: 16,
      d_latent: 8,
      d_hidden: 12,
    },
  }, changes);
}

/** How it is trained: 2 sequences of 13 tokens, with a rate at which three updates change it visibly. */
export function tinyTrain(options: Record<string, unknown> = {}): TrainSection {
  return trainSchema.parse({
    sequence_length: 13,
    micro_batch: 2,
    ...(options["tokens"] === undefined && { steps: 3 }),
    learning_rate: { initial: 2e-3, peak: 4e-3, warmup_steps: 2, schedule: "cosine" },
    weight_decay: 0.1,
    evaluate_tokens: 40,
    ...options,
  });
}

/** Options of {@linkcode makeTrainer}. */
export interface TinyOptions extends Partial<Omit<TrainerOptions, "architecture" | "train">> {
  readonly model?: ModelChanges;
  readonly train?: Record<string, unknown>;
}

/** A trainer of the tiny model. Free it with `destroy()`. */
export async function makeTrainer(gpu: Gpu, options: TinyOptions = {}): Promise<Trainer> {
  const { model, train, seed = 5, ...rest } = options;
  return await Trainer.create(gpu, {
    architecture: tinyModel(model),
    train: tinyTrain(train),
    seed,
    ...rest,
  });
}

/** Runs a test with a trainer, and frees it. */
export async function withTrainer<T>(
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

/** Random tokens; the same for the same seed. */
export function tokenSource(length: number, vocabulary: number, seed = 1): TokenSource {
  const all = Uint32Array.from(
    noise(length, seed),
    (v) => Math.floor((v + 1) / 2 * vocabulary),
  );
  return { length, read: (offset, count) => all.slice(offset, offset + count) };
}

/** The micro-batches of update `step`; of single documents the last predictions of a sequence are left out, of each so many. */
export function batchesOf(trainer: Trainer, step: number): TokenBatch[] {
  const { documents, gradient_accumulation, micro_batch, sequence_length } = trainer.train;
  const size = micro_batch * sequence_length;
  return Array.from({ length: gradient_accumulation }, (_, i) => {
    const seed = 100 + step * gradient_accumulation + i;
    const row = tokenSource(size + 1, trainer.config.vocab_size, seed).read(0, size + 1);
    const targets = row.slice(1);
    if (documents === "single") {
      for (let s = 0; s < micro_batch; s++) {
        const end = (s + 1) * sequence_length;
        targets.fill(NO_TARGET, end - (3 * s + 5 * i + step) % sequence_length, end);
      }
    }
    return { tokens: row.slice(0, size), targets };
  });
}

/** Reads tensors at once, for each read on its own waits for the device. */
async function readMany(
  names: readonly string[],
  read: (name: string) => Promise<Float32Array>,
): Promise<Map<string, Float32Array>> {
  return new Map(
    await Promise.all(names.map(async (name) => [name, await read(name)] as const)),
  );
}

/** Names of a trainer's parameters and running statistics. */
function valueNames({ architecture }: Trainer): string[] {
  return [...parameterSpecs(architecture), ...statisticSpecs(architecture)].map(({ name }) => name);
}

/** Every number of a trainer's state, by `kind.name`. */
export function readAll(trainer: Trainer): Promise<Map<string, Float32Array>> {
  const moments = parameterSpecs(trainer.architecture).flatMap((
    { name },
  ) => [`m.${name}`, `v.${name}`]);
  const keys = [...valueNames(trainer).map((name) => `value.${name}`), ...moments];
  return readMany(keys, (key) => {
    const dot = key.indexOf(".");
    return trainer.readState(key.slice(0, dot) as StateKind, key.slice(dot + 1));
  });
}

/** Gradients of the last update, by parameter. */
export function readGradients(trainer: Trainer): Promise<Map<string, Float32Array>> {
  const names = parameterSpecs(trainer.architecture).map(({ name }) => name);
  return readMany(names, (name) => trainer.readGradient(name));
}

/** Asserts that two states are the same bits, naming the first tensor that differs. */
export function assertSameBits(
  actual: ReadonlyMap<string, Float32Array>,
  expected: ReadonlyMap<string, Float32Array>,
): void {
  assertEquals([...actual.keys()], [...expected.keys()]);
  for (const [name, values] of expected) {
    const a = new Uint32Array(actual.get(name)!.slice().buffer);
    const b = new Uint32Array(values.slice().buffer);
    assertEquals(a.findIndex((bits, i) => bits !== b[i]), -1, `${name} differs`);
  }
}

/** The float64 model that has a trainer's present weights. */
export async function referenceOf(trainer: Trainer): Promise<ReferenceModel> {
  const { architecture, train } = trainer;
  const values = await readMany(valueNames(trainer), (name) => trainer.readState("value", name));
  const tensors = new Map(
    Array.from(values, ([name, value]) => [name, Float64Array.from(value)]),
  );
  const { beta1, beta2, epsilon, weight_decay: weightDecay, decay } = train;
  return new ReferenceModel(architecture, tensors, {
    adamW: { beta1, beta2, epsilon, weightDecay },
    decay,
  });
}

/** Trains a fresh trainer and the reference side by side to the end, and asserts that they agree all along. */
export async function assertTrainsLikeReference(trainer: Trainer): Promise<void> {
  const { architecture, train } = trainer;
  const reference = await referenceOf(trainer);
  for (let step = 0; step < trainer.steps; step++) {
    const batches = batchesOf(trainer, step);
    await trainer.update(batches);
    const [record] = await trainer.records();
    assert(record?.applied);
    const expected = reference.trainStep(
      batches.map((batch) => ({ ...batch, length: train.sequence_length })),
      {
        learningRate: record.lr,
        clip: train.clip_norm,
        dropout: { seed: trainer.seed, update: step },
      },
    );
    const near = (a: number, b: number, what: string) =>
      assert(Math.abs(a - b) <= 1e-4 * Math.abs(b), `${what} of update ${step}: ${a}, not ${b}`);
    near(record.loss, expected.crossEntropy, "Loss");
    near(record.loss + record.balance, expected.total, "Total");
    near(record.grad_norm, expected.gradientNorm, "Norm");
    const gradients = await readGradients(trainer);
    for (const { name, held } of parameterSpecs(architecture)) {
      const gradient = gradients.get(name)!;
      if (held) assert(gradient.every((g) => g === 0), `${name} is held`);
      else {
        const error = relativeError(gradient, expected.gradients.get(name)!);
        assert(error <= 1e-3, `Gradient of ${name} in update ${step} is off by ${error}`);
      }
    }
  }
  const after = await readAll(trainer);
  for (const [name, values] of [...reference.parameters, ...reference.statistics]) {
    const actual = after.get(`value.${name}`)!;
    const differences = values.map((v, i) => Math.abs(v - actual[i]!));
    const mean = differences.reduce((a, b) => a + b, 0) / differences.length;
    const largest = differences.reduce((a, b) => Math.max(a, b), 0);
    assert(
      largest <= (name.endsWith("bn.mean") ? 1e-3 : 3e-4) && mean <= 1e-5,
      `${name} ends off by ${largest}, ${mean} in the mean`,
    );
  }
  const batch = batchesOf(trainer, 0)[0]!;
  const losses = await trainer.losses(batch);
  const evaluated = reference.evaluate({ ...batch, length: train.sequence_length }).crossEntropy;
  const predictions = batch.targets.filter((target) => target !== NO_TARGET).length;
  const mean = losses.reduce((a, b) => a + b, 0) / predictions;
  assert(Math.abs(mean - evaluated) <= 1e-4 * evaluated, `Evaluation: ${mean}, not ${evaluated}`);
}
