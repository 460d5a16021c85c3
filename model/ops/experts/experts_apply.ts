/**
 * The kept experts of each token in one pass over their rows, where a subgroup holds a row in registers: half the bytes of projecting first and
 * combining then.
 *
 * @module
 */

import source from "../../../shaders/experts/experts_apply_subgroup.wgsl" with { type: "text" };
import sumsSource from "../../../shaders/experts/experts_quarter_sums.wgsl" with { type: "text" };
import geluSource from "../../../shaders/elementwise/gelu.wgsl" with { type: "text" };
import type { Capabilities } from "../../gpu/capabilities.ts";
import {
  grid,
  read,
  readScalar,
  update,
  updateScalar,
  write,
  writeScalar,
} from "../../gpu/kernel.ts";
import type { Plan } from "../../gpu/plan.ts";
import { BYTES, type Tensor } from "../../gpu/tensor.ts";
import type { Kept } from "./experts.ts";
import { subgroupSize } from "../subgroup.ts";

/** Invocations of a workgroup. */
const INVOCATIONS = 128;
/** Vectors of four of a row that an invocation holds, at most. */
const MOST_TILES = 8;

/** Whether {@linkcode applyExperts} can be recorded for rows of `width` numbers. */
export function canApplyExperts(capabilities: Capabilities, width: number): boolean {
  const size = subgroupSize(capabilities);
  return size !== undefined && width / 4 <= MOST_TILES * size;
}

/**
 * Records `acc_t = Σ a h` over the kept experts of each token that the table has, or with `backward` the gradients, from `p = h · xp` on:
 * `out` becomes `Σ dp h` and, context-aware, the gradient of the context's part beside it.
 *
 * @param input `table` `[count, width]`: rows of experts from `first` on; `all`: no other table has any. `x` `[T, ≥ width]`; with
 * `context` its rows hold the context's part after `xp`. `out` `[T, width]`, context-aware and backward `[T, 2·width]`; `initial`: overwrite it rather
 * than add to it. `backward`: `g` = `dacc`, `entries` f32 `[T, M, 4]` (a, dp, ds, p) and `dscore` f32 `[T, M]`, written.
 */
export function applyExperts(
  plan: Plan,
  label: string,
  input: {
    table: Tensor;
    first: number;
    all: boolean;
    kept: Kept;
    x: Tensor;
    context: boolean;
    out: Tensor;
    initial: boolean;
    backward?: { g: Tensor; entries: Tensor; dscore: Tensor };
  },
): void {
  const { table, kept, x, context, out, initial, backward } = input;
  const size = subgroupSize(plan.gpu.capabilities);
  const width = table.width / 4;
  if (size === undefined || width > MOST_TILES * size) {
    throw new Error(`${label}: rows of ${table.width} numbers do not fit a subgroup here`);
  }
  const { rows: tokens, width: per } = kept.index;
  const groups = INVOCATIONS / size;
  const assignments = tokens * per;
  plan.dispatch({
    label,
    name: "experts_apply_subgroup",
    source: sumsSource + source,
    constants: {
      SUBGROUPS: true,
      SIZE: size,
      ROWS: groups,
      TILES: Math.ceil(width / size),
      EDGE: width % size !== 0,
      GUARD: !input.all || per % 4 !== 0,
      BACKWARD: backward !== undefined,
      CONTEXT: context,
      DROPS: kept.packed !== undefined,
      GELU: geluSource,
    },
    params: {
      tokens,
      per,
      width,
      first: input.first,
      count: table.rows,
      ldx: x.width / 4,
      ldo: out.width / 4,
      initial: initial ? 1 : 0,
      ...kept.packed && { none: kept.packed.none },
    },
    bindings: {
      table: read(table),
      index: readScalar(kept.index),
      score: readScalar(kept.score),
      x: read(x),
      ...(backward && {
        g: read(backward.g),
        // Another range's dispatch fills in what this one leaves.
        entries: initial ? write(backward.entries) : update(backward.entries),
        dscore: initial ? writeScalar(backward.dscore) : updateScalar(backward.dscore),
      }),
      out: initial ? write(out) : update(out),
    },
    workgroups: grid(Math.ceil(tokens / groups)),
    flops: assignments * table.width * (backward ? 6 : 4),
    bytes: assignments * (table.width * BYTES[table.dtype] + 8 + (backward ? 20 : 0)) + x.bytes +
      out.bytes + (backward ? backward.g.bytes : 0),
  });
}
