/**
 * Root-mean-square normalisation of rows, forward and backward.
 *
 * @module
 */

import forwardSource from "../../../shaders/norm/rmsnorm_forward.wgsl" with { type: "text" };
import backwardSource from "../../../shaders/norm/rmsnorm_backward.wgsl" with { type: "text" };
import rowsSource from "../../../shaders/gemm/rows.wgsl" with { type: "text" };
import gainSource from "../../../shaders/norm/rmsnorm_gain.wgsl" with { type: "text" };
import { f32, grid, read, readScalar, update, write, writeScalar } from "../../gpu/kernel.ts";
import type { Plan } from "../../gpu/plan.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { type Matrix, matrix } from "../gemm/matrix.ts";

/** Added to the mean square, as the specification has it. */
export const RMSNORM_EPSILON = 1e-6;

/** Invocations of a workgroup on a GPU: all work on one row. */
const GPU_LANES = 64;
/** Invocations of a workgroup on a software adapter: each works on a row of its own. */
const SOFTWARE_LANES = 8;

/** Rows that an invocation asks for at a time when it adds up gradients of the gain. */
const UNROLL = { partial: 4, finish: 16 };

/** Operands of {@linkcode rmsnormForward}. */
export interface RmsnormForward {
  /** `[rows, n]`. */
  readonly x: Matrix | Tensor;
  /** `[n]`, f32. */
  readonly gain: Tensor;
  /** `[rows, n]`, in the type that its reader wants. */
  readonly y: Matrix | Tensor;
  /** `[rows]`, f32: `1 / √(mean(x²) + ε)`, which the backward pass reads. */
  readonly scale: Tensor;
}

/** Records `y = x · scale · gain` with `scale = 1 / √(mean(x²) + 1e-6)`, row by row. */
export function rmsnormForward(plan: Plan, label: string, operands: RmsnormForward): void {
  const x = asMatrix(operands.x);
  const y = asMatrix(operands.y);
  const { gain, scale } = operands;
  checkShapes(label, x, [y], { gain, scale });
  const software = plan.gpu.capabilities.software;
  plan.dispatch({
    label,
    name: "rmsnorm_forward",
    source: rowsSource + forwardSource,
    constants: { LANES: software ? SOFTWARE_LANES : GPU_LANES, BY_ROW: software },
    params: {
      rows: x.rows,
      columns4: x.columns / 4,
      ldx: x.stride / 4,
      x_start: x.start / 4,
      ldy: y.stride / 4,
      y_start: y.start / 4,
      columns: f32(x.columns),
      epsilon: f32(RMSNORM_EPSILON),
    },
    bindings: {
      x: read(x.tensor),
      gain: read(gain),
      y: write(y.tensor),
      scale: writeScalar(scale),
    },
    workgroups: grid(software ? Math.ceil(x.rows / SOFTWARE_LANES) : x.rows),
    flops: 4 * x.rows * x.columns,
    bytes: 8 * x.rows * x.columns,
  });
}

/** Operands of {@linkcode rmsnormBackward}. */
export interface RmsnormBackward {
  /** What the forward pass read, `[rows, n]`. */
  readonly x: Matrix | Tensor;
  /** `[n]`, f32. */
  readonly gain: Tensor;
  /** What the forward pass saved, `[rows]`. */
  readonly scale: Tensor;
  /** Gradient of `y`, `[rows, n]`. */
  readonly dy: Matrix | Tensor;
  /** Gradient of `x`, `[rows, n]`. */
  readonly dx: Matrix | Tensor;
  /** `accumulate` adds to what `dx` holds (the residual stream's gradient); defaults to `none`. */
  readonly epilogue?: "none" | "accumulate";
  /** Where the gradient of the gain goes; see `LayerContext.gradient`. */
  readonly dgain: { readonly tensor: Tensor; readonly epilogue: "none" | "accumulate" };
}

/**
 * Records the gradients of {@linkcode rmsnormForward}:
 * `dx = scale · (gain · dy − x · scale² · mean(gain · dy · x))` and `dgain = Σ over rows of dy · x · scale`, the latter by sums over
 * fixed blocks of rows and then over the blocks, so that its bits do not depend on the order of execution.
 */
