/**
 * Sums over rows, which are the gradients of biases.
 *
 * @module
 */

import source from "../../../shaders/elementwise/column_sums.wgsl" with { type: "text" };
import { grid, read, update, write } from "../../gpu/kernel.ts";
import type { Plan } from "../../gpu/plan.ts";
import type { Tensor } from "../../gpu/tensor.ts";

/** Rows that an invocation asks for at a time. */
const UNROLL = 8;

/** Columns whose sums are held at zero. */
export interface HeldColumns {
  /** The first column of the range. */
  readonly first: number;
  /** The column after the last one of the range. */
  readonly end: number;
  /** The range goes by so many columns, of which the first `free` are not held. */
  readonly step: number;
  readonly free: number;
}

/** Operands of {@linkcode columnSums}. */
export interface ColumnSums {
  /** `[rows, n]`. */
  readonly x: Tensor;
  /** `[n]`, f32, and whether it is added to. */
  readonly y: { readonly tensor: Tensor; readonly epilogue: "none" | "accumulate" };
  /** Columns whose exact sum is zero, and should be so without rounding. */
  readonly held?: HeldColumns | undefined;
}

/**
 * Records `y = Σ over rows of x`: sums over fixed blocks of rows and then over the blocks, so that their bits do not depend on the order of
 * execution.
 */
export function columnSums(plan: Plan, label: string, operands: ColumnSums): void {
  const { x, y, held = { first: 0, end: 0, step: 1, free: 0 } } = operands;
  if (y.tensor.size !== x.width || x.width % 4 !== 0) {
    throw new RangeError(
      `${label}: ${x.name} is ${x.width} wide, ${y.tensor.name} has ${y.tensor.size} elements; expected the same multiple of 4`,
    );
  }
  const { software } = plan.gpu.capabilities;
  const lanes = software ? 8 : 64;
  const columns4 = x.width / 4;
  // Enough blocks to fill the device, not so many that the second stage takes long.
  const blockRows = Math.max(8, Math.ceil(x.rows / (software ? 8 : 256)));
  const blocks = Math.ceil(x.rows / blockRows);
  const partial = plan.tensor(`${label}.partial`, [blocks, x.width]);
  plan.dispatch({
    label: `${label}.partial`,
    name: "column_sums",
    source,
    constants: { LANES: lanes, UNROLL, STAGE: "partial", EPILOGUE: "none" },
    params: { columns4, blocks, block_rows: blockRows, rows: x.rows },
    bindings: { x: read(x), y: write(partial) },
    workgroups: grid(Math.ceil(blocks * columns4 / lanes)),
    flops: x.size,
  });
  plan.dispatch({
    label,
    name: "column_sums",
    source,
    constants: { LANES: lanes, UNROLL, STAGE: "finish", EPILOGUE: y.epilogue },
    params: {
      columns4,
      blocks: 1,
      block_rows: blocks,
      rows: blocks,
      held_first: held.first,
      held_end: held.end,
      held_step: held.step,
      held_free: held.free,
    },
    bindings: {
      x: read(partial),
      y: y.epilogue === "accumulate" ? update(y.tensor) : write(y.tensor),
    },
    workgroups: grid(Math.ceil(columns4 / lanes)),
    flops: partial.size,
  });
}
