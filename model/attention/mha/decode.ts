/**
 * Multi-head attention for generation: the cache holds the keys, rotated, and the values of each head that has its own.
 *
 * @module
 */

import { Tensor } from "../../gpu/tensor.ts";
import { checkSequences, type LayerContext } from "../../layer/context.ts";
import type { CacheSizes, LayerInput } from "../../layer/kind.ts";
import { type HeadGroups, splitHeads } from "../../ops/attention/heads.ts";
import { appendRows } from "../../ops/decoding/append_rows.ts";
import { cachedAttention } from "../../ops/decoding/cached_attention.ts";
import { gemm } from "../../ops/gemm/gemm.ts";
import { mhaOutput, rotateHeads } from "./mha.ts";
import type { MhaSection } from "./schema.ts";

/** A layer's cache `[S·capacity, kv_heads·2·d_head]`, per head `[k | v]`, without memory. Nothing beyond a token's own position is used. */
export function keyValueCache(
  name: string,
  { kv_heads, d_head }: HeadGroups,
  { sequences = 1, capacity, dtype }: CacheSizes,
): Tensor {
  const shape = [sequences * capacity, 2 * kv_heads * d_head];
  return new Tensor(`${name}.cache.kv`, shape, { dtype, owner: "cache" });
}

/**
 * Records attention of the next tokens of each sequence, and appends them to the cache. One recorded plan serves every position.
 *
 * @param inputs `cache` is the layer's; its capacity is the context's limit. `position` is u32 `[S]`: that of the first new token of each. Position + tokens must not
 * exceed the capacity.
 * @returns `residual + attention(x)`, a new f32 tensor.
 */
export function mhaDecode(
  context: LayerContext,
  prefix: string,
  inputs: LayerInput & {
    readonly mha: MhaSection;
    readonly groups: HeadGroups;
    readonly cache: Tensor;
    readonly position: Tensor;
  },
): Tensor {
  const { plan, tokens } = context;
  const { x, residual, mha, groups, cache, position } = inputs;
  checkSequences(context, prefix, position);
  const { heads, kv_heads, d_head } = groups;
  return plan.scope(prefix, () => {
    const w_qkv = context.weight(`${prefix}.w_qkv`);
    const qkv = context.operand("qkv", tokens, w_qkv.width);
    gemm(plan, "w_qkv", { a: x, b: w_qkv, c: qkv });
    const q = context.operand("q", tokens, heads * d_head);
    const kv = context.operand("kv", tokens, 2 * kv_heads * d_head);
    const bias = mha.bias ? context.vector(`${prefix}.b_qkv`) : undefined;
    splitHeads(plan, "heads", { groups, qkv, bias, q, kv });
    const place = { position, positions: cache.rows / context.batch };
    rotateHeads(context, "", { mha, d_head, q, kv, place });
    appendRows(plan, "append", { x: kv, cache, position });
    const o = context.operand("o", tokens, heads * d_head);
    cachedAttention(plan, "attention", { groups, q, kv: cache, position, y: o });
    return mhaOutput(context, prefix, { mha, o, residual });
  });
}
