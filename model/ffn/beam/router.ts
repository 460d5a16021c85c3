/**
 * The beam router as a layer: queries, the choice of an id on each axis, and their gradients.
 *
 * ```
 * q      = rmsnorm(x W)                          per head and axis, width r, no gain
 * s_a    = exp(logit_scale) · q_a · code(id)     the b best ids of each axis; codes are fixed sinusoids
 * expert = the ids of the k best sums of one score from each axis, found by beams
 * score  = softmax over the kept sums
 * ```
 *
 * @module
 */

import type { Tensor } from "../../gpu/tensor.ts";
import {
  beamRoute,
  beamRouteBackward,
  type BeamRouted,
  type BeamSizes,
} from "../../ops/beam/beam_route.ts";
import { gemm } from "../../ops/gemm/gemm.ts";
import { matrix } from "../../ops/gemm/matrix.ts";
import type { LayerContext } from "../../layer/context.ts";
import type { TrunkSizes } from "../../layer/kind.ts";
import { type ParameterSpec, weight, zeros } from "../../layer/parameter.ts";
import type { BeamSection } from "./schema.ts";

/** The tensors that {@linkcode beamForward} returns and {@linkcode beamBackward} reads. */
export interface BeamSaved {
  /** The layer's input, `[T, D]`. */
  readonly x: Tensor;
  /** `x W`, f32 `[T, H·A·r]`. */
  readonly raw: Tensor;
  /** The kept experts. */
  readonly routed: BeamRouted;
}

/** Parameters of a router under the prefix `at`. */
export function beamParameters(
  { routing_heads, axes, axis_query }: BeamSection,
  { d_model }: TrunkSizes,
  at: string,
): ParameterSpec[] {
  const role = "router";
  return [
    weight(`${at}.query_w`, [routing_heads, axes, axis_query, d_model], {
      role,
      std: 1 / Math.sqrt(d_model),
    }),
    {
      name: `${at}.logit_scale`,
      shape: [routing_heads, axes],
      role,
      init: zeros,
      decay: false,
      held: false,
    },
  ];
}

/** Operations of a token: queries, and scores of the ids of every axis. */
export function beamFlops(section: BeamSection, { d_model }: TrunkSizes): number {
  const { routing_heads, axes, axis_query, axis_size } = section;
  return 2 * routing_heads * axes * axis_query * (d_model + axis_size);
}

function sizesOf(section: BeamSection): BeamSizes {
  const { routing_heads: heads, axes, axis_query, axis_size, axis_candidates, beam_width, top_k } =
    section;
  return { heads, axes, axis_query, axis_size, axis_candidates, beam_width, top_k };
}

/** The queries' weights `[H, A, r, D]` as a matrix of outputs × inputs. */
function queryMatrix(tensor: Tensor) {
  return matrix(tensor, { columns: tensor.width });
}

/**
 * Records the router.
 *
 * @param prefix Of the weights' names: `layers.3.ffn.router`.
 * @param inputs `x` `[T, D]`, normalised, in the operands' type; `router`, the sizes.
 */
export function beamForward(
  context: LayerContext,
  prefix: string,
  inputs: { readonly x: Tensor; readonly router: BeamSection },
): BeamSaved {
  const { plan, tokens } = context;
  const { x, router } = inputs;
  const width = router.routing_heads * router.axes * router.axis_query;
  const raw = context.activation(`${prefix}.raw`, tokens, width);
  gemm(plan, `${prefix}.raw`, {
    a: x,
    b: queryMatrix(context.weight(`${prefix}.query_w`)),
    c: raw,
    layout: "nt",
  });
  const routed = beamRoute(plan, prefix, {
    sizes: sizesOf(router),
    raw,
    logit_scale: context.vector(`${prefix}.logit_scale`),
  });
  return { x, raw, routed };
}

/**
 * Records the router's gradients.
 *
 * @param options `dscore` f32 `[T, H·k]`; `dx` f32 `[T, D]` is added to.
 */
export function beamBackward(
  context: LayerContext,
  prefix: string,
  options: {
    readonly router: BeamSection;
    readonly saved: BeamSaved;
    readonly dscore: Tensor;
    readonly dx: Tensor;
  },
): void {
  const { plan } = context;
  const { router, saved, dscore, dx } = options;
  const { x, raw, routed } = saved;
  const draw = context.operand(`${prefix}.draw`, ...raw.shape);
  beamRouteBackward(plan, prefix, {
    sizes: sizesOf(router),
    raw,
    logit_scale: context.vector(`${prefix}.logit_scale`),
    routed,
    dscore,
    draw,
    dlogit_scale: context.gradient(`${prefix}.logit_scale`),
  });
  const query_w = context.gradient(`${prefix}.query_w`);
  gemm(plan, `${prefix}.dquery_w`, {
    a: draw,
    b: x,
    c: queryMatrix(query_w.tensor),
    layout: "tn",
    epilogue: query_w.epilogue,
  });
  gemm(plan, `${prefix}.dx`, {
    a: draw,
    b: queryMatrix(context.weight(`${prefix}.query_w`)),
    c: dx,
    epilogue: "accumulate",
  });
}
