/**
 * The ETHOS feed-forward layer: the router chooses, the generated experts compute.
 *
 * ```
 * h_i = gelu(z_i W1)                  or, context-aware, gelu([z_i ; x_t W_c] W1)
 * y   = (Σ over the kept experts of gelu(h_i · x W_u) · s · h_i) W_v
 * ```
 *
 * Three executions give the same numbers: `materialized` generates every expert once a pass, `fused` generates each kept expert
 * inside the kernel that uses it (Algorithm 1 of the paper), `naive` forms `u_i = h_i W_uᵀ` and `v_i = h_i W_v` of every kept expert.
 *
 * @module
 */

import type { Tensor } from "../../gpu/tensor.ts";
import { cast } from "../../ops/elementwise/cast.ts";
import type { Generator } from "../../ops/experts/experts.ts";
import { expertsFused, expertsFusedBackward } from "../../ops/experts/experts_fused.ts";
import {
  expertsMaterialized,
  expertsMaterializedBackward,
} from "../../ops/experts/experts_materialized.ts";
import { expertsNaive, expertsNaiveBackward } from "../../ops/experts/experts_naive.ts";
import { unpackScores } from "../../ops/experts/experts_packed.ts";
import { gemm } from "../../ops/gemm/gemm.ts";
import { matrix } from "../../ops/gemm/matrix.ts";
import type { LayerContext } from "../../layer/context.ts";
import type { KeptExperts, LayerInput } from "../../layer/kind.ts";
import { routerOf, type RouterPass } from "./router.ts";
import type { EthosSection, ProductKeyEthosSection } from "./schema.ts";

/** How experts are executed. */
export type Execution = Exclude<ProductKeyEthosSection["execution"], "auto">;

/** Inputs of {@linkcode ethosForward}. */
export interface EthosInput extends LayerInput {
  readonly ethos: EthosSection;
  /** The kept experts, when another plan ran the router: it is then part of neither pass. */
  readonly kept?: KeptExperts;
  /** Bytes that the fused and the naive execution may take for what they form at a time; defaults to 16 and 256 MiB. */
  readonly workspace_bytes?: number;
}

/** Inputs of {@linkcode ethosBackward}. */
export interface EthosGradientInput {
  readonly ethos: EthosSection;
  /** f32 `[T, D]`. */
  readonly dy: Tensor;
  readonly saved: EthosSaved;
  /** f32, of which the first number counts: the factor in `dy`, by which the load-balance gradient is scaled alike. */
  readonly loss_scale?: Tensor;
  /** As in {@linkcode EthosInput}. */
  readonly workspace_bytes?: number;
}

/** The tensors of the forward pass that {@linkcode ethosBackward} reads. */
export interface EthosSaved {
  /** How the experts were executed. */
  readonly execution: Execution;
  /** The layer's input, `[T, D]`. */
  readonly x: Tensor;
  /** The kept experts, as the router gives them. */
  readonly kept: KeptExperts;
  /** The router's pass, where it is part of this one. */
  readonly router?: RouterPass;
  /** The generator's operands that come from the tokens; not in the naive execution. */
  readonly generator?: Generator;
  /** `x W_c`, `[T, d_context]`, when context-aware. */
  readonly code?: Tensor;
  /** The kept experts' sum, `[T, d_hidden]`; not in the naive execution. */
  readonly acc?: Tensor;
  /** The table of all experts, of the materialised execution where it is small. */
  readonly table?: Tensor;
}

/** The result of {@linkcode ethosForward}. */
export interface EthosResult {
  /** `residual + experts`, f32 `[T, D]`. */
  readonly y: Tensor;
  /** The tensors that the backward pass reads. */
  readonly saved: EthosSaved;
  /** Kept experts, u32 `[T, H·k]`; with beams their rows in the factored table, `[T, H·k·A]`. */
  readonly index: Tensor;
  /** The load-balance term with its coefficient, f32 `[1]`; in training, when the coefficient is not 0. */
  readonly balance?: Tensor;
}

/** Experts for each that the tokens keep up to which training on a processor generates every one: its products are that much faster than its fused kernels. */
const SOFTWARE_EXPERTS = 3;

