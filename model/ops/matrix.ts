/**
 * Matrices inside tensors, and their transposes.
 *
 * @module
 */

import turnSource from "../../shaders/turn.wgsl" with { type: "text" };
import { type Binding, grid, read, readBits, write } from "../gpu/kernel.ts";
import type { Plan } from "../gpu/plan.ts";
import { BYTES, type DType, roundUp, type Tensor } from "../gpu/tensor.ts";

/** A matrix inside a tensor: which columns, and how far apart rows are. */
export interface Matrix {
  readonly tensor: Tensor;
  readonly rows: number;
  readonly columns: number;
  /** Elements from one row to the next, a multiple of 4. */
  readonly stride: number;
  /** Element at which the matrix starts, a multiple of 4. */
  readonly start: number;
}

/**
 * Sees a tensor as a matrix. Without options its last axis is the columns, all others the rows.
 *
 * Rows longer than `columns` (a padded width) must hold zeros beyond them.
 */
export function matrix(
  tensor: Tensor,
  options: { rows?: number; columns?: number; stride?: number; start?: number } = {},
): Matrix {
  const stride = options.stride ?? tensor.width;
  const columns = options.columns ?? stride;
  const start = options.start ?? 0;
  const rows = options.rows ?? tensor.size / stride;
  if (stride % 4 !== 0 || start % 4 !== 0) {
    throw new RangeError(
      `Matrix in ${tensor.name} has stride ${stride} and start ${start}; both must be multiples of 4`,
    );
  }
  if (start + (rows - 1) * stride + columns > roundUp(tensor.size, 4)) {
    throw new RangeError(
      `Matrix ${rows}×${columns} (stride ${stride}, start ${start}) exceeds ${tensor.name} of ${tensor.size}`,
    );
  }
  return { tensor, rows, columns, stride, start };
}

/** Records the transpose of a matrix in a workspace of its own, its rows aligned to eight numbers. */
export function turn(plan: Plan, label: string, x: Matrix): Matrix {
  const { dtype } = x.tensor;
  const width = roundUp(x.rows, 8);
  const y = plan.tensor(label, [x.columns, width], { dtype, owner: "workspace" });
  plan.dispatch({
    label,
    name: "turn",
    source: turnSource,
    params: {
      rows: x.rows,
      columns: x.columns,
      ldx: x.stride / 4,
      ldy: width / 4,
      x_start: x.start / 4,
    },
    bindings: { x: read(x.tensor), y: write(y) },
    workgroups: grid(Math.ceil(x.rows / 64) * Math.ceil(x.columns / 32)),
    bytes: 2 * BYTES[dtype] * x.rows * x.columns,
  });
  return matrix(y, { columns: x.rows });
}

/** An operand of a product as far as it matters to the choice of a kernel. */
export interface OperandShape {
  readonly dtype: DType;
  /** Whether its rows start at multiples of eight numbers. */
  readonly aligned: boolean;
}

/** What a kernel's choice asks of an operand. */
export function operandShape({ tensor, stride, start }: Matrix): OperandShape {
  return { dtype: tensor.dtype, aligned: stride % 8 === 0 && start % 8 === 0 };
}

/** An operand as a kernel binds it, its stride and start in loads of so many numbers. */
export function operand(
  { tensor, stride, start }: Matrix,
  lanes: 4 | 8,
): { binding: Binding; stride: number; start: number } {
  return {
    binding: lanes === 8 ? readBits(tensor) : read(tensor),
    stride: stride / lanes,
    start: start / lanes,
  };
}
