/**
 * The routers of ETHOS layers behind one interface: what they store and cost, their passes, and the latent codes of the experts
 * that they keep.
 *
 * @module
 */

import type { Tensor } from "../../gpu/tensor.ts";
import type { LayerContext } from "../../layer/context.ts";
import type { ExpertUse, KeptExperts, TrunkSizes } from "../../layer/kind.ts";
import type { ParameterSpec, StatisticSpec } from "../../layer/parameter.ts";
import {
  codeGradients,
  factoredGradient,
  gatherCodes,
  ownRows,
} from "../../ops/beam/factored_codes.ts";
import type { Gradient, Kept } from "../../ops/experts/experts.ts";
import { packKept } from "../../ops/experts/experts_packed.ts";
import { sortByKey, type Sorted } from "../../ops/routing/sort.ts";
import { beamBackward, beamFlops, beamForward, beamParameters } from "../beam/router.ts";
import {
  assignmentProblems,
  routerBackward,
  routerFlops,
  routerForward,
  routerParameters,
  routerProblems,
  routerStatistics,
  routerUse,
} from "../product_key/router.ts";
import { keepRule } from "../product_key/schema.ts";
import type { BeamEthosSection, EthosSection, ProductKeyEthosSection } from "./schema.ts";

/** A recorded forward pass of a router. */
export interface RouterPass {
  /**
   * The kept experts, best first per head: `score` f32 `[T, H·k]`, `index` u32 `[T, H·k]` their numbers, or with beams
   * `[T, H·k·A]` their rows in the factored table.
   */
  readonly kept: KeptExperts;
  /** The load-balance term with its coefficient, f32 `[1]`; in training, when the coefficient is not 0. */
  readonly balance?: Tensor;
  /** How it used the experts, or the rows of the factored table. */
  readonly use: ExpertUse;
  /** Records the gradients. `dscore` f32 `[T, H·k]`; `dx` f32 `[T, D]` is added to. */
  backward(
    options: { readonly dscore: Tensor; readonly dx: Tensor; readonly loss_scale?: Tensor },
  ): void;
}

/** The latent codes that the kernels of the experts read. */
interface LatentCodes {
  /** Codes, in parts by rows. */
  readonly z: readonly Tensor[];
  /** The kept experts as rows of `z`, packed where the router keeps a number that differs from token to token. */
  readonly kept: Kept;
}

/** The latent codes, and where their gradient goes. */
interface LatentGradients extends LatentCodes {
  /** Of each part of `z`. */
  readonly gradients: readonly Gradient[];
  /** Records the kept experts sorted by their rows. */
  sorted(): Sorted;
  /** Records what is left to do when the gradients were written. */
  finish(): void;
}

/** A router with sizes. */
interface EthosRouter {
  /** Parameters under the prefix `at`. */
  parameters(trunk: TrunkSizes, at: string): ParameterSpec[];
  /** Running statistics under the prefix `at`. */
  statistics(at: string): StatisticSpec[];
  /** Operations of a token. */
  flops(trunk: TrunkSizes): number;
  /** Shape of the latent codes. */
  readonly table: readonly number[];
  /** Standard deviation that they start with, so that an expert's code has 1. */
  readonly std: number;
  /** Rows of them that a token uses. */
  readonly rows: number;
  /** The reasons why it cannot route so many tokens at once; empty when it can. */
  problems(tokens: number): readonly string[];
  /** Records the router. `x` `[T, D]`, normalised, in the operands' type. */
  forward(context: LayerContext, prefix: string, x: Tensor): RouterPass;
  /** Records the codes of kept experts of {@linkcode RouterPass}. `prefix` of the layer. */
  codes(context: LayerContext, prefix: string, kept: KeptExperts): LatentCodes;
  /** Records them for a backward pass. */
  codeGradients(context: LayerContext, prefix: string, kept: KeptExperts): LatentGradients;
}

