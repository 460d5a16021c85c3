/**
 * Multi-head attention, forward and backward, over whole sequences.
 *
 * ```
 * [q | k | v] = x W_qkv + b_qkv            each by heads; the first d_rope columns of a head's q and k turn with the position
 * y           = residual + drop(concat_h(drop(softmax(q_h k_hᵀ / √d_head, causal)) v_h) W_o + b_o)
 * ```
 *
 * Where heads share keys and values, each of them gets a copy.
 *
 * @module
 */

import type { Tensor } from "../../gpu/tensor.ts";
import type { LayerContext } from "../../layer/context.ts";
import type { LayerInput } from "../../layer/kind.ts";
import { attentionBackward, attentionForward } from "../../ops/attention/attention.ts";
import type { AttentionSizes } from "../../ops/attention/attention_operands.ts";
import { joinHeads, splitHeads } from "../../ops/attention/heads.ts";
import { rope } from "../../ops/attention/rope.ts";
import { dropoutRows } from "../../ops/dropout/dropout.ts";
import { addResidual } from "../../ops/elementwise/add_residual.ts";
import { cast } from "../../ops/elementwise/cast.ts";
import { columnSums } from "../../ops/elementwise/column_sums.ts";
import { gemm } from "../../ops/gemm/gemm.ts";
import { matrix } from "../../ops/gemm/matrix.ts";
import { headsOf, type MhaSection, rotaryAngles } from "./schema.ts";

/** The tensors that {@linkcode mhaForward} keeps for {@linkcode mhaBackward}. */
export interface MhaSaved {
  /** The normalised input. */
  readonly x: Tensor;
  /** Queries `[T, heads·d_head]`, rotated. */
  readonly q: Tensor;
  /** Keys, rotated, and values of every head `[T, heads·2·d_head]`. */
  readonly kv: Tensor;
  /** The heads' outputs `[T, heads·d_head]`. */
  readonly o: Tensor;
  /** Logarithms of the sums of exponentials `[heads, T]`. */
  readonly log_sum: Tensor;
}

/** Sizes of the attention that a context records. */
function sizesOf({ batch, length }: LayerContext, mha: MhaSection, d_model: number) {
  const groups = headsOf(mha, { d_model });
  const { heads, d_head } = groups;
  const sizes: AttentionSizes = { batch, length, heads, d_nope: d_head, d_rope: 0, d_v: d_head };
  return { groups, sizes, width: heads * d_head };
}

/** Where numbers are dropped, under the layer's name. */
function places(context: LayerContext, prefix: string, { dropout }: MhaSection) {
  return {
    probabilities: context.dropout(`${prefix}.probabilities`, dropout),
    output: context.dropout(`${prefix}.output`, dropout),
  };
}

/** Records how queries, and the keys among keys and values of `kv_heads` heads, turn with the position. */
export function rotateHeads(
  context: LayerContext,
  label: string,
  heads: {
    readonly mha: MhaSection;
    readonly d_head: number;
    readonly q: Tensor;
    readonly kv: Tensor;
    readonly inverse?: boolean;
    /** Of the first row, and the most positions; 0 and the length of a sequence unless given. */
    readonly place?: { readonly position: Tensor; readonly positions: number };
  },
): void {
  const { mha, d_head, q, kv, inverse = false, place } = heads;
  const { d_rope } = mha;
  if (d_rope === 0) return;
  const parts = [["q_rope", q, d_head], ["k_rope", kv, 2 * d_head]] as const;
  for (const [name, tensor, step] of parts) {
    rope(context.plan, `${label}${name}`, {
      x: matrix(tensor, { columns: d_rope }),
      groups: { count: tensor.width / step, step },
      length: context.length,
      angles: rotaryAngles(mha),
      inverse,
      ...place,
    });
  }
}

/**
 * Records the forward pass.
 *
 * @param prefix Of the parameters' names: `layers.3.attn`.
 * @returns `y = residual + attention(x)` in a new f32 tensor, and what the backward pass reads.
 */
