/**
 * Rotary position embedding of some columns of a matrix, forward and backward.
 *
 * @module
 */

import source from "../../../shaders/attention/rope.wgsl" with { type: "text" };
import type { Gpu } from "../../gpu/device.ts";
import { type Binding, grid, read, readScalar, update, write } from "../../gpu/kernel.ts";
import { Arena } from "../../gpu/memory.ts";
import type { Plan } from "../../gpu/plan.ts";
import { Tensor } from "../../gpu/tensor.ts";
import { upload } from "../../gpu/transfer.ts";
import type { Matrix } from "../gemm/matrix.ts";

/** Base of the angles. */
export const ROPE_THETA = 10000;

/** Operands of {@linkcode rope}. */
export interface Rope {
  /** `[rows, rope]`: the columns of the first group, `rope` a multiple of 8. */
  readonly x: Matrix;
  /** Further groups of as many columns, `step` elements after one another: the heads. Defaults to one group. */
  readonly groups?: { readonly count: number; readonly step: number };
  /** `[rows, rope]`: gets the sum of the rotated groups. Without it, every group is rotated where it is. */
  readonly y?: Matrix;
  /** Rows of a sequence: row `r` is at position `r mod length`, plus the start. */
  readonly length: number;
  /** A u32 that holds the position at which the rows start, so that a recorded plan serves every position. */
  readonly position?: Tensor;
  /** Positions that the table covers; defaults to `length`. Positions beyond it are the caller's error. */
  readonly positions?: number;
  /** Turns back, which is also the gradient. */
  readonly inverse?: boolean;
}

/**
 * Records `y = R(x)` in the half-split form: pair `i` is columns `i` and `i + rope/2`, turned by `p · 10000^(−2i/rope)` at
 * position `p`.
 */
export function rope(plan: Plan, label: string, operands: Rope): void {
  const { x, y, length, position, positions = length, inverse = false } = operands;
  const { count, step } = operands.groups ?? { count: 1, step: 0 };
  if (x.columns % 8 !== 0 || step % 4 !== 0) {
    throw new RangeError(
      `${label}: ${x.columns} rotary columns ${step} apart; expected multiples of 8 and of 4`,
    );
  }
  if (y && (y.rows !== x.rows || y.columns !== x.columns)) {
    throw new RangeError(
      `${label}: ${x.tensor.name} is ${x.rows}×${x.columns}, ${y.tensor.name} ${y.rows}×${y.columns}`,
    );
  }
  const lanes = plan.gpu.capabilities.software ? 8 : 64;
  const half4 = x.columns / 8;
  const bindings: Record<string, Binding> = {
    turns: read(rotaryTable(plan.gpu, positions, x.columns)),
  };
  if (position) bindings["position"] = readScalar(position);
  if (y) {
    bindings["x"] = read(x.tensor);
    bindings["y"] = write(y.tensor);
  } else bindings["y"] = update(x.tensor);
  const target = y ?? x;
  const numbers = x.rows * count * x.columns;
  plan.dispatch({
    label,
    name: "rope",
    source,
    constants: { LANES: lanes, IN_PLACE: !y, POSITION: !!position, INVERSE: inverse },
    params: {
      rows: x.rows,
      groups: count,
      step: step / 4,
      half4,
      length,
      ldx: x.stride / 4,
      x_start: x.start / 4,
      ldy: target.stride / 4,
      y_start: target.start / 4,
    },
    bindings,
    workgroups: grid(Math.ceil(x.rows * (y ? 1 : count) * half4 / lanes)),
    flops: 3 * numbers,
    bytes: 8 * numbers,
  });
}

const tables = new WeakMap<Gpu, Map<string, Tensor>>();

/**
 * Cosines and sines `[positions, rope]`, a row's first half the cosines: made once for a device and freed with it. Computed
 * in float64, since an angle of thousands of radians would lose its last digits in f32.
 */
export function rotaryTable(gpu: Gpu, positions: number, width: number): Tensor {
  let ofDevice = tables.get(gpu);
  if (!ofDevice) tables.set(gpu, ofDevice = new Map());
  const key = `${positions}×${width}`;
  let table = ofDevice.get(key);
  if (table) return table;
  table = new Tensor(`rotary table ${key}`, [positions, width], { owner: "tables" });
  new Arena(gpu, table.name, [table]);
  const values = new Float32Array(positions * width);
  const half = width / 2;
  for (let p = 0; p < positions; p++) {
    for (let i = 0; i < half; i++) {
      const angle = p * ROPE_THETA ** (-2 * i / width);
      values[p * width + i] = Math.cos(angle);
      values[p * width + half + i] = Math.sin(angle);
    }
  }
  upload(gpu, table, values);
  ofDevice.set(key, table);
  return table;
}