/** Pairs of sub-keys, whose experts have a stored code each. */
function productKey(ethos: ProductKeyEthosSection): EthosRouter {
  const { num_experts, d_latent, routing_heads, top_k } = ethos;
  const codes = (
    context: LayerContext,
    prefix: string,
    kept: KeptExperts,
  ): LatentCodes => ({
    z: context.weightParts(`${prefix}.z`),
    kept: keepRule(ethos) ? packKept(context.plan, prefix, { kept, experts: num_experts }) : kept,
  });
  return {
    parameters: (trunk, at) => routerParameters(ethos, trunk, at),
    statistics: (at) => routerStatistics(ethos, at),
    flops: (trunk) => routerFlops(ethos, trunk),
    table: [num_experts, d_latent],
    std: 1,
    rows: routing_heads * top_k,
    problems: (tokens) => routerProblems(ethos, tokens),
    forward(context, prefix, x) {
      const saved = routerForward(context, prefix, { x, router: ethos });
      const { index, score, balance } = saved.routed;
      return {
        kept: { index, score },
        ...(balance && { balance: balance.value }),
        use: routerUse(context, prefix, { router: ethos, saved }),
        backward: (options) =>
          routerBackward(context, prefix, { router: ethos, saved, ...options }),
      };
    },
    codes,
    codeGradients(context, prefix, kept) {
      const made = codes(context, prefix, kept);
      const { index, packed } = made.kept;
      const bound = num_experts + (packed ? 1 : 0);
      return {
        ...made,
        gradients: context.gradientParts(`${prefix}.z`),
        sorted: () => sortByKey(context.plan, `${prefix}.sort`, { keys: index, bound }),
        finish() {},
      };
    },
  };
}

/** Ids on several axes, whose experts have the sum of a row of each axis's table as their code. */
function beam(ethos: BeamEthosSection): EthosRouter {
  const { axes, axis_size, d_latent, routing_heads, top_k } = ethos;
  const per = routing_heads * top_k;
  const codes = (context: LayerContext, prefix: string, kept: KeptExperts) => {
    const { index: coords, score } = kept;
    const rows = ownRows(context.plan, score.rows, per);
    const z = gatherCodes(context.plan, prefix, {
      z: context.weight(`${prefix}.z`),
      coords,
      axes,
    });
    return { z, kept: { index: rows.index, score }, rows };
  };
  return {
    parameters: (trunk, at) => beamParameters(ethos, trunk, at),
    statistics: () => [],
    flops: (trunk) => beamFlops(ethos, trunk),
    table: [axes, axis_size, d_latent],
    std: 1 / Math.sqrt(axes),
    rows: axes * Math.min(axis_size, per),
    // An expert has an id on each axis, and those are what is sorted.
    problems: (tokens) => assignmentProblems(ethos, { tokens, axes }),
    forward(context, prefix, x) {
      const saved = beamForward(context, prefix, { x, router: ethos });
      const { coords, score } = saved.routed;
      return {
        kept: { index: coords, score },
        use: { experts: axes * axis_size, index: coords },
        backward: ({ dscore, dx }) =>
          beamBackward(context, prefix, { router: ethos, saved, dscore, dx }),
      };
    },
    codes,
    // The codes are gathered again: that costs little, and keeping a row for each kept expert of each token costs much.
    codeGradients(context, prefix, routed) {
      const { rows, ...made } = codes(context, prefix, routed);
      const dcodes = codeGradients(context.plan, prefix, made.z);
      return {
        ...made,
        gradients: dcodes.map((tensor) => ({ tensor, epilogue: "none" })),
        sorted: () => rows.sorted,
        finish: () =>
          factoredGradient(context.plan, prefix, {
            dcodes,
            coords: routed.index,
            axes,
            gradient: context.gradient(`${prefix}.z`),
          }),
      };
    },
  };
}

/** The router that a section names. */
export function routerOf(ethos: EthosSection): EthosRouter {
  return ethos.router === "beam" ? beam(ethos) : productKey(ethos);
}
