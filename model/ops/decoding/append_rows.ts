/**
 * Appends rows to the caches of sequences, at positions that the device holds.
 *
 * @module
 */

import source from "../../../shaders/decoding/append_rows.wgsl" with { type: "text" };
import { grid, read, readScalar, update } from "../../gpu/kernel.ts";
import type { Plan } from "../../gpu/plan.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { sequencesOf } from "./spans.ts";

/** Invocations of a workgroup. */
const LANES = 64;

interface AppendRows {
  /** `[sequences·length, width]`. */
  readonly x: Tensor;
  /** `[sequences·capacity, width]`; what lies outside of the new rows stays. */
  readonly cache: Tensor;
  /** `[sequences]` u32: where the first row of each goes. */
  readonly position: Tensor;
}

/** Records `cache[position + i] = x[i]` for every row of every sequence; rows beyond a sequence's capacity are dropped. */
export function appendRows(plan: Plan, label: string, operands: AppendRows): void {
  const { x, cache, position } = operands;
  if (x.width !== cache.width || x.width % 4 !== 0) {
    throw new RangeError(
      `${label}: rows of ${x.width} (${x.name}) do not go into ${cache.name} with rows of ${cache.width}`,
    );
  }
  const { length, capacity } = sequencesOf(label, { position, rows: x, cache });
  plan.dispatch({
    label,
    name: "append_rows",
    source,
    constants: { LANES },
    params: { rows: x.rows, columns4: x.width / 4, length, capacity },
    bindings: { x: read(x), cache: update(cache), position: readScalar(position) },
    workgroups: grid(Math.ceil(x.size / 4 / LANES)),
    bytes: 2 * x.bytes,
  });
}
