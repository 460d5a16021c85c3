/**
 * Products of every head with its own block of a matrix, for few tokens.
 *
 * @module
 */

import source from "../../../shaders/decoding/head_product.wgsl" with { type: "text" };
import { grid, read, write } from "../../gpu/kernel.ts";
import type { Plan } from "../../gpu/plan.ts";
import type { Tensor } from "../../gpu/tensor.ts";

/** Invocations of a workgroup. */
const LANES = 64;

/** Columns of each head in a matrix whose rows hold all heads. */
interface HeadColumns {
  /** The matrix. */
  readonly tensor: Tensor;
  /** Width of a head's part that takes part. */
  readonly columns: number;
  /** Elements from one head to the next. */
  readonly step: number;
  /** Column of the first head's part. */
  readonly start?: number;
}

interface HeadProduct {
  /** Heads. */
  readonly heads: number;
  /** `[tokens, heads · step]`, `start` 0. */
  readonly x: HeadColumns;
  /** A matrix with the heads side by side: a head's columns are `n` of `[k, n]`, or `k` of `[n, k]` when transposed. */
  readonly w: HeadColumns;
  /** `[tokens, heads · n]`. */
  readonly y: Tensor;
  /** Whether `w` holds a head's block as `[n, k]`. */
  readonly transposed?: boolean;
}

/** Records `y_h = x_h W_h` (or `x_h W_hᵀ`) for every head and token. */
export function headProduct(plan: Plan, label: string, operands: HeadProduct): void {
  const { heads, x, w, y, transposed = false } = operands;
  const [k, n] = transposed ? [w.columns, w.tensor.rows] : [w.tensor.rows, w.columns];
  if (x.columns !== k || y.width !== heads * n || y.rows !== x.tensor.rows) {
    throw new RangeError(
      `${label}: ${heads} heads of ${x.columns} columns of ${x.tensor.name}, of ${k}×${n} of ${w.tensor.name}, and ${y.rows}×${y.width} of ${y.name} do not fit`,
    );
  }
  plan.dispatch({
    label,
    name: "head_product",
    source,
    constants: { LANES, TRANSPOSED: transposed },
    params: {
      tokens: y.rows,
      heads,
      n4: n / 4,
      k4: k / 4,
      ldx: x.tensor.width / 4,
      x_step: x.step / 4,
      w_start: (w.start ?? 0) / 4,
      w_step: w.step / 4,
      ldw: w.tensor.width / 4,
      ldy: y.width / 4,
      y_step: n / 4,
    },
    bindings: { x: read(x.tensor), w: read(w.tensor), y: write(y) },
    workgroups: grid(Math.ceil(y.size / 4 / LANES)),
    flops: 2 * y.size * k,
  });
}
