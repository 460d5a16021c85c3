/**
 * Learned positions: a row of a table is added to each token, by the token's place in its sequence.
 *
 * @module
 */

import source from "../../../shaders/elementwise/positions.wgsl" with { type: "text" };
import { type Binding, grid, read, readScalar, update, write } from "../../gpu/kernel.ts";
import type { Plan } from "../../gpu/plan.ts";
import { BYTES, type Tensor } from "../../gpu/tensor.ts";

/** Invocations of a workgroup. */
const LANES = 64;

/** Operands of {@linkcode addPositions}. */
export interface AddPositions {
  /** `[rows, D]`, updated. Sequences follow one another. */
  readonly x: Tensor;
  /** `[positions, D]`. */
  readonly table: Tensor;
  /** Rows of a sequence: row `r` is at position `r mod length`, plus the start. */
  readonly length: number;
  /** `[sequences]` u32: the start of each. Positions beyond the table are the caller's error. Without it the start is 0. */
  readonly position?: Tensor;
}

/**
 * Records `x[row] += table[row mod length + start]`.
 *
 * @throws {RangeError} If a sequence is longer than the table, or widths differ.
 */
export function addPositions(plan: Plan, label: string, operands: AddPositions): void {
  const { x, table, length, position } = operands;
  checkShapes(label, { rows: x, table, length });
  const bindings: Record<string, Binding> = { x: update(x), table: read(table) };
  if (position) bindings["position"] = readScalar(position);
  plan.dispatch({
    label,
    name: "positions",
    source,
    constants: { BACKWARD: false, POSITION: !!position },
    params: { rows: x.rows, width: x.width / 4, length },
    bindings,
    workgroups: grid(Math.ceil(x.size / 4 / LANES)),
    flops: x.size,
    bytes: 2 * x.bytes + Math.min(x.rows, length) * x.width * BYTES[table.dtype],
  });
}

/** Operands of {@linkcode positionsBackward}. */
export interface PositionsBackward {
  /** Gradient of what the positions were added to, `[rows, D]`: whole sequences, which begin at position 0. */
  readonly dx: Tensor;
  /** Gradient of the table, `[positions, D]`. */
  readonly d_table: Tensor;
  /** Rows of a sequence. */
  readonly length: number;
  /** `accumulate` adds to what `d_table` holds; `none`, the default, writes zero to positions beyond a sequence. */
  readonly epilogue?: "none" | "accumulate";
}

/**
 * Records `d_table[p] = Σ over sequences of dx`, in the order of the sequences. The gradient of `x` is that of the sum, unchanged.
 *
 * @throws {RangeError} If a sequence is longer than the table, widths differ or a sequence is not whole.
 */
export function positionsBackward(plan: Plan, label: string, operands: PositionsBackward): void {
  const { dx, d_table, length, epilogue = "none" } = operands;
  checkShapes(label, { rows: dx, table: d_table, length });
  if (dx.rows % length !== 0) {
    throw new RangeError(
      `${label}: ${dx.name} has ${dx.rows} rows, no whole sequences of ${length} tokens`,
    );
  }
  const accumulate = epilogue === "accumulate";
  const rows = accumulate ? length : d_table.rows;
  plan.dispatch({
    label,
    name: "positions",
    source,
    constants: { BACKWARD: true, EPILOGUE: epilogue },
    params: { rows, width: dx.width / 4, length, sequences: dx.rows / length },
    bindings: {
      dx: read(dx),
      d_table: accumulate ? update(d_table) : write(d_table),
    },
    workgroups: grid(Math.ceil(rows * dx.width / 4 / LANES)),
    flops: dx.size,
    bytes: dx.bytes + (accumulate ? 2 : 1) * rows * dx.width * BYTES[d_table.dtype],
  });
}

function checkShapes(
  label: string,
  { rows, table, length }: { rows: Tensor; table: Tensor; length: number },
): void {
  if (table.width !== rows.width || rows.width % 4 !== 0) {
    throw new RangeError(
      `${label}: ${rows.name} is ${rows.width} wide, ${table.name} ${table.width}; expected the same multiple of 4`,
    );
  }
  if (length > table.rows) {
    throw new RangeError(
      `${label}: a sequence of ${length} tokens is longer than the ${table.rows} positions of ${table.name}`,
    );
  }
}
