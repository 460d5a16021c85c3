/**
 * Appends rows to a cache, at a position that the device holds.
 *
 * @module
 */

import source from "../../../shaders/decoding/append_rows.wgsl" with { type: "text" };
import { grid, read, readScalar, update } from "../../gpu/kernel.ts";
import type { Plan } from "../../gpu/plan.ts";
import type { Tensor } from "../../gpu/tensor.ts";

/** Invocations of a workgroup. */
const LANES = 64;

interface AppendRows {
  /** `[rows, width]`. */
  readonly x: Tensor;
  /** `[capacity, width]`; what lies outside of the new rows stays. */
  readonly cache: Tensor;
  /** A u32: where the first row goes. */
  readonly position: Tensor;
}

/** Records `cache[position + i] = x[i]` for every row; rows beyond the capacity are dropped. */
export function appendRows(plan: Plan, label: string, operands: AppendRows): void {
  const { x, cache, position } = operands;
  if (x.width !== cache.width || x.width % 4 !== 0) {
    throw new RangeError(
      `${label}: rows of ${x.width} (${x.name}) do not go into ${cache.name} with rows of ${cache.width}`,
    );
  }
  plan.dispatch({
    label,
    name: "append_rows",
    source,
    constants: { LANES },
    params: { rows: x.rows, columns4: x.width / 4, capacity: cache.rows },
    bindings: { x: read(x), cache: update(cache), position: readScalar(position) },
    workgroups: grid(Math.ceil(x.size / 4 / LANES)),
    bytes: 2 * x.bytes,
  });
}
