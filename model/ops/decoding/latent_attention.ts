/**
 * Attention of the next tokens of a sequence over a cache of latents.
 *
 * @module
 */

import source from "../../../shaders/decoding/latent_attention.wgsl" with { type: "text" };
import { read } from "../../gpu/kernel.ts";
import type { Plan } from "../../gpu/plan.ts";
import { type LatentAttention, latentProducts, productTokens } from "./latent_products.ts";
import { attendSpans } from "./spans.ts";

/**
 * Records `y_h = softmax((ql_h c_kvᵀ + q_r,h krᵀ) / √(nope+rope), causal) c_kv`: of many tokens as matrix products, of few with a workgroup for each
 * token, head and span of the cache. Spans depend on the sizes alone, so the bits of a result do not depend on the device's speed.
 */
export function latentAttention(plan: Plan, label: string, operands: LatentAttention): void {
  const { heads, d_nope, d_rope, ql, q, c_kv, kr, position, y } = operands;
  const rank = c_kv.width;
  const tokens = ql.rows;
  const capacity = c_kv.rows;
  const fits = ql.width === heads * rank && q.rows === tokens &&
    q.width === heads * (d_nope + d_rope) && kr.width === d_rope && kr.rows === capacity &&
    y.size === ql.size;
  if (!fits) {
    throw new RangeError(
      `${label}: ${ql.name} [${ql.shape}], ${q.name} [${q.shape}], ${c_kv.name} [${c_kv.shape}], ${kr.name} [${kr.shape}] and ${y.name} [${y.shape}] do not fit ${heads} heads`,
    );
  }
  const stored = productTokens(plan.gpu.capabilities, operands);
  if (stored !== undefined) {
    latentProducts(plan, label, { ...operands, stored });
    return;
  }
  attendSpans(plan, label, {
    kernel: { name: "latent_attention", source },
    constants: { RANK4: rank / 4, NOPE4: d_nope / 4, ROPE4: d_rope / 4 },
    bindings: { ql: read(ql), q: read(q), c_kv: read(c_kv), kr: read(kr) },
    d_score: d_nope + d_rope,
    flops: 2 * tokens * heads * capacity * (2 * rank + d_rope),
    ...{ tokens, heads, capacity, width: rank, position, y },
  });
}
