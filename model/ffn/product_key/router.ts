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
import {
  ones,
  type ParameterSpec,
  type StatisticSpec,
  vector,
  weight,
  zeros,
} from "../../layer/parameter.ts";
import type { ExpertUse, TrunkSizes } from "../../layer/kind.ts";
import { keptStatistics } from "../../ops/routing/routing_keep.ts";
import { keepRule, type ProductKeySection, subKeys } from "./schema.ts";

/** Pairs of a token and a kept expert, or an id of one, in one micro-batch; indices and offsets stay below 2³¹ bytes. */
const MAXIMUM_ASSIGNMENTS = 2 ** 28;

/** The tensors that {@linkcode routerForward} returns and {@linkcode routerBackward} reads. */
export interface RouterSaved {
  /** The layer's input, `[T, D]`. */
  readonly x: Tensor;
  /** `x W_q` without the bias, `[T, H·d_query]`; only with batch norm. */
  readonly raw: Tensor;
  /** The queries, normalised where there is batch norm, `[T, H·d_query]`. */
  readonly query: Tensor;
  /** The statistics that normalised the queries; undefined without batch norm. */
  readonly statistics: BatchStatistics | undefined;
  /** The kept experts. */
  readonly routed: Routed;
}

/** Parameters of a router under the prefix `at`. */
export function routerParameters(
  section: ProductKeySection,
  { d_model }: TrunkSizes,
  at: string,
): ParameterSpec[] {
  const { routing_heads, d_query, router_batch_norm } = section;
  const width = routing_heads * d_query;
  const keys = [subKeys(section), d_query / 2];
  const role = "router";
  const std = 1 / Math.sqrt(d_query / 2);
  return [
    weight(`${at}.w_q`, [d_model, width], { role }),
    { ...vector(`${at}.b_q`, width, { role, init: zeros }), held: router_batch_norm },
    ...(router_batch_norm
      ? [
        vector(`${at}.bn.gamma`, width, { role, init: ones }),
        vector(`${at}.bn.beta`, width, { role, init: zeros }),
      ]
      : []),
    weight(`${at}.k1`, keys, { role, std }),
    weight(`${at}.k2`, keys, { role, std }),
  ];
}

/** Running statistics of a router under the prefix `at`; none without batch norm. */
export function routerStatistics(section: ProductKeySection, at: string): StatisticSpec[] {
  if (!section.router_batch_norm) return [];
  const shape = [section.routing_heads * section.d_query];
  return [
    { name: `${at}.bn.mean`, shape, init: zeros },
    { name: `${at}.bn.var`, shape, init: ones },
  ];
}

/** Operations of a token: queries, and scores of the sub-keys of both axes. */
export function routerFlops(section: ProductKeySection, { d_model }: TrunkSizes): number {
  const { routing_heads, d_query } = section;
  return 2 * d_model * routing_heads * d_query +
    2 * routing_heads * 2 * (d_query / 2) * subKeys(section);
}

/** The reasons why a router cannot train on so many tokens at once; empty when it can. */
export function routerProblems(section: ProductKeySection, tokens: number): string[] {
  if (section.router_batch_norm && tokens < 2) {
    return [
      "1 token in a micro-batch has no variance for the router's batch norm; at least 2 tokens " +
      "(sequence_length · micro_batch), or model.ffn.router_batch_norm: false",
    ];
  }
  return assignmentProblems(section, { tokens });
}

/** The reasons why tokens cannot be assigned to experts at once, whatever the router; `axes` are the ids of an expert. */
export function assignmentProblems(
  { routing_heads, top_k }: { readonly routing_heads: number; readonly top_k: number },
  { tokens, axes = 1 }: { readonly tokens: number; readonly axes?: number },
): string[] {
  const assignments = tokens * routing_heads * top_k * axes;
  if (assignments <= MAXIMUM_ASSIGNMENTS) return [];
  const each = axes > 1 ? ` of ${axes} ids` : "";
  return [
    `${tokens} tokens with ${routing_heads} · ${top_k} experts${each} each are ` +
    `${assignments} assignments at once; at most ${MAXIMUM_ASSIGNMENTS}: ` +
    "lower train.micro_batch and raise gradient_accumulation",
  ];
}

function routing(context: LayerContext, prefix: string, section: ProductKeySection) {
  const keep = keepRule(section);
  return {
    ...(keep && { keep }),
    sizes: {
      tokens: context.tokens,
      heads: section.routing_heads,
      top_k: section.top_k,
      sub_keys: subKeys(section),
      d_query: section.d_query,
    },
    sub_keys: [context.weight(`${prefix}.k1`), context.weight(`${prefix}.k2`)] as const,
    balance: section.load_balance_coef,
  };
}

/**
 * Records the router.
 *
 * @param prefix Of the weights' names: `layers.3.ffn.router`.
 * @param inputs `x` `[T, D]`, normalised, in the operands' type; `router`, the sizes.
 */
export function routerForward(
  context: LayerContext,
  prefix: string,
  inputs: { readonly x: Tensor; readonly router: ProductKeySection },
): RouterSaved {
  const { plan, tokens } = context;
  const { x, router } = inputs;
  const width = router.routing_heads * router.d_query;
  const raw = context.operand(`${prefix}.raw`, tokens, width);
  gemm(plan, `${prefix}.raw`, { a: x, b: context.weight(`${prefix}.w_q`), c: raw });
  const query = context.operand(`${prefix}.query`, tokens, width);
  const bias = context.vector(`${prefix}.b_q`);
  let statistics: BatchStatistics | undefined;
  if (router.router_batch_norm) {
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
  const { balance, ...rest } = routing(context, prefix, router);
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
  options: {
    router: ProductKeySection;
    saved: RouterSaved;
    dscore: Tensor;
    dx: Tensor;
    loss_scale?: Tensor;
  },
): void {
  const { plan } = context;
  const { router, saved } = options;
  const { query, raw, statistics, routed } = saved;
  const dquery = context.operand(`${prefix}.dquery`, ...query.shape);
  const { balance, ...rest } = routing(context, prefix, router);
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
  if (router.router_batch_norm) {
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
  options: { router: ProductKeySection; saved: RouterSaved },
): Tensor {
  const { router: { d_query }, saved: { query } } = options;
  return queryStatistics(context.plan, `${prefix}.query_norm`, { query, d_query });
}

/** How a recorded pass of the router used the experts. */
export function routerUse(
  context: LayerContext,
  prefix: string,
  options: { router: ProductKeySection; saved: RouterSaved },
): ExpertUse {
  const { router, saved: { routed: { index, kept } } } = options;
  const query = ["query_norm_mean", "query_norm_std"];
  const experts = ["mean", "std", "min", "max"].map((name) => `experts_per_token_${name}`);
  return {
    experts: router.num_experts,
    index: kept?.used ?? index,
    statistics() {
      const first = routerQueryStatistics(context, prefix, options);
      if (!kept) return { names: query, values: first };
      const values = keptStatistics(context.plan, `${prefix}.kept`, { number: kept.number, first });
      return { names: [...query, ...experts], values };
    },
  };
}
