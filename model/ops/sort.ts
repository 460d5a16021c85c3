/**
 * A stable, deterministic sort by small integer keys: assignments by expert, tokens by their id.
 *
 * @module
 */

import beginSource from "../../shaders/sort_begin.wgsl" with { type: "text" };
import countSource from "../../shaders/sort_count.wgsl" with { type: "text" };
import scanSource from "../../shaders/sort_scan.wgsl" with { type: "text" };
import scatterSource from "../../shaders/sort_scatter.wgsl" with { type: "text" };
import { grid, readScalar, updateScalar, writeScalar } from "../gpu/kernel.ts";
import type { Plan } from "../gpu/plan.ts";
import type { Tensor } from "../gpu/tensor.ts";

/** What {@linkcode sortByKey} gives. */
export interface Sorted {
  /** Positions in `keys`, sorted by key; equal keys keep their order. u32 `[n]`. */
  readonly order: Tensor;
  /** The keys in that order, u32 `[n]`. */
  readonly keys: Tensor;
  /** Where the entries of key `j` begin in `order`; `begin[bound]` is `n`. u32 `[bound + 1]`. */
  readonly begin: Tensor;
}

/** Threads of a workgroup and keys of a thread, where there is workgroup memory. */
const THREADS = 128;
const ITEMS = 16;
/** Keys of a block on software adapters, where an invocation does a block by itself. */
const SOFTWARE_BLOCK = 1024;

/**
 * Records a radix sort of `keys` (u32, any shape, every value below `bound`).
 *
 * Passes of 8 bits on software adapters and of 4 elsewhere, as many as `bound` has.
 *
 * @example
 * ```ts ignore
 * // Which kept experts of which token belong to expert 7: order[begin[7] .. begin[8]].
 * const { order, begin } = sortByKey(plan, "sort", { keys: index, bound: config.num_experts });
 * ```
 */
export function sortByKey(
  plan: Plan,
  label: string,
  input: { keys: Tensor; bound: number },
): Sorted {
  const { bound } = input;
  if (input.keys.dtype !== "u32") {
    throw new TypeError(`${label}: keys ${input.keys.name} are ${input.keys.dtype}, expected u32`);
  }
  if (!Number.isInteger(bound) || bound < 1) {
    throw new RangeError(`${label}: bound is ${bound}, expected a positive whole number`);
  }
  const n = input.keys.size;
  const { software } = plan.gpu.capabilities;
  const bits = software ? 8 : 4;
  const radix = 2 ** bits;
  const block = software ? SOFTWARE_BLOCK : THREADS * ITEMS;
  const blocks = Math.ceil(n / block);
  const constants = { SOFTWARE: software, RADIX: radix, THREADS, ITEMS };
  const workgroups = grid(software ? Math.ceil(blocks / 8) : blocks);
  const u32 = (name: string, size: number) =>
    plan.tensor(`${label}.${name}`, [size], { dtype: "u32", owner: "sorting" });

  let keys = input.keys;
  let order: Tensor | undefined;
  for (let shift = 0; shift === 0 || bound - 1 >= 2 ** shift; shift += bits) {
    const counts = u32("counts", radix * blocks);
    const params = { n, blocks, block, shift };
    plan.dispatch({
      label: `${label}.count`,
      name: "sort_count",
      source: countSource,
      constants,
      params,
      bindings: { keys: readScalar(keys), counts: writeScalar(counts) },
      workgroups,
    });
    plan.dispatch({
      label: `${label}.scan`,
      name: "sort_scan",
      source: scanSource,
      constants: { SOFTWARE: software },
      params: { n: counts.size },
      bindings: { counts: updateScalar(counts) },
      workgroups: [1, 1, 1],
    });
    const next = { keys: u32("keys", n), order: u32("order", n) };
    plan.dispatch({
      label: `${label}.scatter`,
      name: "sort_scatter",
      source: scatterSource,
      constants: { ...constants, FIRST: order === undefined },
      params,
      bindings: {
        keys: readScalar(keys),
        ...(order && { order: readScalar(order) }),
        counts: updateScalar(counts),
        keys_out: writeScalar(next.keys),
        order_out: writeScalar(next.order),
      },
      workgroups,
    });
    ({ keys, order } = next);
  }
  const begin = u32("begin", bound + 1);
  const workgroup = software ? 8 : 64;
  plan.dispatch({
    label: `${label}.begin`,
    name: "sort_begin",
    source: beginSource,
    constants: { WORKGROUP: workgroup },
    params: { n, bound },
    bindings: { keys: readScalar(keys), begin: writeScalar(begin) },
    workgroups: grid(Math.ceil((bound + 1) / workgroup)),
  });
  return { order: order!, keys, begin };
}
