/**
 * Multi-head latent attention for generation: the cache holds a latent and a rotary key a position, which is all that MLA needs.
 *
 * Keys and values are never formed. With `W_uk,h` and `W_uv,h` a head's halves of `W_ukv`,
 *
 * ```
 * q_n k_nᵀ = q_n (c_kv W_uk,h)ᵀ = (q_n W_uk,hᵀ) c_kvᵀ        p v = p (c_kv W_uv,h) = (p c_kv) W_uv,h
 * ```
 *
 * so queries go into the latent space, attention happens there, and its result comes back through `W_uv,h`.
 *
 * @module
 */

import { Tensor } from "../../gpu/tensor.ts";
import { gemm } from "../../ops/gemm/gemm.ts";
import { matrix } from "../../ops/gemm/matrix.ts";
import { appendRows } from "../../ops/decoding/append_rows.ts";
import { headProduct } from "../../ops/decoding/head_product.ts";
import { latentAttention } from "../../ops/decoding/latent_attention.ts";
import { rmsnormForward } from "../../ops/norm/rmsnorm.ts";
import { rope } from "../../ops/attention/rope.ts";
import { checkSequences, type LayerContext } from "../../layer/context.ts";
import type { CacheSizes, LayerInput } from "../../layer/kind.ts";
import type { MlaSection } from "./schema.ts";

/** A layer's cache of the tokens so far. */
export interface LatentCache {
  /** Normalised latents `[S·capacity, kv_rank]`, sequence after sequence. */
  readonly c_kv: Tensor;
  /** Rotated keys `[S·capacity, rope]`. */
  readonly kr: Tensor;
}

/**
 * A layer's cache, without memory: put its tensors, and those of the other layers, into an `Arena`. It needs no clearing:
 * nothing beyond a token's own position is used, as long as it is finite.
 */
export function latentCache(
  name: string,
  mla: Pick<MlaSection, "kv_lora_rank" | "d_rope">,
  { sequences = 1, capacity, dtype }: CacheSizes,
): LatentCache {
  const tensor = (part: string, width: number) =>
    new Tensor(`${name}.cache.${part}`, [sequences * capacity, width], { dtype, owner: "cache" });
  return { c_kv: tensor("c_kv", mla.kv_lora_rank), kr: tensor("kr", mla.d_rope) };
}

/** Inputs of {@linkcode mlaDecode}. */
export interface MlaDecodeInput extends LayerInput {
  readonly mla: MlaSection;
  /** The layer's cache; its capacity is the context's limit. */
  readonly cache: LatentCache;
  /** `[S]` u32: the position of the first new token of each sequence. Position + tokens must not exceed the capacity. */
  readonly position: Tensor;
}

/**
 * Records attention of the next tokens of each sequence, and appends them to the cache. The same numbers as `mlaForward` gives for these rows,
 * up to rounding; one recorded plan serves every position.
 *
 * Rows that only fill up a chunk are harmless: what they leave in the cache lies beyond the real tokens and is overwritten by the next.
 *
 * @returns `residual + attention(x)`, a new f32 tensor.
 */
export function mlaDecode(
  context: LayerContext,
  prefix: string,
  inputs: MlaDecodeInput,
): Tensor {
  const { plan, tokens } = context;
  const { x, residual, mla, cache, position } = inputs;
  checkSequences(context, prefix, position);
  const { num_heads: heads, d_nope, d_rope, d_v, q_lora_rank, kv_lora_rank } = mla;
  const weight = (name: string) => context.weight(`${prefix}.${name}`);
  const rotation = {
    length: context.length,
    position,
    positions: cache.kr.rows / context.batch,
    angles: { base: mla.rope_base },
  };
  return plan.scope(prefix, () => {
    const down_q = context.operand("down_q", tokens, q_lora_rank);
    gemm(plan, "w_dq", { a: x, b: weight("w_dq"), c: down_q });
    const c_q = context.operand("c_q", tokens, q_lora_rank);
    rmsnormForward(plan, "q_norm", {
      x: down_q,
      gain: context.vector(`${prefix}.q_norm.weight`),
      y: c_q,
      scale: context.activation("scale_q", tokens),
    });
    const q = context.operand("q", tokens, heads * (d_nope + d_rope));
    gemm(plan, "w_uq", { a: c_q, b: weight("w_uq"), c: q });
    rope(plan, "q_rope", {
      x: matrix(q, { columns: d_rope, start: d_nope }),
      groups: { count: heads, step: d_nope + d_rope },
      ...rotation,
    });

    const down_kv = context.operand("down_kv", tokens, kv_lora_rank + d_rope);
    gemm(plan, "w_dkv", { a: x, b: weight("w_dkv"), c: down_kv });
    const c_kv = context.operand("c_kv", tokens, kv_lora_rank);
    rmsnormForward(plan, "kv_norm", {
      x: matrix(down_kv, { columns: kv_lora_rank }),
      gain: context.vector(`${prefix}.kv_norm.weight`),
      y: c_kv,
      scale: context.activation("scale_kv", tokens),
    });
    const kr = context.operand("kr", tokens, d_rope);
    rope(plan, "k_rope", {
      x: matrix(down_kv, { columns: d_rope, start: kv_lora_rank }),
      y: matrix(kr),
      ...rotation,
    });
    appendRows(plan, "append.c_kv", { x: c_kv, cache: cache.c_kv, position });
    appendRows(plan, "append.kr", { x: kr, cache: cache.kr, position });

    const w_ukv = weight("w_ukv");
    const step = d_nope + d_v;
    const ql = context.operand("ql", tokens, heads * kv_lora_rank);
    headProduct(plan, "w_uk", {
      heads,
      x: { tensor: q, columns: d_nope, step: d_nope + d_rope },
      w: { tensor: w_ukv, columns: d_nope, step },
      y: ql,
      transposed: true,
    });
    const latent = context.operand("latent", tokens, heads * kv_lora_rank);
    latentAttention(plan, "attention", {
      heads,
      d_nope,
      d_rope,
      ql,
      q,
      ...cache,
      position,
      y: latent,
    });
    const o = context.operand("o", tokens, heads * d_v);
    headProduct(plan, "w_uv", {
      heads,
      x: { tensor: latent, columns: kv_lora_rank, step: kv_lora_rank },
      w: { tensor: w_ukv, columns: d_v, step, start: d_nope },
      y: o,
    });
    const y = context.activation("y", tokens, residual.width);
    gemm(plan, "w_o", { a: o, b: weight("w_o"), c: y, epilogue: "add", addend: residual });
    return y;
  });
}
