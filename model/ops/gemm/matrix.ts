/**
 * Matrices inside tensors, and their transposes.
 *
 * @module
 */

import transposeSource from "../../../shaders/gemm/transpose.wgsl" with { type: "text" };
import halvesSource from "../../../shaders/gemm/transpose_halves.wgsl" with { type: "text" };
import { type Binding, grid, loading, read, readBits, write, writeBits } from "../../gpu/kernel.ts";
import type { Plan } from "../../gpu/plan.ts";
import { BYTES, type DType, roundUp, type Tensor } from "../../gpu/tensor.ts";

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
export function transpose(plan: Plan, label: string, x: Matrix): Matrix {
  const { dtype } = x.tensor;
  const width = roundUp(x.rows, 8);
  const y = plan.tensor(label, [x.columns, width], { dtype, owner: "workspace" });
  // Halves go as bits, eight at a time, where their rows begin with whole eights.
  const bits = dtype === "f16" && operandShape(x).aligned;
  const lanes = bits ? 8 : 4;
  plan.dispatch({
    label,
    name: bits ? "transpose_halves" : "transpose",
    source: bits ? halvesSource : transposeSource,
    params: {
      rows: x.rows,
      columns: x.columns,
      ldx: x.stride / lanes,
      ldy: width / lanes,
      x_start: x.start / lanes,
    },
    bindings: bits
      ? { x: readBits(x.tensor), y: writeBits(y) }
      : { x: read(x.tensor), y: write(y) },
    workgroups: grid(Math.ceil(x.rows / (bits ? 128 : 64)) * Math.ceil(x.columns / 32)),
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

/** The properties of an operand that decide which kernel is chosen. */
export function operandShape({ tensor, stride, start }: Matrix): OperandShape {
  return { dtype: tensor.dtype, aligned: stride % 8 === 0 && start % 8 === 0 };
}

/** Three matrices of a product, and which operand is stored transposed: `nn` A·B, `nt` A·Bᵀ, `tn` Aᵀ·B. */
export interface Operands {
  readonly a: Matrix;
  readonly b: Matrix;
  readonly c: Matrix;
  readonly layout: "nn" | "nt" | "tn";
}

/**
 * Rows `m` and columns `n` of a product, and terms `k` of its sums.
 *
 * @throws {RangeError} If the matrices do not fit each other, naming them.
 */
export function productSizes(
  label: string,
  { a, b, c, layout }: Operands,
): { m: number; n: number; k: number } {
  const [m, k] = layout === "tn" ? [a.columns, a.rows] : [a.rows, a.columns];
  const [n, bk] = layout === "nt" ? [b.rows, b.columns] : [b.columns, b.rows];
  if (bk !== k || c.rows !== m || c.columns !== n) {
    throw new RangeError(
      `${label}: op(A) is ${m}×${k} (${a.tensor.name}), op(B) ${bk}×${n} (${b.tensor.name}), C ${c.rows}×${c.columns} (${c.tensor.name})`,
    );
  }
  return { m, n, k };
}

/** Numbers that a kernel's own loads take of both operands, halves as bits. */
export interface Loads {
  readonly lanes_a: 4 | 8;
  readonly lanes_b: 4 | 8;
}

/** Operands as a kernel binds them, as `vec4`s unless it has loads of its own, with where the matrices lie: strides and starts of A and B in loads, those of C in fours. */
export function place(
  { a, b, c }: Operands,
  loads?: Loads,
): { bindings: Record<"a" | "b", Binding>; params: Record<string, number> } {
  const { lanes_a = 4, lanes_b = 4 } = loads ?? {};
  return {
    bindings: { a: loading(a.tensor, loads?.lanes_a), b: loading(b.tensor, loads?.lanes_b) },
    params: {
      lda: a.stride / lanes_a,
      ldb: b.stride / lanes_b,
      ldc: c.stride / 4,
      a_start: a.start / lanes_a,
      b_start: b.start / lanes_b,
      c_start: c.start / 4,
    },
  };
}
