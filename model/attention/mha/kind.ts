/**
 * Multi-head attention, whose heads may share keys and values in groups, as a kind of attention.
 *
 * @module
 */

import type { Attention, Flops, Kind, TrunkSizes } from "../../layer/kind.ts";
import { type ParameterSpec, uniformWeight, vector, zeros } from "../../layer/parameter.ts";
import { keyValueCache, mhaDecode } from "./decode.ts";
import { mhaBackward, mhaForward } from "./mha.ts";
import { headsOf, mhaSchema, type MhaSection, problemOf } from "./schema.ts";

const role = "attention";

function parameters(mha: MhaSection, trunk: TrunkSizes, at: string): ParameterSpec[] {
  const { d_model } = trunk;
  const { heads, kv_heads, d_head } = headsOf(mha, trunk);
  const width = (heads + 2 * kv_heads) * d_head;
  const bias = (name: string, columns: number) =>
    mha.bias ? [vector(`${at}.${name}`, columns, { role, init: zeros })] : [];
  return [
    uniformWeight(`${at}.w_qkv`, [d_model, width], {
      role,
      bound: Math.sqrt(6 / (d_model + width)),
    }),
    ...bias("b_qkv", width),
    uniformWeight(`${at}.w_o`, [heads * d_head, d_model], {
      role,
      bound: 1 / Math.sqrt(heads * d_head),
    }),
    ...bias("b_o", d_model),
  ];
}

function flops(mha: MhaSection, trunk: TrunkSizes, sequenceLength: number): Flops {
  const { d_model } = trunk;
  const { heads, kv_heads, d_head } = headsOf(mha, trunk);
  // A token at position p attends to p + 1 tokens: (L + 1) / 2 on average.
  const seen = (sequenceLength + 1) / 2;
  return {
    attentionProjections: 2 * d_model * (2 * heads + 2 * kv_heads) * d_head,
    attentionContext: seen * heads * 4 * d_head,
  };
}

/** Multi-head attention. */
export const kind: Kind<MhaSection, Attention> = {
  schema: mhaSchema,
  runtime: {},
  problem: problemOf,
  create(mha, trunk) {
    const groups = headsOf(mha, trunk);
    const { heads, d_head } = groups;
    return {
      heads: { heads, d_nope: d_head, d_rope: 0, d_v: d_head },
      parameters: (at) => parameters(mha, trunk, at),
      flops: ({ sequenceLength }) => flops(mha, trunk, sequenceLength),
      forward(context, at, input) {
        const { y, saved } = mhaForward(context, at, { ...input, mha });
        return { y, backward: (dy) => mhaBackward(context, at, { dy, saved, mha }) };
      },
      decoder(at, sizes) {
        const cache = keyValueCache(at, groups, sizes);
        return {
          cache: [cache],
          record: (context, input) => mhaDecode(context, at, { ...input, mha, groups, cache }),
        };
      },
    };
  },
};
