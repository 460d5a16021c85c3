/**
 * The product-key router as a layer: queries, batch norm, the choice of experts, and their gradients.
 *
 * ```
 * q      = batchnorm(x W_q + b_q)           per head [q1 | q2]
 * s1     = q1 K1ᵀ       s2 = q2 K2ᵀ
 * (r, c) = the k best of the k×k sums of the k best of each axis
 * expert = r·K + c      score = softmax over the kept sums
 * ```
 *
 * @module
 */

import { subKeys } from "../../config.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import {
  addBias,
  batchNorm,
  batchNormBackward,
  type BatchStatistics,
  biasGradient,
} from "../../ops/norm/batch_norm.ts";
import { cast } from "../../ops/elementwise/cast.ts";
import { gemm } from "../../ops/gemm/gemm.ts";
import { queryStatistics, route, routeBackward, type Routed } from "../../ops/routing/routing.ts";
import type { LayerContext } from "../../layer/context.ts";

/** What {@linkcode routerForward} returns, and {@linkcode routerBackward} reads. */
export interface RouterSaved {
  /** The layer's input, `[T, D]`. */
  readonly x: Tensor;
  /** `x W_q` without the bias, `[T, H·d_query]`; only with batch norm. */
  readonly raw: Tensor;
  /** What the scores are made of, `[T, H·d_query]`. */
  readonly query: Tensor;
  /** What the queries were normalised by; undefined without batch norm. */
  readonly statistics: BatchStatistics | undefined;
  /** The kept experts. */
  readonly routed: Routed;
}

function routing(context: LayerContext, prefix: string) {
  const { config, tokens } = context;
  return {
    sizes: {
      tokens,
      heads: config.routing_heads,
      top_k: config.top_k,
      sub_keys: subKeys(config),
      d_query: config.d_query,
    },
    sub_keys: [context.weight(`${prefix}.k1`), context.weight(`${prefix}.k2`)] as const,
    balance: config.load_balance_coef,
  };
}

/**
 * Records the router.
 *
 * @param prefix Of the weights' names: `layers.3.ffn.router`.
 * @param x `[T, D]`, normalised, in the operands' type.
 */
export function routerForward(context: LayerContext, prefix: string, x: Tensor): RouterSaved {
  const { plan, config, tokens } = context;
  const width = config.routing_heads * config.d_query;
  const raw = context.operand(`${prefix}.raw`, tokens, width);
  gemm(plan, `${prefix}.raw`, { a: x, b: context.weight(`${prefix}.w_q`), c: raw });
  const query = context.operand(`${prefix}.query`, tokens, width);
  const bias = context.vector(`${prefix}.b_q`);
  let statistics: BatchStatistics | undefined;
  if (config.router_batch_norm) {
    statistics = batchNorm(plan, `${prefix}.bn`, {
      x: raw,
      y: query,
      weights: {
        gamma: context.vector(`${prefix}.bn.gamma`),
        beta: context.vector(`${prefix}.bn.beta`),
        bias,
        running_mean: context.vector(`${prefix}.bn.mean`),
        running_variance: context.vector(`${prefix}.bn.var`),
      },
      training: context.mode === "train",
      updateRunning: !context.recomputing,
    });
  } else addBias(plan, `${prefix}.bias`, { x: raw, bias, y: query });
  const { balance, ...rest } = routing(context, prefix);
  const routed = route(plan, prefix, {
    ...rest,
    query,
    // The term is part of what training minimises, and of nothing else.
    ...(balance > 0 && context.mode === "train" && { balance }),
  });
  return { x, raw, query, statistics, routed };
}

/**
 * Records the router's gradients. `b_q` gets none under batch norm, which cancels it exactly.
 *
 * @param options `dscore` f32 `[T, H·k]`; `loss_scale` f32 `[1]` multiplies the load-balance gradient; `dx` f32 `[T, D]` is
 * added to.
 */
export function routerBackward(
  context: LayerContext,
  prefix: string,
  saved: RouterSaved,
  options: { dscore: Tensor; dx: Tensor; loss_scale?: Tensor },
): void {
  const { plan, config } = context;
  const { query, raw, statistics, routed } = saved;
  const dquery = context.operand(`${prefix}.dquery`, ...query.shape);
  const { balance, ...rest } = routing(context, prefix);
  routeBackward(plan, prefix, {
    ...rest,
    query,
    routed,
    dscore: options.dscore,
    dquery,
    gradients: [context.gradient(`${prefix}.k1`), context.gradient(`${prefix}.k2`)],
    ...(balance > 0 && { balance: balance * context.share }),
    ...(options.loss_scale && { loss_scale: options.loss_scale }),
  });
  let draw: Tensor;
  if (config.router_batch_norm) {
    if (!statistics) throw new Error(`${prefix}: the forward pass did not normalise`);
    draw = context.operand(`${prefix}.draw`, ...query.shape);
    batchNormBackward(plan, `${prefix}.bn`, {
      x: raw,
      dy: dquery,
      dx: draw,
      gamma: context.vector(`${prefix}.bn.gamma`),
      statistics,
      gradients: {
        gamma: context.gradient(`${prefix}.bn.gamma`),
        beta: context.gradient(`${prefix}.bn.beta`),
      },
    });
  } else {
    biasGradient(plan, `${prefix}.db_q`, {
      dy: dquery,
      gradient: context.gradient(`${prefix}.b_q`),
    });
    draw = cast(plan, `${prefix}.draw`, dquery, context.operandType);
  }
  const w_q = context.gradient(`${prefix}.w_q`);
  gemm(plan, `${prefix}.dw_q`, {
    a: saved.x,
    b: draw,
    c: w_q.tensor,
    layout: "tn",
    epilogue: w_q.epilogue,
  });
  gemm(plan, `${prefix}.dx`, {
    a: draw,
    b: context.weight(`${prefix}.w_q`),
    c: options.dx,
    layout: "nt",
    epilogue: "accumulate",
  });
}

/** Records mean and standard deviation of the norm of a head's query, for metrics: f32 `[4]`, of which the first two. */
export function routerQueryStatistics(
  context: LayerContext,
  prefix: string,
  saved: RouterSaved,
): Tensor {
  const { d_query } = context.config;
  return queryStatistics(context.plan, `${prefix}.query_norm`, { query: saved.query, d_query });
}
