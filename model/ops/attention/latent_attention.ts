/**
 * The parts of attention over a latent cache: appending to the cache, products per head, and the attention itself.
 *
 * @module
 */

import appendSource from "../../../shaders/attention/append_rows.wgsl" with { type: "text" };
import attentionSource from "../../../shaders/attention/latent_attention.wgsl" with {
  type: "text",
};
import productSource from "../../../shaders/attention/head_product.wgsl" with { type: "text" };
import { f32, grid, read, readScalar, update, write, writeScalar } from "../../gpu/kernel.ts";
import type { Plan } from "../../gpu/plan.ts";
import type { LatentAttention } from "./attention_operands.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { latentProducts, productTokens } from "./latent_products.ts";
import { LANES, mergeSpans, spansOf } from "./spans.ts";

interface AppendRows {
  /** `[rows, width]`. */
  readonly x: Tensor;
  /** `[capacity, width]`; what lies outside of the new rows stays. */
  readonly cache: Tensor;
  /** A u32: where the first row goes. */
  readonly position: Tensor;
}

/** Records `cache[position + i] = x[i]` for every row; rows beyond the capacity are dropped. */
export function appendRows(plan: Plan, label: string, operands: AppendRows): void {
  const { x, cache, position } = operands;
  if (x.width !== cache.width || x.width % 4 !== 0) {
    throw new RangeError(
      `${label}: rows of ${x.width} (${x.name}) do not go into ${cache.name} with rows of ${cache.width}`,
    );
  }
  plan.dispatch({
    label,
    name: "append_rows",
    source: appendSource,
    constants: { LANES },
    params: { rows: x.rows, columns4: x.width / 4, capacity: cache.rows },
    bindings: { x: read(x), cache: update(cache), position: readScalar(position) },
    workgroups: grid(Math.ceil(x.size / 4 / LANES)),
    bytes: 2 * x.bytes,
  });
}

/** Columns of each head in a matrix whose rows hold all heads. */
interface HeadColumns {
  /** The matrix. */
  readonly tensor: Tensor;
  /** Width of a head's part that takes part. */
  readonly columns: number;
  /** Elements from one head to the next. */
  readonly step: number;
  /** Column of the first head's part. */
  readonly start?: number;
}

interface HeadProduct {
  /** Heads. */
  readonly heads: number;
  /** `[tokens, heads · step]`, `start` 0. */
  readonly x: HeadColumns;
  /** A matrix with the heads side by side: a head's columns are `n` of `[k, n]`, or `k` of `[n, k]` when transposed. */
  readonly w: HeadColumns;
  /** `[tokens, heads · n]`. */
  readonly y: Tensor;
  /** Whether `w` holds a head's block as `[n, k]`. */
  readonly transposed?: boolean;
}

/** Records `y_h = x_h W_h` (or `x_h W_hᵀ`) for every head and token. */
export function headProduct(plan: Plan, label: string, operands: HeadProduct): void {
  const { heads, x, w, y, transposed = false } = operands;
  const [k, n] = transposed ? [w.columns, w.tensor.rows] : [w.tensor.rows, w.columns];
  if (x.columns !== k || y.width !== heads * n || y.rows !== x.tensor.rows) {
    throw new RangeError(
      `${label}: ${heads} heads of ${x.columns} columns of ${x.tensor.name}, of ${k}×${n} of ${w.tensor.name}, and ${y.rows}×${y.width} of ${y.name} do not fit`,
    );
  }
  plan.dispatch({
    label,
    name: "head_product",
    source: productSource,
    constants: { LANES, TRANSPOSED: transposed },
    params: {
      tokens: y.rows,
      heads,
      n4: n / 4,
      k4: k / 4,
      ldx: x.tensor.width / 4,
      x_step: x.step / 4,
      w_start: (w.start ?? 0) / 4,
      w_step: w.step / 4,
      ldw: w.tensor.width / 4,
      ldy: y.width / 4,
      y_step: n / 4,
    },
    bindings: { x: read(x.tensor), w: read(w.tensor), y: write(y) },
    workgroups: grid(Math.ceil(y.size / 4 / LANES)),
    flops: 2 * y.size * k,
  });
}

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