export function mhaForward(
  context: LayerContext,
  prefix: string,
  inputs: LayerInput & { readonly mha: MhaSection },
): { y: Tensor; saved: MhaSaved } {
  const { plan, tokens } = context;
  const { x, residual, mha } = inputs;
  const { groups, sizes, width } = sizesOf(context, mha, x.width);
  const drop = places(context, prefix, mha);
  return plan.scope(prefix, () => {
    const w_qkv = context.weight(`${prefix}.w_qkv`);
    const qkv = context.operand("qkv", tokens, w_qkv.width);
    gemm(plan, "w_qkv", { a: x, b: w_qkv, c: qkv });
    const q = context.operand("q", tokens, width);
    const kv = context.operand("kv", tokens, 2 * width);
    const bias = mha.bias ? context.vector(`${prefix}.b_qkv`) : undefined;
    splitHeads(plan, "heads", { groups, qkv, bias, q, kv });
    rotateHeads(context, "", { mha, d_head: groups.d_head, q, kv });
    const o = context.operand("o", tokens, width);
    const log_sum = context.activation("log_sum", sizes.heads, tokens);
    attentionForward(plan, "attention", { sizes, q, kv, o, log_sum, dropout: drop.probabilities });
    const y = mhaOutput(context, prefix, { mha, o, residual });
    return { y, saved: { x, q, kv, o, log_sum } };
  });
}

/** Records `residual + drop(o W_o + b_o)`, a new f32 tensor. */
export function mhaOutput(
  context: LayerContext,
  prefix: string,
  inputs: { readonly mha: MhaSection; readonly o: Tensor; readonly residual: Tensor },
): Tensor {
  const { plan, tokens } = context;
  const { mha, o, residual } = inputs;
  const y = context.activation("y", tokens, residual.width);
  const product = { a: o, b: context.weight(`${prefix}.w_o`) };
  const dropout = places(context, prefix, mha).output;
  if (!mha.bias && !dropout) {
    gemm(plan, "w_o", { ...product, c: y, epilogue: "add", addend: residual });
    return y;
  }
  const projected = context.activation("projected", tokens, residual.width);
  gemm(plan, "w_o", { ...product, c: projected });
  const bias = mha.bias ? context.vector(`${prefix}.b_o`) : undefined;
  addResidual(plan, "output", { x: projected, bias, dropout, residual, y });
  return y;
}

/**
 * Records the backward pass, with the gradients of all parameters.
 *
 * @param inputs `dy` `[T, D]`: gradient of the residual stream, f32. It reaches `residual` unchanged, which is the caller's to add.
 * @returns Gradient of `x`, `[T, D]`, f32.
 */
export function mhaBackward(
  context: LayerContext,
  prefix: string,
  inputs: { readonly dy: Tensor; readonly saved: MhaSaved; readonly mha: MhaSection },
): Tensor {
  const { plan, tokens } = context;
  const { dy, saved, mha } = inputs;
  const { groups, sizes, width } = sizesOf(context, mha, saved.x.width);
  const { heads, kv_heads, d_head } = groups;
  const drop = places(context, prefix, mha);
  const weight = (name: string) => context.weight(`${prefix}.${name}`);
  const weightGradient = (name: string, a: Tensor, gradient: Tensor) => {
    const { tensor, epilogue } = context.gradient(`${prefix}.${name}`);
    gemm(plan, `d_${name}`, { a, b: gradient, c: tensor, layout: "tn", epilogue });
  };
  return plan.scope(`${prefix}.backward`, () => {
    const g = drop.output
      ? context.operand("d_projected", tokens, dy.width)
      : cast(plan, "dy", dy, context.operandType);
    if (drop.output) dropoutRows(plan, "d_output", { x: dy, y: g, dropout: drop.output });
    if (mha.bias) columnSums(plan, "d_b_o", { x: g, y: context.gradient(`${prefix}.b_o`) });
    weightGradient("w_o", saved.o, g);
    const d_o = context.operand("d_o", tokens, width);
    gemm(plan, "d_o", { a: g, b: weight("w_o"), c: d_o, layout: "nt" });

    const d_q = context.operand("d_q", tokens, width);
    const d_kv = context.operand("d_kv", tokens, 2 * width);
    const dropout = drop.probabilities;
    attentionBackward(plan, "attention", { ...saved, sizes, d_o, d_q, d_kv, dropout });
    rotateHeads(context, "d_", { mha, d_head, q: d_q, kv: d_kv, inverse: true });
    const d_qkv = context.operand("d_qkv", tokens, (heads + 2 * kv_heads) * d_head);
    joinHeads(plan, "d_heads", { groups, d_q, d_kv, d_qkv });
    if (mha.bias) {
      // A bias of keys that do not turn adds one number to all scores of a query, which changes nothing.
      const first = heads * d_head;
      const held = { first, end: first + kv_heads * d_head, step: d_head, free: mha.d_rope };
      columnSums(plan, "d_b_qkv", { x: d_qkv, y: context.gradient(`${prefix}.b_qkv`), held });
    }
    weightGradient("w_qkv", saved.x, d_qkv);
    const dx = context.activation("dx", tokens, dy.width);
    gemm(plan, "dx", { a: d_qkv, b: weight("w_qkv"), c: dx, layout: "nt" });
    return dx;
  });
}