/**
 * The execution for a pass: the configured one, or with `auto` materialised when the tokens keep more experts than there are,
 * `T·H·k > N`, and fused otherwise. In training on a software adapter it is materialised up to `3·T·H·k = N`. Behind a beam router there are too many experts to
 * generate each: `auto` is always fused.
 *
 * @example
 * ```ts
 * import { chooseExecution } from "./ethos.ts";
 * import { ethosSchema } from "./schema.ts";
 * const ethos = ethosSchema.parse({ kind: "ethos" });
 * console.assert(chooseExecution(ethos, 2048) === "fused");
 * console.assert(chooseExecution(ethos, 2049) === "materialized");
 * console.assert(chooseExecution(ethos, 2048, { software: true }) === "materialized");
 * ```
 */
export function chooseExecution(
  ethos: EthosSection,
  tokens: number,
  { software = false }: { readonly software?: boolean | undefined } = {},
): Execution {
  if (ethos.execution !== "auto") return ethos.execution;
  if (ethos.router === "beam") return "fused";
  const assignments = tokens * ethos.routing_heads * ethos.top_k;
  const every = software
    ? SOFTWARE_EXPERTS * assignments >= ethos.num_experts
    : assignments > ethos.num_experts;
  return every ? "materialized" : "fused";
}

/**
 * Records the layer.
 *
 * @param prefix Of the weights' names: `layers.3.ffn`.
 */
export function ethosForward(
  context: LayerContext,
  prefix: string,
  input: EthosInput,
): EthosResult {
  const { plan, tokens } = context;
  const { x, residual, ethos, kept: given, ...limits } = input;
  const { d_hidden, d_context, d_latent } = ethos;
  // Only in training: a sequence that is decoded alone has the bits that it has beside a few others.
  const software = context.mode === "train" && plan.gpu.capabilities.software;
  const execution = chooseExecution(ethos, tokens, { software });
  const routing = routerOf(ethos);
  const router = given ? undefined : routing.forward(context, `${prefix}.router`, x);
  const routed: KeptExperts = given ?? router!.kept;
  context.chosen({ at: prefix, index: routed.index, score: routed.score });
  const balance = router?.balance;
  const y = context.activation(`${prefix}.y`, tokens, residual.width);
  const w1 = context.weight(`${prefix}.w1`);
  const { z, kept } = routing.codes(context, prefix, routed);

  let code: Tensor | undefined;
  if (d_context > 0) {
    code = context.operand(`${prefix}.code`, tokens, d_context);
    gemm(plan, `${prefix}.code`, { a: x, b: context.weight(`${prefix}.w_c`), c: code });
  }
  const common = {
    y,
    index: routed.index,
    ...(balance && { balance }),
  };
  const saved = { execution, x, kept: routed, ...(router && { router }), ...(code && { code }) };
  if (execution === "naive") {
    plan.copy(residual, y);
    expertsNaive(plan, prefix, {
      z,
      w1,
      w_u: context.weight(`${prefix}.w_u`),
      w_v: context.weight(`${prefix}.w_v`),
      x,
      ...(code && { code }),
      kept,
      dtype: context.operandType,
      y,
      ...limits,
    });
    return { ...common, saved };
  }

  const stride = d_context > 0 ? 2 * d_hidden : d_hidden;
  const projected = context.operand(`${prefix}.xp`, tokens, stride);
  gemm(plan, `${prefix}.xp`, {
    a: x,
    b: context.weight(`${prefix}.w_u`),
    c: matrix(projected, { columns: d_hidden }),
  });
  if (code) {
    gemm(plan, `${prefix}.context`, {
      a: code,
      b: matrix(w1, { start: d_latent * d_hidden, rows: d_context }),
      c: matrix(projected, { start: d_hidden, stride, rows: tokens, columns: d_hidden }),
    });
  }
  const generator: Generator = { z, w1, tokens: projected, context: d_context > 0 };
  const operands = { generator, kept, dtype: context.operandType };
  const sums = execution === "fused"
    ? { acc: expertsFused(plan, prefix, operands) }
    : expertsMaterialized(plan, prefix, operands);
  gemm(plan, `${prefix}.y`, {
    a: sums.acc,
    b: context.weight(`${prefix}.w_v`),
    c: y,
    epilogue: "add",
    addend: residual,
  });
  return { ...common, saved: { ...saved, generator, ...sums } };
}

/**
 * Records the layer's gradients, of its parameters and of `x`; the residual's is `dy` itself.
 *
 * @returns The gradient of `x`, f32 `[T, D]`.
 */
