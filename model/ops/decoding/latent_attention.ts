/**
 * Attention of the next tokens of a sequence over a cache of latents.
 *
 * @module
 */

import attentionSource from "../../../shaders/decoding/latent_attention.wgsl" with {
  type: "text",
};
import { f32, grid, read, readScalar, write, writeScalar } from "../../gpu/kernel.ts";
import type { Plan } from "../../gpu/plan.ts";
import { type LatentAttention, latentProducts, productTokens } from "./latent_products.ts";
import { LANES, mergeSpans, spansOf } from "./spans.ts";

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
  const { span, spans } = spansOf(capacity, tokens * heads);
  const mixed = plan.tensor(`${label}.mixed`, [tokens * heads * spans, rank]);
  const statistics = plan.tensor(`${label}.statistics`, [tokens * heads * spans, 2]);
  plan.dispatch({
    label,
    name: "latent_attention",
    source: attentionSource,
    constants: { LANES, RANK4: rank / 4, NOPE4: d_nope / 4, ROPE4: d_rope / 4 },
    params: {
      tokens,
      heads,
      span,
      spans,
      capacity,
      scale: f32(1 / Math.sqrt(d_nope + d_rope)),
    },
    bindings: {
      ql: read(ql),
      q: read(q),
      c_kv: read(c_kv),
      kr: read(kr),
      position: readScalar(position),
      mixed: write(mixed),
      statistics: writeScalar(statistics),
    },
    workgroups: grid(tokens * heads * spans),
    flops: 2 * tokens * heads * capacity * (2 * rank + d_rope),
  });
  mergeSpans(plan, label, { tokens, heads, capacity, mixed, statistics, position, y });
}
