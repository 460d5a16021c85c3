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

/** Where frequencies differ from the plain `θ^(−2i/columns)`. */
export type RotaryScaling =
  | {
    /** Every frequency is divided by the factor. */
    readonly type: "linear";
    /** The divisor. */
    readonly factor: number;
  }
  | {
    /** Low frequencies are divided by the factor, high ones stay, between them it is a mean of both (Llama 3.1). */
    readonly type: "llama3";
    /** The divisor. */
    readonly factor: number;
    /** Turns over the original length below which a frequency is divided. */
    readonly low_freq_factor: number;
    /** Turns over the original length above which a frequency stays; more than `low_freq_factor`. */
    readonly high_freq_factor: number;
    /** The original length. */
    readonly original_max_position_embeddings: number;
  };

/** How fast the pairs of columns turn. */
export interface RotaryAngles {
  /** Base θ of the frequencies; defaults to 10000. */
  readonly base?: number;
  /** Defaults to none. */
  readonly scaling?: RotaryScaling;
}

interface Rope {
  /** `[rows, rope]`: the columns of the first group, an even number. */
  readonly x: Matrix;
  /** Further groups of as many columns, `step` elements after one another, a multiple of 4: the heads. Defaults to one group. */
  readonly groups?: { readonly count: number; readonly step: number };
  /** `[rows, rope]`: gets the sum of the rotated groups. Without it, every group is rotated where it is. */
  readonly y?: Matrix;
  /** Rows of a sequence: row `r` is at position `r mod length`, plus the start. */
  readonly length: number;
  /** `[sequences]` u32: the position at which the rows of each start, so that a recorded plan serves every position. */
  readonly position?: Tensor;
  /** Positions that the table covers; defaults to `length`. Positions beyond it are the caller's error. */
  readonly positions?: number;
  /** Frequencies of the pairs; `10000^(−2i/rope)` unless given. */
  readonly angles?: RotaryAngles;
  /** Turns back, which is also the gradient. */
  readonly inverse?: boolean;
}

/**
 * Records `y = R(x)` in the half-split form: pair `i` is columns `i` and `i + rope/2`, rotated by `p · frequencyᵢ` at
 * position `p`.
 */
export function rope(plan: Plan, label: string, operands: Rope): void {
  const { x, y, length, position, positions = length, angles = {}, inverse = false } = operands;
  const { count, step } = operands.groups ?? { count: 1, step: 0 };
  if (x.columns % 2 !== 0 || step % 4 !== 0) {
    throw new RangeError(
      `${label}: ${x.columns} rotary columns ${step} apart; expected multiples of 2 and of 4`,
    );
  }
  if (count > 1 && step < x.columns) {
    throw new RangeError(
      `${label}: ${count} groups of ${x.columns} rotary columns overlap ${step} apart`,
    );
  }
  if (y && (y.rows !== x.rows || y.columns !== x.columns)) {
    throw new RangeError(
      `${label}: ${x.tensor.name} is ${x.rows}×${x.columns}, ${y.tensor.name} ${y.rows}×${y.columns}`,
    );
  }
  const lanes = 64;
  // Halves that are whole vec4s turn as such.
  const aligned = x.columns % 8 === 0;
  const parts = aligned ? x.columns / 8 : 1;
  const table = rotaryTable(plan.gpu, positions, rotaryFrequencies(x.columns, angles));
  const bindings: Record<string, Binding> = { turns: aligned ? read(table) : readScalar(table) };
  if (position) bindings["position"] = readScalar(position);
  if (y) {
    bindings["x"] = read(x.tensor);
    // The last vec4 of a group may hold columns that stay.
    bindings["y"] = y.columns % 4 === 0 ? write(y.tensor) : update(y.tensor);
  } else bindings["y"] = update(x.tensor);
  const target = y ?? x;
  const numbers = x.rows * count * x.columns;
  plan.dispatch({
    label,
    name: "rope",
    source,
    constants: {
      LANES: lanes,
      IN_PLACE: !y,
      POSITION: !!position,
      INVERSE: inverse,
      ...(aligned ? {} : { WIDTH: x.columns }),
    },
    params: {
      rows: x.rows,
      groups: count,
      step: step / 4,
      half4: parts,
      length,
      ldx: x.stride / 4,
      x_start: x.start / 4,
      ldy: target.stride / 4,
      y_start: target.start / 4,
    },
    bindings,
    workgroups: grid(Math.ceil(x.rows * (y ? 1 : count) * parts / lanes)),
    flops: 3 * numbers,
    bytes: 8 * numbers,
  });
}

/** Radians a position of each of `columns / 2` pairs, in float64. */
function rotaryFrequencies(columns: number, { base = 10000, scaling }: RotaryAngles): number[] {
  const scaled = (frequency: number): number => {
    if (!scaling) return frequency;
    const divided = frequency / scaling.factor;
    if (scaling.type === "linear") return divided;
    const { low_freq_factor: low, high_freq_factor: high } = scaling;
    const turns = scaling.original_max_position_embeddings * frequency / (2 * Math.PI);
    if (turns < low) return divided;
    if (turns > high) return frequency;
    const share = (turns - low) / (high - low);
    return (1 - share) * divided + share * frequency;
  };
  return Array.from({ length: columns / 2 }, (_, i) => scaled(base ** (-2 * i / columns)));
}

const tables = new WeakMap<Gpu, Map<string, Tensor>>();

/**
 * Cosines and sines `[positions, rope]`, a row's first half the cosines: made once for a device and freed with it. Computed
 * in float64, since an angle of thousands of radians would lose its last digits in f32.
 */
function rotaryTable(gpu: Gpu, positions: number, frequencies: readonly number[]): Tensor {
  let ofDevice = tables.get(gpu);
  if (!ofDevice) tables.set(gpu, ofDevice = new Map());
  const key = `${positions}: ${frequencies}`;
  let table = ofDevice.get(key);
  if (table) return table;
  const half = frequencies.length;
  const width = 2 * half;
  const name = `rotary table ${positions}×${width}`;
  table = new Tensor(name, [positions, width], { owner: "tables" });
  new Arena(gpu, table.name, [table]);
  const values = new Float32Array(positions * width);
  for (let p = 0; p < positions; p++) {
    frequencies.forEach((frequency, i) => {
      values[p * width + i] = Math.cos(p * frequency);
      values[p * width + half + i] = Math.sin(p * frequency);
    });
  }
  upload(gpu, table, values);
  ofDevice.set(key, table);
  return table;
}
