/**
 * The places of tokens among their experts: entries (a token and one of its kept experts) sorted by expert, each expert's rows padded to whole tiles.
 *
 * @module
 */

import beginSource from "../../../shaders/mixture/mixture_begin.wgsl" with { type: "text" };
import source from "../../../shaders/mixture/mixture_segments.wgsl" with { type: "text" };
import { grid, readScalar, writeScalar } from "../../gpu/kernel.ts";
import type { Plan } from "../../gpu/plan.ts";
import type { DType, Tensor } from "../../gpu/tensor.ts";
import { type Groups, groupTile, paddedRows } from "../gemm/gemm_grouped.ts";
import { sortByKey, type Sorted } from "../routing/sort.ts";

/** Entries and the padded rows that they have. */
export interface Segments {
  /** The entries, sorted by expert. */
  readonly sorted: Sorted;
  /** The experts' rows, as grouped products take them. */
  readonly groups: Groups;
  /** Entry of each row, u32 `[rows]`; of a row without one a number beyond all. */
  readonly source: Tensor;
  /** Row of each entry, u32 `[T · k]`; of an entry without one a number beyond all. */
  readonly place: Tensor;
}

/**
 * Records the places of entries.
 *
 * @param input `keys` u32 `[T, k]`: the expert of each entry. `drops`: E stands for none. `gradients`: whether there is a backward pass. `dtype`: that of the rows and
 * of the experts' weights as products read them.
 */
export function segmentsOf(
  plan: Plan,
  label: string,
  input: { keys: Tensor; experts: number; drops: boolean; gradients: boolean; dtype: DType },
): Segments {
  const { keys, experts, drops, gradients, dtype } = input;
  const entries = keys.size;
  const sorted = sortByKey(plan, `${label}.sort`, { keys, bound: experts + (drops ? 1 : 0) });
  const { capabilities } = plan.gpu;
  const tile = groupTile(capabilities, { rows: entries, groups: experts, gradients, dtype });
  const rows = paddedRows({ rows: entries, groups: experts, tile });
  const u32 = (name: string, size: number) =>
    plan.tensor(`${label}.${name}`, [size], { dtype: "u32", owner: "sorting" });
  const begin_of = u32("begin_of", experts + 1);
  plan.dispatch({
    label: `${label}.begin`,
    name: "mixture_begin",
    source: beginSource,
    constants: { TILE: tile },
    params: { groups: experts },
    bindings: { begin: readScalar(sorted.begin), row_of: writeScalar(begin_of) },
    workgroups: [1, 1, 1],
  });
  const of_tile = u32("of_tile", rows / tile);
  const from = u32("source", rows);
  const place = u32("place", entries);
  const workgroup = 64;
  plan.dispatch({
    label: `${label}.segments`,
    name: "mixture_segments",
    source,
    constants: { WORKGROUP: workgroup, TILE: tile, DROPS: drops },
    params: { n: entries, rows, groups: experts },
    bindings: {
      begin: readScalar(sorted.begin),
      row_of: readScalar(begin_of),
      order: readScalar(sorted.order),
      ...(drops && { keys: readScalar(sorted.keys) }),
      source: writeScalar(from),
      place: writeScalar(place),
      of_tile: writeScalar(of_tile),
    },
    workgroups: grid(Math.ceil(rows / workgroup)),
  });
  const groups = { count: experts, tile, rows, filled: entries, of_tile, begin_of };
  return { sorted, groups, source: from, place };
}
