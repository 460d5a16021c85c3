/**
 * RMS norm and layer norm share this: how rows are spread over invocations, what their operands have to be, and the gradients of
 * gain and bias.
 *
 * @module
 */

import rowsSource from "../../../shaders/gemm/rows.wgsl" with { type: "text" };
import lanesSource from "../../../shaders/norm/norm_lanes.wgsl" with { type: "text" };
import gradientsSource from "../../../shaders/norm/norm_gradients.wgsl" with { type: "text" };
import { type Constants, grid, read, readScalar, update, write } from "../../gpu/kernel.ts";
import type { Plan } from "../../gpu/plan.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { type Matrix, matrix } from "../gemm/matrix.ts";
import { softwareLanes } from "../subgroup.ts";
import type { VectorGradient } from "./batch_norm.ts";

/** Invocations of a workgroup on a GPU: all work on one row. */
const GPU_LANES = 64;
/** Invocations of a workgroup on a software adapter: each works on a row of its own. */
const SOFTWARE_LANES = 32;

/** Rows that an invocation asks for at a time when it adds up gradients. */
const UNROLL = { partial: 4, finish: 16 };

/** A whole tensor as a matrix, or the matrix as it is. */
export function asMatrix(operand: Matrix | Tensor): Matrix {
  return "tensor" in operand ? operand : matrix(operand);
}

/** The kernel that goes through `rows` rows: its text after `rows.wgsl`, the constants of that file and the workgroups. */
export function rowKernel(
  plan: Plan,
  rows: number,
  source: string,
): { source: string; constants: Constants; workgroups: [number, number, number] } {
  const software = plan.gpu.capabilities.software;
  const lanes = software ? SOFTWARE_LANES : GPU_LANES;
  return {
    source: rowsSource + source,
    constants: { LANES: lanes, BY_ROW: software },
    workgroups: grid(software ? Math.ceil(rows / lanes) : rows),
  };
}

/** Rows of a subgroup on a software adapter, at least, and subgroups at most. */
const BLOCKS = { rows: 16, most: 256 };
/** `vec4`s of a row that a lane has, at most. */
const MAX_VECTORS = 8;

/** How the lanes of vector registers go through blocks of rows. */
export interface LaneBlocks {
  readonly constants: {
    readonly LANES: number;
    readonly VECTORS: number;
    readonly FULL: boolean;
    readonly SUBGROUPS: boolean;
  };
  readonly blocks: number;
  /** Rows of a block. */
  readonly rows: number;
  /** Text to put before the kernel's. */
  readonly source: string;
}

/**
 * Blocks of rows for kernels after `norm_lanes.wgsl`; undefined where subgroups are no vector registers of a processor, and for long rows: those of which a
 * lane would have more than `most` `vec4`s.
 */
export function laneBlocks(
  plan: Plan,
  x: Pick<Matrix, "rows" | "columns">,
  most = MAX_VECTORS,
): LaneBlocks | undefined {
  const lanes = softwareLanes(plan.gpu.capabilities);
  if (lanes === undefined) return undefined;
  const vectors = Math.ceil(x.columns / 4 / lanes);
  if (vectors > most) return undefined;
  const rows = Math.max(BLOCKS.rows, Math.ceil(x.rows / BLOCKS.most));
  return {
    constants: {
      LANES: lanes,
      VECTORS: vectors,
      FULL: x.columns === 4 * lanes * vectors,
      SUBGROUPS: true,
    },
    blocks: Math.ceil(x.rows / rows),
    rows,
    source: lanesSource,
  };
}

