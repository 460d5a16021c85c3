/**
 * Root-mean-square normalisation of rows, forward and backward.
 *
 * @module
 */

import forwardSource from "../../../shaders/norm/rmsnorm_forward.wgsl" with { type: "text" };
import forwardLanesSource from "../../../shaders/norm/rmsnorm_forward_lanes.wgsl" with {
  type: "text",
};
import backwardLanesSource from "../../../shaders/norm/rmsnorm_backward_lanes.wgsl" with {
  type: "text",
};
import backwardSource from "../../../shaders/norm/rmsnorm_backward.wgsl" with { type: "text" };
import { f32, grid, read, readScalar, update, write, writeScalar } from "../../gpu/kernel.ts";
import type { Plan } from "../../gpu/plan.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import type { Matrix } from "../gemm/matrix.ts";
import type { VectorGradient } from "./batch_norm.ts";
import type { NormGains } from "./norm_gains.ts";
import {
  asMatrix,
  checkRows,
  finishGradient,
  laneBlocks,
  normGradients,
  rowKernel,
} from "./norm_rows.ts";

interface RmsnormForward {
  /** `[rows, n]`. */
  readonly x: Matrix | Tensor;
  /** `[n]`, f32. */
  readonly gain: Tensor;
  /** `[rows, n]`, in the type that its reader wants. */
  readonly y: Matrix | Tensor;
  /** `[rows]`, f32: `1 / √(mean(x²) + ε)`, which the backward pass reads. */
  readonly scale: Tensor;
  /** ε, added to the mean square; defaults to 1e-6. */
  readonly epsilon?: number;
}

/** Records `y = x · scale · gain` with `scale = 1 / √(mean(x²) + ε)`, row by row. */
export function rmsnormForward(plan: Plan, label: string, operands: RmsnormForward): void {
  const x = asMatrix(operands.x);
  const y = asMatrix(operands.y);
  const { gain, scale, epsilon = 1e-6 } = operands;
  checkRows(label, x, { matrices: [y], vectors: { gain }, statistics: { scale } });
  const byLanes = laneBlocks(plan, x);
  plan.dispatch({
    label,
    ...(byLanes
      ? {
        name: "rmsnorm_forward_lanes",
        source: byLanes.source + forwardLanesSource,
        constants: byLanes.constants,
        workgroups: grid(byLanes.blocks),
      }
      : { name: "rmsnorm_forward", ...rowKernel(plan, x.rows, forwardSource) }),
    params: {
      rows: x.rows,
      ...(byLanes && { block_rows: byLanes.rows }),
      columns4: x.columns / 4,
      ldx: x.stride / 4,
      x_start: x.start / 4,
      ldy: y.stride / 4,
      y_start: y.start / 4,
      columns: f32(x.columns),
      epsilon: f32(epsilon),
    },
    bindings: {
      x: read(x.tensor),
      gain: read(gain),
      y: write(y.tensor),
      scale: writeScalar(scale),
    },
    flops: 4 * x.rows * x.columns,
    bytes: 8 * x.rows * x.columns,
  });
}

interface RmsnormBackward {
  /** The input of the forward pass, `[rows, n]`. */
  readonly x: Matrix | Tensor;
  /** `[n]`, f32. */
  readonly gain: Tensor;
  /** The forward pass saved it, `[rows]`. */
  readonly scale: Tensor;
  /** Gradient of `y`, `[rows, n]`. */
  readonly dy: Matrix | Tensor;
  /** Gradient of `x`, `[rows, n]`. */
  readonly dx: Matrix | Tensor;
  /** `accumulate` adds to what `dx` holds (the residual stream's gradient); defaults to `none`. */
  readonly epilogue?: "none" | "accumulate";
  /** Gradient of the gain. */
  readonly dgain: VectorGradient;
  /** Takes the end of that gradient on software adapters, so that several norms' ends are one dispatch. */
  readonly gains?: NormGains | undefined;
}

/**
 * Records the gradients of {@linkcode rmsnormForward}:
 * `dx = scale · (gain · dy − x · scale² · mean(gain · dy · x))` and `dgain = Σ over rows of dy · x · scale`.
 */
export function rmsnormBackward(plan: Plan, label: string, operands: RmsnormBackward): void {
  const x = asMatrix(operands.x);
  const dy = asMatrix(operands.dy);
  const dx = asMatrix(operands.dx);
  const { gain, scale, dgain, epilogue = "none" } = operands;
  checkRows(label, x, {
    matrices: [dy, dx],
    vectors: { gain, "gradient of the gain": dgain.tensor },
    statistics: { scale },
  });
  const byLanes = laneBlocks(plan, x);
  const partial = byLanes && plan.tensor(`${label}.partial`, [byLanes.blocks, x.columns]);
  const kernel = byLanes
    ? {
      name: "rmsnorm_backward_lanes",
      source: byLanes.source + backwardLanesSource,
      constants: byLanes.constants,
      workgroups: grid(byLanes.blocks),
    }
    : { name: "rmsnorm_backward", ...rowKernel(plan, x.rows, backwardSource) };
  plan.dispatch({
    label,
    ...kernel,
    constants: { ...kernel.constants, EPILOGUE: epilogue },
    params: {
      rows: x.rows,
      ...(byLanes && { blocks: byLanes.blocks, block_rows: byLanes.rows }),
      columns4: x.columns / 4,
      ldx: x.stride / 4,
      x_start: x.start / 4,
      ld_dy: dy.stride / 4,
      dy_start: dy.start / 4,
      ld_dx: dx.stride / 4,
      dx_start: dx.start / 4,
      columns: f32(x.columns),
    },
    bindings: {
      x: read(x.tensor),
      gain: read(gain),
      scale: readScalar(scale),
      dy: read(dy.tensor),
      dx: epilogue === "accumulate" ? update(dx.tensor) : write(dx.tensor),
      ...(partial && { sum: write(partial) }),
    },
    flops: (partial ? 11 : 8) * x.rows * x.columns,
    bytes: 4 * x.rows * x.columns * (epilogue === "accumulate" ? 4 : 3),
  });
  if (partial && operands.gains) operands.gains.add({ partial, gradient: dgain });
  else if (partial) finishGradient(plan, `${label}.gain`, { partial, gradient: dgain });
  else normGradients(plan, label, { x, dy, scale, dgain });
}
