/**
 * Small models in files, for tests of what reads checkpoints.
 *
 * @module
 */

import { type ModelConfig, modelSchema, type ModelSection } from "../config.ts";
import { noise } from "../ops/testing.ts";
import { parameterSpecs, size, statisticSpecs } from "../trunk/parameters.ts";
import { writeSafetensors } from "../checkpoint/safetensors.ts";

/** A model of one dense and two ETHOS layers with odd sizes. */
export function smallConfig(
  vocab_size: number,
  changes: Partial<ModelSection> = {},
): ModelConfig {
  const section = modelSchema.parse({
    d_model: 24,
    num_layers: 3,
    num_dense_layers: 1,
    d_ffn: 36,
    num_heads: 3,
    q_lora_rank: 20,
    kv_lora_rank: 12,
    d_nope: 12,
    d_rope: 8,
    d_v: 20,
    num_experts: 49,
    routing_heads: 2,
    top_k: 3,
    d_query: 16,
    d_latent: 8,
    d_hidden: 12,
    ...changes,
  });
  return { ...section, vocab_size };
}

/** Weights and running statistics that are no model's, large enough that every part matters. */
export function noisyTensors(config: ModelConfig, seed: number): Map<string, Float64Array> {
  const tensors = new Map<string, Float64Array>();
  for (const [i, spec] of parameterSpecs(config).entries()) {
    const values = noise(size(spec), seed + i);
    const scale = spec.name === "embed.weight" ? 1 : 1.7 / Math.sqrt(spec.shape[0]!);
    tensors.set(
      spec.name,
      values.map((v) => Math.fround(spec.init.kind === "ones" ? 1 + v / 2 : v * scale)),
    );
  }
  for (const [i, spec] of statisticSpecs(config).entries()) {
    const values = noise(size(spec), seed + 1000 + i);
    tensors.set(
      spec.name,
      values.map((v) => Math.fround(spec.init.kind === "ones" ? 1 + v / 2 : v / 4)),
    );
  }
  return tensors;
}

/** Writes a model file as training does. */
export async function writeModelFile(
  path: string,
  config: ModelConfig,
  tensors: ReadonlyMap<string, Float64Array>,
): Promise<void> {
  const specs = [...parameterSpecs(config), ...statisticSpecs(config)];
  await writeSafetensors(
    path,
    specs.map(({ name, shape }) => ({
      name,
      dtype: "F32" as const,
      shape,
      data: async function* () {
        yield await Promise.resolve(
          new Uint8Array(Float32Array.from(tensors.get(name)!).buffer),
        );
      },
    })),
    { metadata: { format: "ethos", config: JSON.stringify(config) } },
  );
}
