/**
 * Attention of the next tokens of sequences over a cache of keys and values by heads.
 *
 * @module
 */

import source from "../../../shaders/decoding/cached_attention.wgsl" with { type: "text" };
import { read } from "../../gpu/kernel.ts";
import type { Plan } from "../../gpu/plan.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import type { HeadGroups } from "../attention/heads.ts";
import { attendSpans, sequencesOf } from "./spans.ts";

/** Operands of {@linkcode cachedAttention}. */
export interface CachedAttention {
  readonly groups: HeadGroups;
  /** `[tokens, heads·d_head]`. */
  readonly q: Tensor;
  /** `[sequences·capacity, kv_heads·2·d_head]`, per head `[k | v]`; it already holds the tokens' own rows. */
  readonly kv: Tensor;
  /** `[sequences]` u32: position of the first token of each, whose tokens follow one another. */
  readonly position: Tensor;
  /** `[tokens, heads·d_head]`. */
  readonly y: Tensor;
}

/**
 * Records `y_h = softmax(q_h k_hᵀ / √d_head, causal) v_h` over the cache of a token's sequence, in spans: see {@linkcode attendSpans}.
 */
export function cachedAttention(plan: Plan, label: string, operands: CachedAttention): void {
  const { groups: { heads, kv_heads, d_head }, q, kv, position, y } = operands;
  const of = sequencesOf(label, { position, rows: q, cache: kv });
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
    flops: 4 * q.rows * heads * of.capacity * d_head,
    ...{ of, heads, shared: heads / kv_heads, width: d_head, position, y },
  });
}