export function ethosBackward(
  context: LayerContext,
  prefix: string,
  input: EthosGradientInput,
): Tensor {
  const { plan, tokens } = context;
  const { ethos, dy, saved, loss_scale, ...limits } = input;
  const { d_hidden, d_latent, d_context } = ethos;
  const { x, router, acc, table, code } = saved;
  const dtype = context.operandType;
  const dx = context.activation(`${prefix}.dx`, tokens, dy.width);
  const dscore = context.activation(`${prefix}.dscore`, ...saved.kept.score.shape);
  const dyOperand = cast(plan, `${prefix}.dy`, dy, dtype);
  const w1 = context.gradient(`${prefix}.w1`);
  const codes = routerOf(ethos).codeGradients(context, prefix, saved.kept);
  const { z, kept } = codes;
  const { packed } = kept;
  const found = packed ? context.activation(`${prefix}.dkept`, ...dscore.shape) : dscore;
  const gradients = { z: codes.gradients, w1 };
  const w_u = context.gradient(`${prefix}.w_u`);
  const w_v = context.gradient(`${prefix}.w_v`);
  const weight = {
    w1: context.weight(`${prefix}.w1`),
    w_u: context.weight(`${prefix}.w_u`),
    w_v: context.weight(`${prefix}.w_v`),
  };

  let dcode: Tensor | undefined;
  if (saved.execution === "naive") {
    dcode = expertsNaiveBackward(plan, prefix, {
      z,
      ...weight,
      x,
      ...(code && { code }),
      kept,
      dtype,
      dy,
      dx,
      dscore: found,
      gradients: { ...gradients, w_u, w_v },
      ...limits,
    });
  } else {
    if (!saved.generator || !acc) throw new Error(`${prefix}: the forward pass kept nothing`);
    const generator = { ...saved.generator, z };
    gemm(plan, `${prefix}.dw_v`, {
      a: acc,
      b: dyOperand,
      c: w_v.tensor,
      layout: "tn",
      epilogue: w_v.epilogue,
    });
    const dacc = context.operand(`${prefix}.dacc`, tokens, d_hidden);
    gemm(plan, `${prefix}.dacc`, { a: dyOperand, b: weight.w_v, c: dacc, layout: "nt" });
    const shared = {
      ...{ generator, kept, dacc, dtype, gradients },
      sorted: codes.sorted(),
      dscore: found,
    };
    const dtokens = saved.execution === "fused"
      ? expertsFusedBackward(plan, prefix, { ...shared, ...limits })
      : expertsMaterializedBackward(plan, prefix, { ...shared, ...(table && { table }) });
    const stride = dtokens.width;
    const dxp = matrix(dtokens, { columns: d_hidden });
    gemm(plan, `${prefix}.dw_u`, {
      a: x,
      b: dxp,
      c: w_u.tensor,
      layout: "tn",
      epilogue: w_u.epilogue,
    });
    gemm(plan, `${prefix}.dx`, { a: dxp, b: weight.w_u, c: dx, layout: "nt" });
    if (code) {
      const place = { start: d_latent * d_hidden, rows: d_context };
      const dshare = matrix(dtokens, { start: d_hidden, stride, rows: tokens, columns: d_hidden });
      gemm(plan, `${prefix}.dw1_context`, {
        a: code,
        b: dshare,
        c: matrix(w1.tensor, place),
        layout: "tn",
        epilogue: w1.epilogue,
      });
      dcode = context.operand(`${prefix}.dcode`, tokens, d_context);
      gemm(plan, `${prefix}.dcode`, {
        a: dshare,
        b: matrix(weight.w1, place),
        c: dcode,
        layout: "nt",
      });
    }
  }
  if (dcode) {
    const w_c = context.gradient(`${prefix}.w_c`);
    gemm(plan, `${prefix}.dw_c`, {
      a: x,
      b: dcode,
      c: w_c.tensor,
      layout: "tn",
      epilogue: w_c.epilogue,
    });
    gemm(plan, `${prefix}.dx_context`, {
      a: dcode,
      b: context.weight(`${prefix}.w_c`),
      c: dx,
      layout: "nt",
      epilogue: "accumulate",
    });
  }
  codes.finish();
  if (packed) {
    unpackScores(plan, `${prefix}.dscore`, { kept: { ...kept, packed }, found, dscore });
  }
  router?.backward({ dscore, dx, ...(loss_scale && { loss_scale }) });
  return dx;
}
