/**
 * SparseGPT's sweep over the columns of a matrix: which weights become zero, and how the others make up for it.
 *
 * @module
 */

import beginSource from "../../../shaders/linalg/prune_begin.wgsl" with { type: "text" };
import histogramSource from "../../../shaders/linalg/prune_histogram.wgsl" with { type: "text" };
import pickSource from "../../../shaders/linalg/prune_pick.wgsl" with { type: "text" };
import saliencySource from "../../../shaders/linalg/prune_saliency.wgsl" with { type: "text" };
import sweepSource from "../../../shaders/linalg/prune_sweep.wgsl" with { type: "text" };
import updateSource from "../../../shaders/linalg/prune_update.wgsl" with { type: "text" };
import {
  atomic,
  f32,
  grid,
  read,
  readScalar,
  updateScalar,
  write,
  writeScalar,
} from "../../gpu/kernel.ts";
import type { Plan } from "../../gpu/plan.ts";
import { roundUp, type Tensor } from "../../gpu/tensor.ts";
import { gemm } from "../gemm/gemm.ts";
import { matrix } from "../gemm/matrix.ts";
import { rowKernel } from "../norm/norm_rows.ts";

/** Set in the code of a weight that was pruned. The other bits are its level above the lowest. */
export const PRUNED = 0x80000000;

/** Rows that a workgroup sweeps. */
export const SWEEP_ROWS = 4;
/** Invocations of a sweep at most; a block of more columns gives each several. */
const MAX_LANES = 128;
/** Columns that a block can have: saliencies of four rows take 16 bytes a column of a workgroup's memory. */
const MAX_BLOCK = 768;
/** Keys that a workgroup counts. */
const SHARE = 64 * 64;

/** Which weights of a block become zero. */
export type Choice =
  /** So many of each block: `prunedOf(weights)`. */
  | { readonly kind: "sparsity"; prunedOf(weights: number): number }
  /** `zeros` in every `group` neighbours of a row. */
  | { readonly kind: "pattern"; readonly zeros: number; readonly group: number };

/** Levels of quantised weights. */
export interface Levels {
  readonly lowest: number;
  readonly highest: number;
  /** Whether steps go both ways from zero. */
  readonly symmetric: boolean;
  /** `[rows, 2]`, f32: gets each row's step and zero point. */
  readonly grid: Tensor;
}

/** Operands of {@linkcode pruneMatrix}, f32 unless said otherwise. `in` is padded to a multiple of 4 with zeros. */
export interface PruneOperands {
  /** The matrix as it is, `[out, in]`. */
  readonly dense: Tensor;
  /** `[in]`: 1 for inputs that are ever not zero, else 0. */
  readonly live: Tensor;
  /** The inverse Hessian's factor, `[inputs, in]`. */
  readonly u: Tensor;
  /** Gets the pruned matrix, `[out, in]`. */
  readonly w: Tensor;
  /** Gets {@linkcode PRUNED} and levels, u32 `[out, in]`; padding holds anything. */
  readonly codes: Tensor;
  /** Gets the loss of each four rows, `[⌈out / 4⌉]`. */
  readonly losses: Tensor;
  /** Columns of a block. */
  readonly block: number;
  readonly choice: Choice;
  /** Undefined leaves kept weights as they are. */
  readonly levels?: Levels | undefined;
}

/** A block of columns. */
interface Block {
  readonly start: number;
  readonly columns: number;
}

/**
 * Records the pruning of a matrix.
 *
 * Of each block the weights to prune are selected by radix passes over the bits of their saliencies and then of their positions, so that ties go to the lower position
 * whatever the order of execution. A kernel sweeps the block's columns, and a product takes its errors to the columns after it.
 */
