/**
 * Multi-head latent attention, forward and backward, over whole sequences (`spec`: Attention).
 *
 * ```
 * c_q          = rmsnorm(x W_dq)            q       = c_q W_uq
 * [c_kv | k_r] = x W_dkv                    [k_n|v] = rmsnorm(c_kv) W_ukv
 * y            = residual + concat_h(softmax([q_n ; R(q_r)] [k_n ; R(k_r)]ᵀ / √(nope+rope), causal) v) W_o
 * ```
 *
 * @module
 */

import type { Tensor } from "../../gpu/tensor.ts";
import { attentionBackward, attentionForward } from "../../ops/attention/attention.ts";
import type { AttentionSizes } from "../../ops/attention/attention_operands.ts";
import { cast } from "../../ops/elementwise/cast.ts";
import { gemm } from "../../ops/gemm/gemm.ts";
import { matrix } from "../../ops/gemm/matrix.ts";
import { rmsnormBackward, rmsnormForward } from "../../ops/norm/rmsnorm.ts";
import { rope } from "../../ops/attention/rope.ts";
import type { LayerContext } from "../../layer/context.ts";
import type { LayerInput } from "../../layer/kind.ts";
import type { MlaSection } from "./schema.ts";

/** The tensors that {@linkcode mlaForward} keeps for {@linkcode mlaBackward}. */
export interface MlaSaved {
  /** The normalised input. */
  readonly x: Tensor;
  /** `x W_dq` `[T, q_rank]`. */
  readonly down_q: Tensor;
  /** Scales of its norm `[T]`. */
  readonly scale_q: Tensor;
  /** Its norm `[T, q_rank]`. */
  readonly c_q: Tensor;
  /** `x W_dkv` `[T, kv_rank + rope]`. */
  readonly down_kv: Tensor;
  /** Scales of the norm of its first `kv_rank` columns `[T]`. */
  readonly scale_kv: Tensor;
  /** That norm `[T, kv_rank]`. */
  readonly c_kv: Tensor;
  /** Rotated queries `[T, heads·(nope+rope)]`. */
  readonly q: Tensor;
  /** Keys and values `[T, heads·(nope+v)]`. */
  readonly kv: Tensor;
  /** Rotated keys, shared by the heads `[T, rope]`. */
  readonly kr: Tensor;
  /** The heads' outputs `[T, heads·v]`. */
  readonly o: Tensor;
  /** Logarithms of the sums of exponentials `[heads, T]`. */
  readonly log_sum: Tensor;
}

/** Sizes of the attention that a context records. */
function sizesOf(
  { batch, length }: LayerContext,
  mla: MlaSection,
): AttentionSizes & { q_rank: number; kv_rank: number } {
  const { num_heads, d_nope, d_rope, d_v, q_lora_rank, kv_lora_rank } = mla;
  return {
    batch,
    length,
    heads: num_heads,
    d_nope,
    d_rope,
    d_v,
    q_rank: q_lora_rank,
    kv_rank: kv_lora_rank,
  };
}

/**
 * Records the forward pass.
 *
 * @param prefix Of the parameters' names: `layers.3.attn`.
 * @returns `y = residual + attention(x)` in a new f32 tensor, and what the backward pass reads.
 */
export function mlaForward(
  context: LayerContext,
  prefix: string,
  inputs: LayerInput & { readonly mla: MlaSection },
): { y: Tensor; saved: MlaSaved } {
  const { plan, tokens } = context;
  const { x, residual, mla } = inputs;
  const sizes = sizesOf(context, mla);
  const { heads, d_nope, d_rope, d_v, q_rank, kv_rank, length } = sizes;
  const weight = (name: string) => context.weight(`${prefix}.${name}`);
  return plan.scope(prefix, () => {
    const down_q = context.operand("down_q", tokens, q_rank);
    gemm(plan, "w_dq", { a: x, b: weight("w_dq"), c: down_q });
    const scale_q = context.activation("scale_q", tokens);
    const c_q = context.operand("c_q", tokens, q_rank);
    const q_gain = context.vector(`${prefix}.q_norm.weight`);
    rmsnormForward(plan, "q_norm", { x: down_q, gain: q_gain, y: c_q, scale: scale_q });
    const q = context.operand("q", tokens, heads * (d_nope + d_rope));
    gemm(plan, "w_uq", { a: c_q, b: weight("w_uq"), c: q });
    const angles = { base: mla.rope_base };
    rope(plan, "q_rope", {
      x: matrix(q, { columns: d_rope, start: d_nope }),
      groups: { count: heads, step: d_nope + d_rope },
      length,
      angles,
    });

    const down_kv = context.operand("down_kv", tokens, kv_rank + d_rope);
    gemm(plan, "w_dkv", { a: x, b: weight("w_dkv"), c: down_kv });
    const scale_kv = context.activation("scale_kv", tokens);
    const c_kv = context.operand("c_kv", tokens, kv_rank);
    rmsnormForward(plan, "kv_norm", {
      x: matrix(down_kv, { columns: kv_rank }),
      gain: context.vector(`${prefix}.kv_norm.weight`),
      y: c_kv,
      scale: scale_kv,
    });
    const kr = context.operand("kr", tokens, d_rope);
    rope(plan, "k_rope", {
      x: matrix(down_kv, { columns: d_rope, start: kv_rank }),
      y: matrix(kr),
      length,
      angles,
    });
    const kv = context.operand("kv", tokens, heads * (d_nope + d_v));
    gemm(plan, "w_ukv", { a: c_kv, b: weight("w_ukv"), c: kv });

    const o = context.operand("o", tokens, heads * d_v);
    const log_sum = context.activation("log_sum", heads, tokens);
    attentionForward(plan, "attention", { sizes, q, kv, kr, o, log_sum });
    const y = context.activation("y", tokens, residual.width);
    gemm(plan, "w_o", { a: o, b: weight("w_o"), c: y, epilogue: "add", addend: residual });
    return {
      y,
      saved: { x, down_q, scale_q, c_q, down_kv, scale_kv, c_kv, q, kv, kr, o, log_sum },
    };
  });
}

