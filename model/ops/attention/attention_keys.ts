/**
 * Whole keys of every head, `[k_n | k_r]`, as matrix products take them, and what becomes of their gradient. Where heads share no
 * part of their keys, these are columns of keys and values already.
 *
 * @module
 */

import gradientSource from "../../../shaders/attention/attention_key_gradient.wgsl" with {
  type: "text",
};
import keysSource from "../../../shaders/attention/attention_keys.wgsl" with { type: "text" };
import { grid, read, write } from "../../gpu/kernel.ts";
import type { Plan } from "../../gpu/plan.ts";
import { BYTES, type Tensor } from "../../gpu/tensor.ts";
import type { AttentionSizes } from "./attention_operands.ts";

/** Tokens of a sequence from on which operands of products without matrix units are worth transposing. */
const TURNED_LENGTH = 256;

/** Vectors of four that an invocation moves. */
const EACH = 4;

/** Whether queries and keys should be transposed for products without matrix units. */
export function transposedPays(length: number): boolean {
  return length % 8 === 0 && length >= TURNED_LENGTH;
}

/** The common part of the calls that move whole keys. */
function move({ batch, length, heads, d_nope, d_rope, d_v }: AttentionSizes, keys: Tensor) {
  return {
    constants: { NOPE4: d_nope / 4, ROPE4: d_rope / 4, V4: d_v / 4, EACH },
    params: { tokens: batch * length, heads },
    workgroups: grid(Math.ceil(keys.size / 4 / 256 / EACH)),
    bytes: 2 * BYTES[keys.dtype] * keys.size,
  };
}

/** Keys of every head in a tensor `[T, heads·step]`: the first `nope + rope` columns of each head's. */
export interface WholeKeys {
  readonly tensor: Tensor;
  readonly step: number;
}

/** The whole keys of `kv` `[T, heads·(nope+v)]` and `kr` `[T, rope]`, for which a dispatch is recorded where there is a `kr`. */
export function wholeKeys(
  plan: Plan,
  label: string,
  { sizes, kv, kr }: { sizes: AttentionSizes; kv: Tensor; kr?: Tensor | undefined },
): WholeKeys {
  const { batch, length, heads, d_nope, d_rope, d_v } = sizes;
  if (!kr) return { tensor: kv, step: d_nope + d_v };
  const shape = [batch * length, heads * (d_nope + d_rope)];
  const keys = plan.tensor(`${label}.keys`, shape, { dtype: kv.dtype, owner: "workspace" });
  plan.dispatch({
    ...move(sizes, keys),
    label: `${label}.keys`,
    name: "attention_keys",
    source: keysSource,
    bindings: { kv: read(kv), kr: read(kr), keys: write(keys) },
  });
  return { tensor: keys, step: d_nope + d_rope };
}

/** Records how the gradient of whole keys goes to `d_kv` and `d_kr` `[T, heads·rope]`. */
export function partKeys(
  plan: Plan,
  label: string,
  tensors: { sizes: AttentionSizes; d_keys: Tensor; d_kv: Tensor; d_kr: Tensor },
): void {
  const { sizes, d_keys, d_kv, d_kr } = tensors;
  plan.dispatch({
    ...move(sizes, d_keys),
    label: `${label}.key_gradient`,
    name: "attention_key_gradient",
    source: gradientSource,
    bindings: { d_keys: read(d_keys), d_kv: write(d_kv), d_kr: write(d_kr) },
  });
}
