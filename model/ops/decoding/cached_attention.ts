/**
 * Attention of the next tokens of a sequence over a cache of keys and values by heads.
 *
 * @module
 */

import source from "../../../shaders/decoding/cached_attention.wgsl" with { type: "text" };
import { read } from "../../gpu/kernel.ts";
import type { Plan } from "../../gpu/plan.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import type { HeadGroups } from "../attention/heads.ts";
import { attendSpans } from "./spans.ts";

/** Operands of {@linkcode cachedAttention}. */
export interface CachedAttention {
  readonly groups: HeadGroups;
  /** `[tokens, heads·d_head]`. */
  readonly q: Tensor;
  /** `[capacity, kv_heads·2·d_head]`, per head `[k | v]`; it already holds the tokens' own rows. */
  readonly kv: Tensor;
  /** A u32: position of the first token. */
  readonly position: Tensor;
  /** `[tokens, heads·d_head]`. */
  readonly y: Tensor;
}

/**
 * Records `y_h = softmax(q_h k_hᵀ / √d_head, causal) v_h` with a workgroup for each token, head and span of the cache. Spans depend on the
 * sizes alone, so the bits of a result do not depend on the device's speed.
 */
export function cachedAttention(plan: Plan, label: string, operands: CachedAttention): void {
  const { groups: { heads, kv_heads, d_head }, q, kv, position, y } = operands;
  const tokens = q.rows;
  const capacity = kv.rows;
  const fits = q.width === heads * d_head && kv.width === 2 * kv_heads * d_head &&
    y.size === q.size;
  if (!fits) {
    throw new RangeError(
      `${label}: ${q.name} [${q.shape}], ${kv.name} [${kv.shape}] and ${y.name} [${y.shape}] do not fit ${heads} heads of ${d_head}, which share ${kv_heads}`,
    );
  }
  attendSpans(plan, label, {
    kernel: { name: "cached_attention", source },
    constants: { D4: d_head / 4 },
    params: { kv_heads },
    bindings: { q: read(q), kv: read(kv) },
    d_score: d_head,
    flops: 4 * tokens * heads * capacity * d_head,
    ...{ tokens, heads, capacity, width: d_head, position, y },
  });
}
