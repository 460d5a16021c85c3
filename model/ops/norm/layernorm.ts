/**
 * Layer normalisation of rows, forward and backward.
 *
 * @module
 */

import forwardSource from "../../../shaders/norm/layernorm_forward.wgsl" with { type: "text" };
import backwardSource from "../../../shaders/norm/layernorm_backward.wgsl" with { type: "text" };
import { f32, read, readScalar, update, write, writeScalar } from "../../gpu/kernel.ts";
import type { Plan } from "../../gpu/plan.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import type { Matrix } from "../gemm/matrix.ts";
import type { VectorGradient } from "./batch_norm.ts";
import { asMatrix, checkRows, normGradients, rowKernel } from "./norm_rows.ts";

/** Operands of {@linkcode layernormForward}. */
export interface LayernormForward {
  /** `[rows, n]`. */
  readonly x: Matrix | Tensor;
  /** `[n]`, f32. */
  readonly gain: Tensor;
  /** `[n]`, f32. */
  readonly bias: Tensor;
  /** `[rows, n]`, in the type that its reader wants. */
  readonly y: Matrix | Tensor;
  /** `[rows]`, f32: the mean of each row, which the backward pass reads. */
  readonly mean: Tensor;
  /** `[rows]`, f32: `1 / √(variance + ε)`, which the backward pass reads. */
  readonly scale: Tensor;
  /** ε, added to the variance; defaults to 1e-5. */
  readonly epsilon?: number;
}

/**
 * Records `y = (x − mean) · scale · gain + bias` with `scale = 1 / √(variance + ε)`, row by row. The variance is the biased one, and is
 * summed around the mean.
 */
export function layernormForward(plan: Plan, label: string, operands: LayernormForward): void {
  const x = asMatrix(operands.x);
  const y = asMatrix(operands.y);
  const { gain, bias, mean, scale, epsilon = 1e-5 } = operands;
  checkRows(label, x, { matrices: [y], vectors: { gain, bias }, statistics: { mean, scale } });
  plan.dispatch({
    label,
    name: "layernorm_forward",
    ...rowKernel(plan, x.rows, forwardSource),
    params: {
      rows: x.rows,
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
      bias: read(bias),
      y: write(y.tensor),
      mean: writeScalar(mean),
      scale: writeScalar(scale),
    },
    flops: 7 * x.rows * x.columns,
    bytes: 8 * x.rows * x.columns,
  });
}

/** Operands of {@linkcode layernormBackward}. */
export interface LayernormBackward {
  /** The input of the forward pass, `[rows, n]`. */
  readonly x: Matrix | Tensor;
  /** `[n]`, f32. */
  readonly gain: Tensor;
  /** The forward pass saved it, `[rows]`. */
  readonly mean: Tensor;
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
  /** Gradient of the bias. */
  readonly dbias: VectorGradient;
}

/**
 * Records the gradients of {@linkcode layernormForward}:
 * `dx = scale · (h − mean(h) − n · mean(h · n))` with `h = gain · dy` and `n = (x − mean) · scale`, `dgain = Σ over rows of dy · n` and
 * `dbias = Σ over rows of dy`.
 */
export function layernormBackward(plan: Plan, label: string, operands: LayernormBackward): void {
  const x = asMatrix(operands.x);
  const dy = asMatrix(operands.dy);
  const dx = asMatrix(operands.dx);
  const { gain, mean, scale, dgain, dbias, epilogue = "none" } = operands;
  checkRows(label, x, {
    matrices: [dy, dx],
    vectors: {
      gain,
      "gradient of the gain": dgain.tensor,
      "gradient of the bias": dbias.tensor,
    },
    statistics: { mean, scale },
  });
  const kernel = rowKernel(plan, x.rows, backwardSource);
  plan.dispatch({
    label,
    name: "layernorm_backward",
    ...kernel,
    constants: { ...kernel.constants, EPILOGUE: epilogue },
    params: {
      rows: x.rows,
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
      mean: readScalar(mean),
      scale: readScalar(scale),
      dy: read(dy.tensor),
      dx: epilogue === "accumulate" ? update(dx.tensor) : write(dx.tensor),
    },
    flops: 12 * x.rows * x.columns,
    bytes: 4 * x.rows * x.columns * (epilogue === "accumulate" ? 4 : 3),
  });
  normGradients(plan, label, { x, dy, scale, dgain, centred: { mean, dbias } });
}
