/**
 * Rows of tokens to padded rows of entries, and back.
 *
 * @module
 */

import activateSource from "../../../shaders/mixture/mixture_activate.wgsl" with { type: "text" };
import combineSource from "../../../shaders/mixture/mixture_combine.wgsl" with { type: "text" };
import exactSource from "../../../shaders/elementwise/gelu_exact.wgsl" with { type: "text" };
import gatherSource from "../../../shaders/mixture/mixture_gather.wgsl" with { type: "text" };
import gradientSource from "../../../shaders/mixture/mixture_weight_gradient.wgsl" with {
  type: "text",
};
import tanhSource from "../../../shaders/elementwise/gelu.wgsl" with { type: "text" };
import { grid, read, readScalar, write, writeScalar } from "../../gpu/kernel.ts";
import type { Plan } from "../../gpu/plan.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import type { Groups } from "../gemm/gemm_grouped.ts";
import { matrix } from "../gemm/matrix.ts";
import { rowKernel } from "../norm/norm_rows.ts";
import { segmentSum } from "../routing/segment_sum.ts";
import type { Gated } from "./gate.ts";
import type { Segments } from "./segments.ts";

/** Entries of a token, k. */
function entriesOf({ place }: Segments, tokens: number): number {
  return place.size / tokens;
}

/** Records `out[r] = x[token of row r]`, times the entry's weight when there are weights; zeros in rows without an entry. Both of any float type. */
export function gatherRows(
  plan: Plan,
  label: string,
  input: { segments: Segments; x: Tensor; out: Tensor; weight?: Tensor },
): void {
  const { segments, x, out, weight } = input;
  const width = x.width / 4;
  plan.dispatch({
    label,
    name: "mixture_gather",
    source: gatherSource,
    constants: { TOP: entriesOf(segments, x.rows), WEIGHTED: weight !== undefined },
    params: { rows: out.rows, width, entries: segments.place.size },
    bindings: {
      source: readScalar(segments.source),
      x: read(x),
      ...(weight && { weight: readScalar(weight) }),
      out: write(out),
    },
    workgroups: grid(Math.ceil(out.rows * width / 64)),
  });
}

/** Records `y[t] = residual[t] + Σ over the token's entries of weight · (rows[its row] + bias[its expert])`, f32 `[T, D]`. Without weights rows are summed as they are. */
export function combineRows(plan: Plan, label: string, input: {
  segments: Segments;
  rows: Tensor;
  y: Tensor;
  residual?: Tensor;
  gated?: Gated;
  /** f32 `[E, D]`; with weights only. */
  bias?: Tensor | undefined;
}): void {
  const { segments, rows, y, residual, gated, bias } = input;
  const width = y.width / 4;
  plan.dispatch({
    label,
    name: "mixture_combine",
    source: combineSource,
    constants: {
      TOP: entriesOf(segments, y.rows),
      RESIDUAL: residual !== undefined,
      WEIGHTED: gated !== undefined,
      BIAS: bias !== undefined,
    },
    params: { tokens: y.rows, width, rows: rows.rows },
    bindings: {
      place: readScalar(segments.place),
      rows: read(rows),
      ...(residual && { residual: read(residual) }),
      ...(gated && { weight: readScalar(gated.weight) }),
      ...(bias && gated && { bias: read(bias), keys: readScalar(gated.keys) }),
      y: write(y),
    },
    workgroups: grid(Math.ceil(y.size / 256)),
  });
}

/** Records the gradients of the entries' weights, f32 `[T, k]`, from `dy` f32 `[T, D]` and the operands of {@linkcode combineRows}. */
export function weightGradient(plan: Plan, label: string, input: {
  segments: Segments;
  rows: Tensor;
  dy: Tensor;
  gated: Gated;
  bias?: Tensor | undefined;
}): Tensor {
  const { segments, rows, dy, gated, bias } = input;
  const dweight = plan.tensor(label, gated.weight.shape);
  const { source, constants, workgroups } = rowKernel(plan, dweight.size, gradientSource);
  plan.dispatch({
    label,
    name: "mixture_weight_gradient",
    source,
    constants: { ...constants, TOP: gated.weight.width, BIAS: bias !== undefined },
    params: { entries: dweight.size, width: dy.width / 4, rows: rows.rows },
    bindings: {
      place: readScalar(segments.place),
      rows: read(rows),
      dy: read(dy),
      ...(bias && { bias: read(bias), keys: readScalar(gated.keys) }),
      dweight: writeScalar(dweight),
    },
    workgroups,
    flops: 2 * dweight.size * dy.width,
  });
  return dweight;
}

/** The form of gelu. */
export type Gelu = "tanh" | "exact";

/** Inputs that {@linkcode biasedGelu} and its gradient share. */
interface BiasedGelu {
  readonly groups: Groups;
  readonly gelu: Gelu;
  /** `[rows, F]`. */
  readonly x: Tensor;
  /** f32 `[E, F]`. */
  readonly bias?: Tensor | undefined;
}

/** Records `h = gelu(x + bias[expert of the row])`, `[rows, F]` of any float types. */
export function biasedGelu(
  plan: Plan,
  label: string,
  input: BiasedGelu & { readonly h: Tensor },
): void {
  activate(plan, label, input, { h: write(input.h) });
}

/** Records `dx = dh ∘ gelu′(x + bias[expert of the row])`. */
export function biasedGeluBackward(
  plan: Plan,
  label: string,
  input: BiasedGelu & { readonly dh: Tensor; readonly dx: Tensor },
): void {
  activate(plan, label, input, { dh: read(input.dh), dx: write(input.dx) });
}

function activate(
  plan: Plan,
  label: string,
  { groups, gelu, x, bias }: BiasedGelu,
  others: Readonly<Record<string, ReturnType<typeof read>>>,
): void {
  plan.dispatch({
    label,
    name: "mixture_activate",
    source: activateSource,
    constants: {
      TILE: groups.tile,
      BIAS: bias !== undefined,
      BACKWARD: "dx" in others,
      GELU_SOURCE: gelu === "exact" ? exactSource : tanhSource,
    },
    params: { rows: groups.rows, width: x.width / 4, groups: groups.count },
    bindings: {
      of_tile: readScalar(groups.of_tile),
      x: read(x),
      ...(bias && { bias: read(bias) }),
      ...others,
    },
    workgroups: grid(Math.ceil(x.size / 256)),
    flops: 12 * x.size,
  });
}

/** Records the gradient of a bias, f32 `[E, width]`: the sums over each expert's entries of `rows`, `[rows, width]`. */
export function groupSums(plan: Plan, label: string, input: {
  segments: Segments;
  rows: Tensor;
  target: { readonly tensor: Tensor; readonly epilogue: "none" | "accumulate" };
}): void {
  const { segments, rows, target } = input;
  segmentSum(plan, label, {
    sorted: segments.sorted,
    entries: {
      wgsl:
        "fn entry(at: u32, segment: u32, column: u32) -> vec4f { return load_rows(place[at] * params.ldr + column); }",
      bindings: { rows: read(rows), place: readScalar(segments.place) },
      params: { ldr: rows.width / 4 },
    },
    out: matrix(target.tensor),
    first: 0,
    accumulate: target.epilogue === "accumulate",
  });
}