export function rmsnormBackward(plan: Plan, label: string, operands: RmsnormBackward): void {
  const x = asMatrix(operands.x);
  const dy = asMatrix(operands.dy);
  const dx = asMatrix(operands.dx);
  const { gain, scale, dgain, epilogue = "none" } = operands;
  checkShapes(label, x, [dy, dx], { gain, scale });
  if (dgain.tensor.size !== x.columns) {
    throw new RangeError(
      `${label}: the gradient of the gain has ${dgain.tensor.size} elements, x ${x.columns} columns`,
    );
  }
  const software = plan.gpu.capabilities.software;
  const lanes = software ? SOFTWARE_LANES : GPU_LANES;
  const columns4 = x.columns / 4;
  plan.dispatch({
    label,
    name: "rmsnorm_backward",
    source: rowsSource + backwardSource,
    constants: { LANES: lanes, BY_ROW: software, EPILOGUE: epilogue },
    params: {
      rows: x.rows,
      columns4,
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
    },
    workgroups: grid(software ? Math.ceil(x.rows / lanes) : x.rows),
    flops: 8 * x.rows * x.columns,
    bytes: 4 * x.rows * x.columns * (epilogue === "accumulate" ? 4 : 3),
  });

  // Enough blocks to fill the device, not so many that the second stage takes long.
  const most = software ? 8 : 256;
  const blockRows = Math.max(8, Math.ceil(x.rows / most));
  const blocks = Math.ceil(x.rows / blockRows);
  const partial = plan.tensor(`${label}.partial`, [blocks, x.columns]);
  plan.dispatch({
    label: `${label}.gain`,
    name: "rmsnorm_gain",
    source: gainSource,
    constants: { LANES: lanes, UNROLL: UNROLL.partial, STAGE: "partial", EPILOGUE: "none" },
    params: {
      rows: x.rows,
      columns4,
      block_rows: blockRows,
      blocks,
      ldx: x.stride / 4,
      x_start: x.start / 4,
      ld_dy: dy.stride / 4,
      dy_start: dy.start / 4,
    },
    bindings: {
      x: read(x.tensor),
      scale: readScalar(scale),
      dy: read(dy.tensor),
      sum: write(partial),
    },
    workgroups: grid(Math.ceil(blocks * columns4 / lanes)),
    flops: 3 * x.rows * x.columns,
    bytes: 8 * x.rows * x.columns,
  });
  plan.dispatch({
    label: `${label}.gain.finish`,
    name: "rmsnorm_gain",
    source: gainSource,
    constants: { LANES: lanes, UNROLL: UNROLL.finish, STAGE: "finish", EPILOGUE: dgain.epilogue },
    params: { columns4, blocks },
    bindings: {
      partial: read(partial),
      sum: dgain.epilogue === "accumulate" ? update(dgain.tensor) : write(dgain.tensor),
    },
    workgroups: grid(Math.ceil(columns4 / lanes)),
    flops: blocks * x.columns,
  });
}

function asMatrix(operand: Matrix | Tensor): Matrix {
  return "tensor" in operand ? operand : matrix(operand);
}

function checkShapes(
  label: string,
  x: Matrix,
  others: readonly Matrix[],
  vectors: { gain: Tensor; scale: Tensor },
): void {
  if (x.columns % 4 !== 0) {
    throw new RangeError(
      `${label}: ${x.tensor.name} has ${x.columns} columns, not a multiple of 4`,
    );
  }
  for (const other of others) {
    if (other.rows !== x.rows || other.columns !== x.columns) {
      throw new RangeError(
        `${label}: ${x.tensor.name} is ${x.rows}×${x.columns}, ${other.tensor.name} ${other.rows}×${other.columns}`,
      );
    }
  }
  if (vectors.gain.size !== x.columns || vectors.scale.size !== x.rows) {
    throw new RangeError(
      `${label}: ${x.tensor.name} is ${x.rows}×${x.columns}, but the gain has ${vectors.gain.size} elements and the scale ${vectors.scale.size}`,
    );
  }
}