export function pruneMatrix(plan: Plan, label: string, operands: PruneOperands): void {
  const { dense, u, w, codes, losses, block, choice } = operands;
  const inputs = u.rows;
  checkOperands(label, operands);
  begin(plan, label, operands);
  const workspace = (name: string, shape: readonly number[], dtype: "f32" | "u32" = "f32") =>
    plan.tensor(`${label}.${name}`, shape, { dtype, owner: "workspace" });
  const width = Math.min(block, inputs);
  const error = workspace("error", [dense.rows, roundUp(width, 4)]);
  plan.clear(error);
  plan.clear(losses);
  plan.clear(codes);
  for (let start = 0; start < inputs; start += block) {
    const of: Block = { start, columns: Math.min(block, inputs - start) };
    const selected = choice.kind === "sparsity"
      ? select(plan, label, { w, u, block: of, count: choice.prunedOf(dense.rows * of.columns) })
      : undefined;
    sweep(plan, label, { ...operands, of, error, selected });
    const end = start + of.columns;
    if (end === inputs) continue;
    if (end % 4 === 0) {
      gemm(plan, `${label}.later`, {
        a: matrix(error, { columns: of.columns }),
        b: matrix(u, {
          rows: of.columns,
          columns: inputs - end,
          start: start * u.width + end,
        }),
        c: matrix(w, { columns: inputs - end, start: end, rows: w.rows }),
        epilogue: "accumulate",
      });
      continue;
    }
    plan.dispatch({
      label: `${label}.later`,
      name: "prune_update",
      source: updateSource,
      params: {
        rows: w.rows,
        columns: of.columns,
        start,
        end,
        inputs,
        stride: w.width,
        pitch: error.width,
      },
      bindings: { w: updateScalar(w), u: readScalar(u), error: readScalar(error) },
      workgroups: grid(Math.ceil(w.rows * (inputs - end) / 64)),
      flops: 2 * w.rows * of.columns * (inputs - end),
    });
  }
}

function checkOperands(label: string, operands: PruneOperands): void {
  const { dense, live, u, w, codes, losses, block, levels } = operands;
  const shape = [dense.rows, dense.width].join();
  const wrong = u.width !== roundUp(u.rows, 4) || dense.width !== u.width ||
    live.size !== u.width || [w.rows, w.width].join() !== shape ||
    [codes.rows, codes.width].join() !== shape ||
    losses.size !== Math.ceil(dense.rows / SWEEP_ROWS) ||
    (levels && levels.grid.size !== 2 * dense.rows);
  if (wrong) {
    throw new RangeError(
      `${label}: the tensors do not fit ${dense.name} of ${shape} and a factor of ${u.rows}×${u.width}`,
    );
  }
  if (block < 1 || Math.min(block, u.rows) > MAX_BLOCK) {
    throw new RangeError(`${label}: block is ${block}, expected 1 to ${MAX_BLOCK} columns`);
  }
}

function begin(plan: Plan, label: string, { dense, live, w, levels }: PruneOperands): void {
  const kernel = rowKernel(plan, dense.rows, beginSource);
  plan.dispatch({
    label: `${label}.begin`,
    name: "prune_begin",
    source: kernel.source,
    constants: {
      ...kernel.constants,
      BITS: levels !== undefined,
      SYMMETRIC: levels?.symmetric ?? false,
    },
    params: {
      rows: dense.rows,
      width: dense.width / 4,
      ...(levels && {
        top: f32(levels.symmetric ? levels.highest : levels.highest - levels.lowest),
      }),
    },
    bindings: {
      dense: read(dense),
      live: read(live),
      w: write(w),
      ...(levels && { grid: writeScalar(levels.grid) }),
    },
    workgroups: kernel.workgroups,
  });
}

/** Saliencies of a block, and the first of them that is not pruned. */
interface Selected {
  readonly keys: Tensor;
  readonly state: Tensor;
}

