/**
 * Attention of the next tokens of sequences over a cache of latents.
 *
 * @module
 */

import source from "../../../shaders/decoding/latent_attention.wgsl" with { type: "text" };
import { read } from "../../gpu/kernel.ts";
import type { Plan } from "../../gpu/plan.ts";
import { type LatentAttention, latentProducts, productTokens } from "./latent_products.ts";
import { attendSpans, sequencesOf } from "./spans.ts";

/**
 * Records `y_h = softmax((ql_h c_kvᵀ + q_r,h krᵀ) / √(nope+rope), causal) c_kv` over the cache of a token's sequence: of many tokens of one sequence as
 * matrix products, otherwise in spans: see {@linkcode attendSpans}.
 */
export function latentAttention(plan: Plan, label: string, operands: LatentAttention): void {
  const { heads, d_nope, d_rope, ql, q, c_kv, kr, position, y } = operands;
  const rank = c_kv.width;
  const tokens = ql.rows;
  const fits = ql.width === heads * rank && q.rows === tokens &&
    q.width === heads * (d_nope + d_rope) && kr.width === d_rope && kr.rows === c_kv.rows &&
    y.size === ql.size;
  if (!fits) {
    throw new RangeError(
      `${label}: ${ql.name} [${ql.shape}], ${q.name} [${q.shape}], ${c_kv.name} [${c_kv.shape}], ${kr.name} [${kr.shape}] and ${y.name} [${y.shape}] do not fit ${heads} heads`,
    );
  }
  const of = sequencesOf(label, { position, rows: ql, cache: c_kv });
  const stored = productTokens(plan.gpu.capabilities, operands);
  if (of.sequences === 1 && stored !== undefined) {
    latentProducts(plan, label, { ...operands, stored });
    return;
  }
  attendSpans(plan, label, {
    kernel: { name: "latent_attention", source },
    constants: { RANK4: rank / 4, NOPE4: d_nope / 4, ROPE4: d_rope / 4 },
    bindings: { ql: read(ql), q: read(q), c_kv: read(c_kv), kr: read(kr) },
    d_score: d_nope + d_rope,
    flops: 2 * tokens * heads * of.capacity * (2 * rank + d_rope),
    ...{ of, heads, shared: heads, width: rank, position, y },
  });
}