/**
 * Records the backward pass, with the gradients of all parameters.
 *
 * @param inputs `dy` `[T, D]`: gradient of the residual stream, f32. It reaches `residual` unchanged, which is the caller's to add.
 * @returns Gradient of `x`, `[T, D]`, f32.
 */
export function mlaBackward(
  context: LayerContext,
  prefix: string,
  inputs: { readonly dy: Tensor; readonly saved: MlaSaved; readonly mla: MlaSection },
): Tensor {
  const { plan, tokens } = context;
  const { dy, saved, mla } = inputs;
  const sizes = sizesOf(context, mla);
  const { heads, d_nope, d_rope, d_v, q_rank, kv_rank, length } = sizes;
  const weight = (name: string) => context.weight(`${prefix}.${name}`);
  /** Gradient of a matrix, from what it was multiplied with and the gradient of the product. */
  const weightGradient = (name: string, a: Tensor, gradient: Tensor) => {
    const { tensor, epilogue } = context.gradient(`${prefix}.${name}`);
    gemm(plan, `d_${name}`, { a, b: gradient, c: tensor, layout: "tn", epilogue });
  };
  return plan.scope(`${prefix}.backward`, () => {
    const g = cast(plan, "dy", dy, context.operandType);
    weightGradient("w_o", saved.o, g);
    const d_o = context.operand("d_o", tokens, heads * d_v);
    gemm(plan, "d_o", { a: g, b: weight("w_o"), c: d_o, layout: "nt" });

    const d_q = context.operand("d_q", tokens, heads * (d_nope + d_rope));
    const d_kv = context.operand("d_kv", tokens, heads * (d_nope + d_v));
    const d_kr = context.activation("d_kr", tokens, heads * d_rope);
    attentionBackward(plan, "attention", { ...saved, sizes, d_o, d_q, d_kv, d_kr });

    const angles = { base: mla.rope_base };
    rope(plan, "q_rope", {
      x: matrix(d_q, { columns: d_rope, start: d_nope }),
      groups: { count: heads, step: d_nope + d_rope },
      length,
      angles,
      inverse: true,
    });
    weightGradient("w_uq", saved.c_q, d_q);
    const d_c_q = context.operand("d_c_q", tokens, q_rank);
    gemm(plan, "d_c_q", { a: d_q, b: weight("w_uq"), c: d_c_q, layout: "nt" });
    const d_down_q = context.operand("d_down_q", tokens, q_rank);
    rmsnormBackward(plan, "q_norm", {
      x: saved.down_q,
      gain: context.vector(`${prefix}.q_norm.weight`),
      scale: saved.scale_q,
      dy: d_c_q,
      dx: d_down_q,
      dgain: context.gradient(`${prefix}.q_norm.weight`),
      gains: context.gains,
    });
    weightGradient("w_dq", saved.x, d_down_q);
    const dx = context.activation("dx", tokens, dy.width);
    gemm(plan, "dx_q", { a: d_down_q, b: weight("w_dq"), c: dx, layout: "nt" });

    weightGradient("w_ukv", saved.c_kv, d_kv);
    const d_c_kv = context.operand("d_c_kv", tokens, kv_rank);
    gemm(plan, "d_c_kv", { a: d_kv, b: weight("w_ukv"), c: d_c_kv, layout: "nt" });
    const d_down_kv = context.operand("d_down_kv", tokens, kv_rank + d_rope);
    rmsnormBackward(plan, "kv_norm", {
      x: matrix(saved.down_kv, { columns: kv_rank }),
      gain: context.vector(`${prefix}.kv_norm.weight`),
      scale: saved.scale_kv,
      dy: d_c_kv,
      dx: matrix(d_down_kv, { columns: kv_rank }),
      dgain: context.gradient(`${prefix}.kv_norm.weight`),
      gains: context.gains,
    });
    rope(plan, "k_rope", {
      x: matrix(d_kr, { columns: d_rope }),
      groups: { count: heads, step: d_rope },
      y: matrix(d_down_kv, { columns: d_rope, start: kv_rank }),
      length,
      angles,
      inverse: true,
    });
    weightGradient("w_dkv", saved.x, d_down_kv);
    gemm(plan, "dx_kv", {
      a: d_down_kv,
      b: weight("w_dkv"),
      c: dx,
      layout: "nt",
      epilogue: "accumulate",
    });
    return dx;
  });
}