/** Records which `count` weights of a block have the smallest saliencies. */
function select(
  plan: Plan,
  label: string,
  { w, u, block, count }: { w: Tensor; u: Tensor; block: Block; count: number },
): Selected {
  const u32 = (name: string, shape: readonly number[]) =>
    plan.tensor(`${label}.${name}`, shape, { dtype: "u32", owner: "workspace" });
  const keys = u32("keys", [w.rows, block.columns]);
  const state = u32("state", [4]);
  const bins = u32("bins", [256]);
  plan.dispatch({
    label: `${label}.saliency`,
    name: "prune_saliency",
    source: saliencySource,
    params: {
      count: keys.size,
      columns: block.columns,
      start: block.start,
      stride: w.width,
    },
    bindings: { w: readScalar(w), u: readScalar(u), keys: writeScalar(keys) },
    workgroups: grid(Math.ceil(keys.size / 64)),
    flops: 2 * keys.size,
    bytes: 8 * keys.size,
  });
  plan.clear(bins);
  plan.clear(state);
  const position = Math.max(1, Math.ceil(Math.log2(keys.size) / 8));
  const passes = [
    ...[3, 2, 1, 0].map((digit) => ({ DIGIT: "key", shift: 8 * digit })),
    ...Array.from({ length: position }, (_, i) => ({
      DIGIT: "position",
      shift: 8 * (position - 1 - i),
    })),
  ];
  passes.forEach(({ DIGIT, shift }, i) => {
    plan.dispatch({
      label: `${label}.histogram`,
      name: "prune_histogram",
      source: histogramSource,
      constants: { DIGIT },
      // Bits above the highest digit are zero in all.
      params: {
        count: keys.size,
        shift,
        mask: shift >= 24 ? 0 : (0xffffffff << (shift + 8)) >>> 0,
        share: SHARE,
      },
      bindings: { keys: readScalar(keys), state: readScalar(state), bins: atomic(bins) },
      workgroups: grid(Math.ceil(keys.size / SHARE)),
      bytes: keys.bytes,
    });
    plan.dispatch({
      label: `${label}.pick`,
      name: "prune_pick",
      source: pickSource,
      constants: { DIGIT, FIRST: i === 0 },
      params: { shift, rank: count },
      bindings: { bins: updateScalar(bins), state: updateScalar(state) },
      workgroups: [1, 1, 1],
    });
  });
  return { keys, state };
}

/** Records the sweep of one block. */
function sweep(
  plan: Plan,
  label: string,
  operands: PruneOperands & {
    readonly of: Block;
    readonly error: Tensor;
    readonly selected: Selected | undefined;
  },
): void {
  const { u, w, codes, losses, choice, levels, of, error, selected } = operands;
  // The same kernel for all blocks of a matrix, the last one too.
  const lanes = Math.min(MAX_LANES, 2 ** Math.ceil(Math.log2(error.width)));
  const pattern = choice.kind === "pattern" ? choice : undefined;
  plan.dispatch({
    label: `${label}.sweep`,
    name: "prune_sweep",
    source: sweepSource,
    constants: {
      LANES: lanes,
      CELLS: Math.ceil(error.width / lanes),
      MASK: pattern ? "pattern" : "selected",
      BITS: levels !== undefined,
    },
    params: {
      rows: w.rows,
      columns: of.columns,
      start: of.start,
      stride: w.width,
      pitch: error.width,
      ...(pattern && { group: pattern.group, zeros: pattern.zeros }),
      ...(levels && { lowest: f32(levels.lowest), highest: f32(levels.highest) }),
    },
    bindings: {
      w: updateScalar(w),
      u: readScalar(u),
      error: updateScalar(error),
      codes: updateScalar(codes),
      losses: updateScalar(losses),
      ...(selected && { keys: readScalar(selected.keys), state: readScalar(selected.state) }),
      ...(levels && { grid: readScalar(levels.grid) }),
    },
    workgroups: grid(Math.ceil(w.rows / SWEEP_ROWS)),
    flops: w.rows * of.columns ** 2,
    bytes: 16 * w.rows * of.columns + 4 * of.columns ** 2,
  });
}
