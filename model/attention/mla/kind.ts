/**
 * Multi-head latent attention (DeepSeek-V3), as a kind of attention.
 *
 * @module
 */

import type { Attention, Flops, Kind, TrunkSizes } from "../../layer/kind.ts";
import { ones, type ParameterSpec, residualStd, vector, weight } from "../../layer/parameter.ts";
import { latentCache, mlaDecode } from "./decode.ts";
import { mlaBackward, mlaForward } from "./mla.ts";
import { mlaSchema, type MlaSection } from "./schema.ts";

const role = "attention";

function parameters(mla: MlaSection, trunk: TrunkSizes, at: string): ParameterSpec[] {
  const { num_heads, q_lora_rank, kv_lora_rank, d_nope, d_rope, d_v } = mla;
  const { d_model } = trunk;
  return [
    weight(`${at}.w_dq`, [d_model, q_lora_rank], { role }),
    vector(`${at}.q_norm.weight`, q_lora_rank, { role, init: ones }),
    weight(`${at}.w_uq`, [q_lora_rank, num_heads * (d_nope + d_rope)], { role }),
    weight(`${at}.w_dkv`, [d_model, kv_lora_rank + d_rope], { role }),
    vector(`${at}.kv_norm.weight`, kv_lora_rank, { role, init: ones }),
    weight(`${at}.w_ukv`, [kv_lora_rank, num_heads * (d_nope + d_v)], { role }),
    weight(`${at}.w_o`, [num_heads * d_v, d_model], { role, std: residualStd(trunk) }),
  ];
}

function flops(mla: MlaSection, { d_model }: TrunkSizes, sequenceLength: number): Flops {
  const { num_heads, q_lora_rank, kv_lora_rank, d_nope, d_rope, d_v } = mla;
  const product = (inputs: number, outputs: number) => 2 * inputs * outputs;
  // A token at position p attends to p + 1 tokens: (L + 1) / 2 on average.
  const seen = (sequenceLength + 1) / 2;
  return {
    attentionProjections: product(d_model, q_lora_rank) +
      product(q_lora_rank, num_heads * (d_nope + d_rope)) +
      product(d_model, kv_lora_rank + d_rope) +
      product(kv_lora_rank, num_heads * (d_nope + d_v)) +
      product(num_heads * d_v, d_model),
    attentionContext: seen * num_heads * (2 * (d_nope + d_rope) + 2 * d_v),
  };
}

/** Multi-head latent attention. */
export const kind: Kind<MlaSection, Attention> = {
  schema: mlaSchema,
  runtime: {},
  create: (mla, trunk) => ({
    heads: { heads: mla.num_heads, d_nope: mla.d_nope, d_rope: mla.d_rope, d_v: mla.d_v },
    parameters: (at) => parameters(mla, trunk, at),
    flops: ({ sequenceLength }) => flops(mla, trunk, sequenceLength),
    forward(context, at, input) {
      const { y, saved } = mlaForward(context, at, { ...input, mla });
      return { y, backward: (dy) => mlaBackward(context, at, { dy, saved, mla }) };
    },
    decoder(at, sizes) {
      const cache = latentCache(at, mla, sizes);
      return {
        cache: [cache.c_kv, cache.kr],
        record: (context, input) => mlaDecode(context, at, { ...input, mla, cache }),
      };
    },
  }),
};
