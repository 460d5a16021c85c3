/**
 * The PEER feed-forward layer: the router chooses among stored experts of one hidden unit each.
 *
 * ```
 * y = Σ over the kept experts of gelu(x · u_i) · s · v_i
 * ```
 *
 * @module
 */

import type { Tensor } from "../../gpu/tensor.ts";
import type { LayerContext } from "../../layer/context.ts";
import type { KeptExperts, LayerInput } from "../../layer/kind.ts";
import { cast } from "../../ops/elementwise/cast.ts";
import {
  chooseStored,
  type OrderedKept,
  orderKept,
  storedExperts,
  storedExpertsBackward,
  type StoredTables,
} from "../../ops/experts/experts_stored.ts";
import { routerBackward, routerForward, type RouterSaved } from "../product_key/router.ts";
import type { PeerSection } from "./schema.ts";

/** Inputs of {@linkcode peerForward}. */
export interface PeerInput extends LayerInput {
  readonly peer: PeerSection;
  /** The kept experts, when another plan ran the router: it is then part of neither pass. */
  readonly kept?: KeptExperts;
}

/** The tensors of the forward pass that {@linkcode peerBackward} reads. */
export interface PeerSaved {
  /** The layer's input, `[T, D]`. */
  readonly x: Tensor;
  /** The kept experts as the router gives them. */
  readonly kept: KeptExperts;
  /** The kept experts in ascending order. */
  readonly ordered: OrderedKept;
  /** `x · u` of the ordered experts, f32 `[T, H·k]`. */
  readonly p: Tensor;
  /** The router's own tensors, where it is part of the pass. */
  readonly router?: RouterSaved;
}

/** The result of {@linkcode peerForward}. */
export interface PeerResult {
  /** `residual + experts`, f32 `[T, D]`. */
  readonly y: Tensor;
  /** The tensors that the backward pass reads. */
  readonly saved: PeerSaved;
}

function tablesOf(context: LayerContext, prefix: string): StoredTables {
  return { u: context.weightParts(`${prefix}.u`), v: context.weightParts(`${prefix}.v`) };
}

function executionOf(context: LayerContext, peer: PeerSection, width: number) {
  if (peer.execution !== "auto") return peer.execution;
  return chooseStored(context.plan.gpu.capabilities, { tokens: context.tokens, width });
}

/**
 * Records the layer.
 *
 * @param prefix Of the weights' names: `layers.3.ffn`.
 */
export function peerForward(context: LayerContext, prefix: string, input: PeerInput): PeerResult {
  const { plan, tokens } = context;
  const { x, residual, peer, kept: given } = input;
  const router = given
    ? undefined
    : routerForward(context, `${prefix}.router`, { x, router: peer });
  const kept = given ?? router!.routed;
  context.chosen({ at: prefix, index: kept.index, score: kept.score });
  const ordered = orderKept(plan, prefix, { kept, experts: peer.num_experts });
  const y = context.activation(`${prefix}.y`, tokens, residual.width);
  plan.copy(residual, y);
  const p = storedExperts(plan, prefix, {
    tables: tablesOf(context, prefix),
    x,
    kept: ordered,
    execution: executionOf(context, peer, x.width),
    y,
  });
  return { y, saved: { x, kept, ordered, p, ...(router && { router }) } };
}

/**
 * Records the layer's gradients, of its parameters and of `x`; the residual's is `dy` itself.
 *
 * @param input `dy` f32 `[T, D]`; `loss_scale` f32, of which the first number counts: the factor in `dy`, by which the load-balance gradient is scaled alike.
 * @returns The gradient of `x`, f32 `[T, D]`.
 */
export function peerBackward(
  context: LayerContext,
  prefix: string,
  input: { peer: PeerSection; dy: Tensor; saved: PeerSaved; loss_scale?: Tensor },
): Tensor {
  const { plan, tokens } = context;
  const { peer, dy, saved, loss_scale } = input;
  const { x, kept, ordered, p, router } = saved;
  const dx = context.activation(`${prefix}.dx`, tokens, dy.width);
  const dscore = context.activation(`${prefix}.dscore`, ...kept.score.shape);
  storedExpertsBackward(plan, prefix, {
    tables: tablesOf(context, prefix),
    x,
    kept: ordered,
    execution: executionOf(context, peer, x.width),
    p,
    dy: cast(plan, `${prefix}.dy`, dy, context.operandType),
    dx,
    dscore,
    gradients: {
      u: context.gradientParts(`${prefix}.u`),
      v: context.gradientParts(`${prefix}.v`),
    },
  });
  if (router) {
    routerBackward(context, `${prefix}.router`, {
      router: peer,
      saved: router,
      dscore,
      dx,
      ...(loss_scale && { loss_scale }),
    });
  }
  return dx;
}
