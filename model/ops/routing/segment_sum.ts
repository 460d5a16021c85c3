/**
 * Sums of rows that share a key, in a fixed order: gradients of latent codes, of an embedding.
 *
 * @module
 */

import source from "../../../shaders/routing/segment_sum.wgsl" with { type: "text" };
import { type Binding, grid, read, readScalar, update, write } from "../../gpu/kernel.ts";
import type { Plan } from "../../gpu/plan.ts";
import type { Matrix } from "../gemm/matrix.ts";
import type { Sorted } from "./sort.ts";

/** The entries that are summed. */
interface Entries {
  /** WGSL that defines `fn entry(at: u32, segment: u32, column: u32) -> vec4f`, `at` an element of `order`, `column` in vec4s. */
  readonly wgsl: string;
  /** The tensors that it reads; at most four. */
  readonly bindings: Readonly<Record<string, Binding>>;
  /** Its parameters. */
  readonly params?: Readonly<Record<string, number>>;
}

/** Positions that are summed at once where one segment has them all. */
const CHUNK = 64;
/** Vectors of four columns that an invocation sums, and entries that it asks for at once, on real GPUs. */
const COLUMNS = 4;
const UNROLL = 4;
/** Entries that a software adapter sums without chunks, at most: a dispatch takes longer there than the longest of their segments. */
const FEW = 4096;
/** Bytes that the sums of chunks may take; chunks grow beyond it. */
const PARTIAL_BYTES = 64 * 2 ** 20;

/** The rows of a matrix as entries: row `order[i]` belongs to key `keys[i]`. */
export function rowsOf(rows: Matrix): Entries {
  return {
    wgsl:
      "fn entry(at: u32, segment: u32, column: u32) -> vec4f { return load_rows(params.r_start + at * params.ldr + column); }",
    bindings: { rows: read(rows.tensor) },
    params: { ldr: rows.stride / 4, r_start: rows.start / 4 },
  };
}

/**
 * Records `out[s] = Σ entries of key first + s`, one row of `out` a key; keys without entries get zeros, or with `accumulate` are left alone.
 *
 * Two dispatches, both of fixed order. Segments longer than 64 entries are summed in pieces by different invocations. On a software adapter few entries
 * are summed in one dispatch.
 *
 * @param options `accumulate`: add to what `out` holds.
 *
 * @example
 * ```ts ignore
 * // The gradient of an embedding: rows of dx summed by token.
 * const sorted = sortByKey(plan, "tokens", { keys: tokens, bound: vocabulary });
 * segmentSum(plan, "embedding", { sorted, entries: rowsOf(matrix(dx)), out: matrix(gradient), first: 0 });
 * ```
 */
export function segmentSum(
  plan: Plan,
  label: string,
  input: { sorted: Sorted; entries: Entries; out: Matrix; first: number; accumulate?: boolean },
): void {
  const { sorted, entries, out, first } = input;
  const n = sorted.order.size;
  const width = Math.ceil(out.columns / 4);
  const most = Math.min(PARTIAL_BYTES, plan.gpu.capabilities.max_binding_bytes);
  const { software } = plan.gpu.capabilities;
  const whole = software && n <= FEW;
  let chunk = CHUNK;
  while (Math.ceil(n / chunk) * width * 16 > most) chunk *= 2;
  const chunks = Math.max(1, Math.floor(n / chunk));
  const workgroup = 64;
  const columns = Math.min(COLUMNS, width);
  const group = Math.ceil(width / columns);
  const partial = plan.tensor(`${label}.partial`, [chunks, 4 * width], { owner: "workspace" });
  const constants = {
    WORKGROUP: workgroup,
    COLUMNS: columns,
    UNROLL: software ? 1 : UNROLL,
    ENTRY: entries.wgsl,
    WHOLE: whole,
  };
  const params = { n, width, group, chunk, first, count: out.rows, ...entries.params };
  if (!whole) {
    plan.dispatch({
      label: `${label}.partial`,
      name: "segment_sum",
      source,
      constants: { ...constants, STAGE: "partial", ACCUMULATE: false },
      params,
      bindings: {
        order: readScalar(sorted.order),
        keys: readScalar(sorted.keys),
        ...entries.bindings,
        partial: write(partial),
      },
      workgroups: grid(Math.ceil(chunks * group / workgroup)),
    });
  }
  plan.dispatch({
    label,
    name: "segment_sum",
    source,
    constants: { ...constants, STAGE: "final", ACCUMULATE: input.accumulate === true },
    params: {
      ...params,
      ldo: out.stride / 4,
      o_start: out.start / 4,
    },
    bindings: {
      order: readScalar(sorted.order),
      begin: readScalar(sorted.begin),
      ...entries.bindings,
      ...(!whole && { partial: read(partial) }),
      out: input.accumulate ? update(out.tensor) : write(out.tensor),
    },
    workgroups: grid(Math.ceil(out.rows * group / workgroup)),
  });
}
