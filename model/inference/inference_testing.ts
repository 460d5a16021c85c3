/**
 * Small models in files, for tests of what reads checkpoints.
 *
 * @module
 */

import { noise } from "../ops/testing.ts";
import { size } from "../layer/parameter.ts";
import { changedModel, type ModelChanges } from "../testing.ts";
import type { Architecture } from "../trunk/architecture.ts";
import { parameterSpecs, statisticSpecs } from "../trunk/parameters.ts";
import { writeSafetensors } from "../checkpoint/safetensors.ts";

/** A model of one dense and two ETHOS layers with odd sizes. */
export function smallModel(vocab_size: number, changes: ModelChanges = {}): Architecture {
  return changedModel({
    d_model: 24,
    num_layers: 3,
    leading_dense: { num_layers: 1, d_ffn: 36 },
    attention: {
      kind: "mla",
      num_heads: 3,
      q_lora_rank: 20,
      kv_lora_rank: 12,
      d_nope: 12,
      d_rope: 8,
      d_v: 20,
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
  }, { ...changes, vocab_size });
}

/** Weights and running statistics that are no model's, large enough that every part matters. */
export function noisyTensors(
  architecture: Architecture,
  seed: number,
): Map<string, Float64Array> {
  const tensors = new Map<string, Float64Array>();
  for (const [i, spec] of parameterSpecs(architecture).entries()) {
    const values = noise(size(spec), seed + i);
    const scale = spec.name === "embed.weight" ? 1 : 1.7 / Math.sqrt(spec.shape[0]!);
    tensors.set(
      spec.name,
      values.map((v) => Math.fround(spec.init.kind === "ones" ? 1 + v / 2 : v * scale)),
    );
  }
  for (const [i, spec] of statisticSpecs(architecture).entries()) {
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
  architecture: Architecture,
  tensors: ReadonlyMap<string, Float64Array>,
): Promise<void> {
  const specs = [...parameterSpecs(architecture), ...statisticSpecs(architecture)];
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
    { metadata: { format: "ethos", config: JSON.stringify(architecture.config) } },
  );
}
