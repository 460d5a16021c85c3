/**
 * Queries, keys and values of every head, out of one product and back.
 *
 * @module
 */

import joinSource from "../../../shaders/attention/attention_join.wgsl" with { type: "text" };
import splitSource from "../../../shaders/attention/attention_split.wgsl" with { type: "text" };
import { grid, read, write } from "../../gpu/kernel.ts";
import type { Plan } from "../../gpu/plan.ts";
import type { Tensor } from "../../gpu/tensor.ts";

/** Heads of queries, and heads of keys and values that groups of them share. */
export interface HeadGroups {
  readonly heads: number;
  /** Divides `heads`. */
  readonly kv_heads: number;
  /** Width of every head, a multiple of 4. */
  readonly d_head: number;
}

/** Operands of {@linkcode splitHeads}. */
export interface SplitHeads {
  readonly groups: HeadGroups;
  /** `[T, (heads + 2·kv_heads)·d_head]`: columns of queries, keys and values, each by heads. */
  readonly qkv: Tensor;
  /** As wide, f32. */
  readonly bias?: Tensor | undefined;
  /** `[T, heads·d_head]`. */
  readonly q: Tensor;
  /** Per head `[k | v]`: `[T, kv_heads·2·d_head]`, or `[T, heads·2·d_head]` with the shared ones once for each head that shares them. */
  readonly kv: Tensor;
}

/** Records how a product, plus its bias, falls into heads. */
export function splitHeads(plan: Plan, label: string, operands: SplitHeads): void {
  const { groups, qkv, bias, q, kv } = operands;
  const { heads, kv_heads, d_head } = groups;
  const rows = qkv.rows;
  const copies = kv.width / (2 * d_head);
  if (copies !== heads && copies !== kv_heads) {
    throw new RangeError(
      `${label}: ${kv.name} is ${kv.width} wide; expected keys and values of ${kv_heads} or ${heads} heads of ${d_head}`,
    );
  }
  checkHeads(label, groups, { qkv, q, kv, ...(bias && { bias }) });
  plan.dispatch({
    label,
    name: "attention_split",
    source: splitSource,
    constants: { D4: d_head / 4, BIAS: !!bias },
    params: { rows, heads, kv_heads, copies },
    bindings: {
      qkv: read(qkv),
      ...(bias && { bias: read(bias) }),
      q: write(q),
      kv: write(kv),
    },
    workgroups: grid(Math.ceil((q.size + kv.size) / 4 / 64)),
    flops: bias ? q.size + kv.size : 0,
    bytes: qkv.bytes + q.bytes + kv.bytes,
  });
}

/** Records the gradient of {@linkcode splitHeads} where `kv` is of all heads: that of the product, before its bias. */
export function joinHeads(
  plan: Plan,
  label: string,
  operands: {
    readonly groups: HeadGroups;
    readonly d_q: Tensor;
    readonly d_kv: Tensor;
    readonly d_qkv: Tensor;
  },
): void {
  const { groups, d_q, d_kv, d_qkv } = operands;
  const { heads, kv_heads, d_head } = groups;
  checkHeads(label, groups, { qkv: d_qkv, q: d_q, kv: d_kv });
  if (d_kv.width !== 2 * heads * d_head) {
    throw new RangeError(
      `${label}: ${d_kv.name} is ${d_kv.width} wide, expected ${2 * heads * d_head}`,
    );
  }
  plan.dispatch({
    label,
    name: "attention_join",
    source: joinSource,
    constants: { D4: d_head / 4 },
    params: { rows: d_qkv.rows, heads, kv_heads },
    bindings: { d_q: read(d_q), d_kv: read(d_kv), d_qkv: write(d_qkv) },
    workgroups: grid(Math.ceil(d_qkv.size / 4 / 64)),
    flops: (heads / kv_heads - 1) * 2 * kv_heads * d_head * d_qkv.rows,
  });
}

function checkHeads(
  label: string,
  { heads, kv_heads, d_head }: HeadGroups,
  tensors: { qkv: Tensor; q: Tensor; kv: Tensor; bias?: Tensor },
): void {
  if (d_head % 4 !== 0 || heads % kv_heads !== 0) {
    throw new RangeError(
      `${label}: ${heads} heads of width ${d_head} share ${kv_heads} of keys and values; expected a divisor, and a width that is a multiple of 4`,
    );
  }
  const { qkv, q, kv, bias } = tensors;
  const width = (heads + 2 * kv_heads) * d_head;
  const fits = qkv.width === width && q.width === heads * d_head && q.rows === qkv.rows &&
    kv.rows === qkv.rows && (bias?.size ?? width) === width;
  if (!fits) {
    const shapes = Object.values(tensors).map(({ name, shape }) => `${name} [${shape}]`);
    throw new RangeError(
      `${label}: ${shapes.join(", ")} do not fit ${heads} heads of ${d_head}`,
    );
  }
}