/** Throws unless the other matrices have the shape of `x`, the vectors a number a column and the statistics a number a row. */
export function checkRows(
  label: string,
  x: Matrix,
  operands: {
    matrices: readonly Matrix[];
    vectors: Readonly<Record<string, Tensor>>;
    statistics: Readonly<Record<string, Tensor>>;
  },
): void {
  if (x.columns % 4 !== 0) {
    throw new RangeError(
      `${label}: ${x.tensor.name} has ${x.columns} columns, not a multiple of 4`,
    );
  }
  for (const other of operands.matrices) {
    if (other.rows !== x.rows || other.columns !== x.columns) {
      throw new RangeError(
        `${label}: ${x.tensor.name} is ${x.rows}×${x.columns}, ${other.tensor.name} ${other.rows}×${other.columns}`,
      );
    }
  }
  const checkSizes = (tensors: Readonly<Record<string, Tensor>>, size: number) => {
    for (const [what, tensor] of Object.entries(tensors)) {
      if (tensor.size !== size) {
        throw new RangeError(
          `${label}: ${x.tensor.name} is ${x.rows}×${x.columns}, but the ${what} has ${tensor.size} elements; expected ${size}`,
        );
      }
    }
  };
  checkSizes(operands.vectors, x.columns);
  checkSizes(operands.statistics, x.rows);
}

/**
 * Records `dgain = Σ over rows of dy · x · scale`, and with a mean `dgain = Σ dy · (x − mean) · scale` and `dbias = Σ dy`: sums over fixed
 * blocks of rows and then over the blocks, so that their bits do not depend on the order of execution.
 */
export function normGradients(plan: Plan, label: string, operands: {
  readonly x: Matrix;
  readonly dy: Matrix;
  readonly scale: Tensor;
  readonly dgain: VectorGradient;
  /** Of a layer norm. */
  readonly centred?: { readonly mean: Tensor; readonly dbias: VectorGradient };
}): void {
  const { x, dy, scale, dgain, centred } = operands;
  const software = plan.gpu.capabilities.software;
  const lanes = software ? SOFTWARE_LANES : GPU_LANES;
  const columns4 = x.columns / 4;
  // Enough blocks to fill the device, not so many that the second stage takes long.
  const most = software ? 8 : 256;
  const blockRows = Math.max(8, Math.ceil(x.rows / most));
  const blocks = Math.ceil(x.rows / blockRows);
  const partial = plan.tensor(`${label}.partial`, [blocks, x.columns]);
  const shift = centred && plan.tensor(`${label}.shift`, [blocks, x.columns]);
  plan.dispatch({
    label: `${label}.gain`,
    name: "norm_gradients",
    source: gradientsSource,
    constants: {
      LANES: lanes,
      UNROLL: UNROLL.partial,
      STAGE: "partial",
      EPILOGUE: "none",
      CENTRED: !!centred,
    },
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
      ...(centred && shift ? { mean: readScalar(centred.mean), shift: write(shift) } : {}),
    },
    workgroups: grid(Math.ceil(blocks * columns4 / lanes)),
    flops: (centred ? 5 : 3) * x.rows * x.columns,
    bytes: 8 * x.rows * x.columns,
  });
  finishGradient(plan, `${label}.gain`, { partial, gradient: dgain });
  if (centred && shift) {
    finishGradient(plan, `${label}.bias`, { partial: shift, gradient: centred.dbias });
  }
}

/** Records the second stage: the gradient of a vector from sums over blocks of rows, `partial` `[blocks, columns]`. */
export function finishGradient(
  plan: Plan,
  label: string,
  { partial, gradient: { tensor, epilogue } }: { partial: Tensor; gradient: VectorGradient },
): void {
  const lanes = plan.gpu.capabilities.software ? SOFTWARE_LANES : GPU_LANES;
  const columns4 = partial.width / 4;
  plan.dispatch({
    label: `${label}.finish`,
    name: "norm_gradients",
    source: gradientsSource,
    constants: {
      LANES: lanes,
      UNROLL: UNROLL.finish,
      STAGE: "finish",
      EPILOGUE: epilogue,
      CENTRED: false,
    },
    params: { columns4, blocks: partial.rows },
    bindings: {
      partial: read(partial),
      sum: epilogue === "accumulate" ? update(tensor) : write(tensor),
    },
    workgroups: grid(Math.ceil(columns4 / lanes)),
    flops: partial.size,
  });
}
