/**
 * A stable, deterministic sort by small integer keys: assignments by expert, tokens by their id.
 *
 * @module
 */

import beginSource from "../../../shaders/routing/sort_begin.wgsl" with { type: "text" };
import lanesSource from "../../../shaders/routing/sort_lanes.wgsl" with { type: "text" };
import countSource from "../../../shaders/routing/sort_count.wgsl" with { type: "text" };
import scanSource from "../../../shaders/routing/sort_scan.wgsl" with { type: "text" };
import scatterSubgroupSource from "../../../shaders/routing/sort_scatter_subgroup.wgsl" with {
  type: "text",
};
import scatterSource from "../../../shaders/routing/sort_scatter.wgsl" with { type: "text" };
import type { Capabilities } from "../../gpu/capabilities.ts";
import { grid, readScalar, updateScalar, writeScalar } from "../../gpu/kernel.ts";
import type { Plan } from "../../gpu/plan.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { softwareLanes, subgroupSize } from "../subgroup.ts";

/** The result of {@linkcode sortByKey}. */
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
/** Threads of a workgroup with subgroups, at most, and their counters of digits, which take 16 KiB. */
const SUBGROUP_THREADS = 256;
const SUBGROUP_COUNTERS = 4096;
/** Keys of a block on software adapters, at most where one subgroup does all; an invocation does a block by itself. */
const SOFTWARE_BLOCK = 1024;
/** Bits that one subgroup sorts by at once, at most: it goes through every digit, but a pass less is a dispatch less. */
const LANES_BITS = 10;

/** Bits of a pass when there are as few passes of at most `most` bits as it takes, all of as few bits as they can be. */
function bitsOfPass(bound: number, most: number): number {
  const all = Math.max(1, Math.ceil(Math.log2(bound)));
  return Math.ceil(all / Math.ceil(all / most));
}

/** How a device sorts: bits of a pass, keys of a block, and the kernels' constants. */
function method(capabilities: Capabilities, bound: number) {
  const size = subgroupSize(capabilities);
  const fewest = bitsOfPass(bound, 8);
  if (capabilities.software || size === undefined) {
    const { software } = capabilities;
    const bits = software ? fewest : 4;
    return {
      bits,
      block: software ? SOFTWARE_BLOCK : THREADS * ITEMS,
      constants: { SOFTWARE: software, RADIX: 2 ** bits, THREADS, ITEMS },
    };
  }
  const bits = fewest;
  const radix = 2 ** bits;
  const groups = Math.min(SUBGROUP_THREADS / size, Math.floor(SUBGROUP_COUNTERS / radix));
  return {
    bits,
    block: groups * size * ITEMS,
    constants: { SOFTWARE: false, RADIX: radix, THREADS: groups * size, ITEMS },
    subgroups: { SUBGROUPS: true, BITS: bits, SIZE: size, GROUPS: groups },
  };
}

/**
 * Records a radix sort of `keys` (u32, any shape, every value below `bound`).
 *
 * Passes of up to 8 bits on software adapters and with subgroups, of 4 elsewhere; as many as `bound` has.
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
  const lanes = softwareLanes(plan.gpu.capabilities);
  const few = lanes !== undefined && n <= lanes * SOFTWARE_BLOCK &&
    4 * 2 ** LANES_BITS * lanes <= plan.gpu.capabilities.max_binding_bytes;
  if (few) {
    return sortFew(plan, label, { ...input, lanes });
  }
  const { software } = plan.gpu.capabilities;
  const { bits, block, constants, subgroups } = method(plan.gpu.capabilities, bound);
  const radix = constants.RADIX;
  const blocks = Math.ceil(n / block);
  const workgroups = grid(software ? Math.ceil(blocks / 8) : blocks);
  const u32 = (name: string, size: number) =>
    plan.tensor(`${label}.${name}`, [size], { dtype: "u32", owner: "sorting" });

  let keys = input.keys;
  let order: Tensor | undefined;
  for (let shift = 0; shift === 0 || bound - 1 >= 2 ** shift; shift += bits) {
    const next = { keys: u32("keys", n), order: u32("order", n) };
    const counts = u32("counts", radix * blocks);
    const totals = software ? undefined : u32("totals", radix);
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
      params: totals ? { blocks } : { n: counts.size },
      bindings: { counts: updateScalar(counts), ...(totals && { totals: writeScalar(totals) }) },
      workgroups: [totals ? radix : 1, 1, 1],
    });
    plan.dispatch({
      label: `${label}.scatter`,
      name: subgroups ? "sort_scatter_subgroup" : "sort_scatter",
      source: subgroups ? scatterSubgroupSource : scatterSource,
      constants: { ...constants, ...subgroups, FIRST: order === undefined },
      params,
      bindings: {
        keys: readScalar(keys),
        ...(order && { order: readScalar(order) }),
        counts: software ? updateScalar(counts) : readScalar(counts),
        ...(totals && { totals: readScalar(totals) }),
        keys_out: writeScalar(next.keys),
        order_out: writeScalar(next.order),
      },
      workgroups,
    });
    ({ keys, order } = next);
  }
  const begin = u32("begin", bound + 1);
  findBegins(plan, label, { keys, begin });
  return { order: order!, keys, begin };
}

/** Sorts so few keys that one subgroup of a software adapter does a pass, which finds where keys begin when there is no other. */
function sortFew(
  plan: Plan,
  label: string,
  input: { keys: Tensor; bound: number; lanes: number },
): Sorted {
  const { bound, lanes } = input;
  const n = input.keys.size;
  const bits = bitsOfPass(bound, LANES_BITS);
  const digits = 2 ** bits;
  const once = digits >= bound;
  const u32 = (name: string, size: number) =>
    plan.tensor(`${label}.${name}`, [size], { dtype: "u32", owner: "sorting" });
  const begin = u32("begin", bound + 1);
  let keys = input.keys;
  let order: Tensor | undefined;
  for (let shift = 0; shift === 0 || bound - 1 >= 2 ** shift; shift += bits) {
    const next = { keys: u32("keys", n), order: u32("order", n) };
    plan.dispatch({
      label: `${label}.pass`,
      name: "sort_lanes",
      source: lanesSource,
      constants: { LANES: lanes, FIRST: order === undefined, BEGIN: once, SUBGROUPS: true },
      params: { n, block: Math.ceil(n / lanes), digits, shift, bound },
      bindings: {
        keys: readScalar(keys),
        ...(order && { order: readScalar(order) }),
        counts: writeScalar(u32("counts", digits * lanes)),
        keys_out: writeScalar(next.keys),
        order_out: writeScalar(next.order),
        ...(once && { begin: writeScalar(begin) }),
      },
      workgroups: [1, 1, 1],
    });
    ({ keys, order } = next);
  }
  if (!once) findBegins(plan, label, { keys, begin });
  return { order: order!, keys, begin };
}

/** Records where the entries of each key begin among sorted keys. */
function findBegins(
  plan: Plan,
  label: string,
  { keys, begin }: { keys: Tensor; begin: Tensor },
): void {
  const workgroup = 64;
  plan.dispatch({
    label: `${label}.begin`,
    name: "sort_begin",
    source: beginSource,
    constants: { WORKGROUP: workgroup },
    params: { n: keys.size, bound: begin.size - 1 },
    bindings: { keys: readScalar(keys), begin: writeScalar(begin) },
    workgroups: grid(Math.ceil(begin.size / workgroup)),
  });
}
