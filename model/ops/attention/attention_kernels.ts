/**
 * Which kernel an attention runs on, and in blocks of what shape.
 *
 * @module
 */

import backwardBlocked from "../../../shaders/attention/attention_backward_blocked.wgsl" with {
  type: "text",
};
import backwardDirect from "../../../shaders/attention/attention_backward_direct.wgsl" with {
  type: "text",
};
import backwardMatrix from "../../../shaders/attention/attention_backward_matrix.wgsl" with {
  type: "text",
};
import backwardTiled from "../../../shaders/attention/attention_backward_tiled.wgsl" with {
  type: "text",
};
import blocks from "../../../shaders/attention/attention_blocks.wgsl" with { type: "text" };
import forwardBlocked from "../../../shaders/attention/attention_forward_blocked.wgsl" with {
  type: "text",
};
import forwardDirect from "../../../shaders/attention/attention_forward_direct.wgsl" with {
  type: "text",
};
import forwardMatrix from "../../../shaders/attention/attention_forward_matrix.wgsl" with {
  type: "text",
};
import tiles from "../../../shaders/attention/attention_tiles.wgsl" with { type: "text" };
import forwardTiled from "../../../shaders/attention/attention_forward_tiled.wgsl" with {
  type: "text",
};
import type { Capabilities } from "../../gpu/capabilities.ts";
import type { Constants } from "../../gpu/kernel.ts";
import type { DType } from "../../gpu/tensor.ts";
import { hasSquareUnits } from "../gemm/matrix_unit.ts";
import { softwareLanes } from "../subgroup.ts";

/** Widths of a head, multiples of 4. */
export interface HeadWidths {
  /** Width of queries and keys without rotary position. */
  readonly d_nope: number;
  /** Width of queries and keys whose key all heads share, with rotary position; 0 where every head has whole keys of its own. */
  readonly d_rope: number;
  /** Width of values. */
  readonly d_v: number;
}

/** A walk over the scores: the result, the gradient of queries, or those of keys and values. */
type AttentionPass = "forward" | "query" | "key";

/** Shape of the blocks of a blocked kernel. `4 · down · own` is a multiple of 64. */
interface BlockShape {
  /** Invocations along the rows that a workgroup owns, 8 or 16; 16 times as many make a workgroup. */
  readonly down: number;
  /** Fours of owned rows an invocation: a workgroup owns `4 · down · own` rows. */
  readonly own: number;
  /** Rows of the other side in a block, in 64s. */
  readonly other: number;
}

/** Preferences of tests and measurements; a device never takes a kernel that it cannot run. */
export interface AttentionOptions {
  /** Whether scores go to memory, where there is room for them, or are computed as they are needed, backward twice. */
  readonly scores?: "stored" | "recomputed";
}

/** A kernel that was chosen. */
export interface AttentionKernel {
  /** The kernel's file name without its ending. */
  readonly name: string;
  /** Its text. */
  readonly source: string;
  /** Its variant. */
  readonly constants: Constants;
  /** Rows that a workgroup owns. */
  readonly rows: number;
  /** Numbers that its own loads of the operands take, if it has any. */
  readonly loads?: 4 | 8;
}

/** A SIMD width of a processor: the workgroup of a direct kernel. */
export const LANES = 8;
/** Rows that an invocation of a direct kernel owns, when its heads are at most so wide; one beyond. */
const DIRECT_ROWS = 4;
const DIRECT_WIDTH = 128;

/** Rows of a workgroup of a tiled kernel, invocations that share a row, and the most rows of a tile. */
const TILED = {
  forward: { ROWS: 32, SPLIT: 2, tile: 16 },
  backward: { ROWS: 32, SPLIT: 4, tile: 8 },
};
/** Workgroup memory that every WebGPU device has. */
const WORKGROUP_BYTES = 16384;

/** Shapes of blocks, the best first: the first that fits is taken. */
const SHAPES: Readonly<Record<AttentionPass, readonly BlockShape[]>> = {
  forward: [
    { down: 16, own: 2, other: 1 },
    { down: 16, own: 1, other: 1 },
  ],
  query: [{ down: 16, own: 1, other: 1 }],
  key: [{ down: 16, own: 1, other: 1 }],
};
/** Bytes of a page of workgroup memory: 16 rows of 64 numbers. */
const PAGE_BYTES = 4096;
/** Sums that an invocation can hold in registers beside what it multiplies. */
const MAX_SUMS = 128;
/** Products with the zeros that fill up blocks, for each real one, from which on blocks do not pay. */
const MAX_PADDING = 2;

/**
 * The kernel of a pass: `direct` on software adapters, else `matrix` where there are matrix units and sequences are whole blocks, else `blocked` where blocks fit the device and the widths fill them, else
 * `tiled`, which runs everywhere.
 *
 * @param options.dtype Type of all operands; undefined when they differ.
 * @param options.length Tokens of a sequence.
 * @throws {RangeError} If heads are too wide for workgroup memory.
 */
export function chooseAttention(
  capabilities: Capabilities,
  pass: AttentionPass,
  options: {
    readonly widths: HeadWidths;
    readonly dtype: DType | undefined;
    readonly length: number;
  },
): AttentionKernel {
  const { widths, dtype, length } = options;
  const side: Constants = pass === "forward" ? {} : { SIDE: pass };
  if (capabilities.software) {
    const rows = directRows(widths);
    return {
      name: pass === "forward" ? "attention_forward_direct" : "attention_backward_direct",
      source: pass === "forward" ? forwardDirect : backwardDirect,
      constants: {
        ...side,
        LANES,
        ROWS: rows,
        SUBGROUPS: softwareLanes(capabilities) === LANES,
        ...(pass === "forward" ? { KEYS: 2 } : { STREAM: 1 }),
      },
      rows: LANES * rows,
    };
  }
  if (dtype === "f16" && fitsMatrixUnits(capabilities, widths, length)) {
    return pass === "forward"
      ? {
        name: "attention_forward_matrix",
        source: tiles + forwardMatrix,
        constants: { SUBGROUP_MATRIX: true },
        rows: 128,
        loads: 8,
      }
      : {
        name: "attention_backward_matrix",
        source: tiles + backwardMatrix,
        constants: { SUBGROUP_MATRIX: true, ...side },
        rows: 64,
        loads: 8,
      };
  }
  const kernel = dtype && firstBlocked(capabilities, pass, { widths, dtype });
  if (kernel) return kernel;
  const { forward, backward } = TILED;
  return pass === "forward"
    ? {
      name: "attention_forward_tiled",
      source: forwardTiled,
      constants: tiling(widths, forward, 4),
      rows: forward.ROWS,
    }
    : {
      name: "attention_backward_tiled",
      source: backwardTiled,
      constants: { ...side, ...tiling(widths, backward, 8) },
      rows: backward.ROWS,
    };
}

/** The best blocked kernel that the device can run, where widths fill its blocks. */
function firstBlocked(
  capabilities: Capabilities,
  pass: AttentionPass,
  { widths, dtype }: { widths: HeadWidths; dtype: DType },
): AttentionKernel | undefined {
  if (padding(widths, pass) > MAX_PADDING) return undefined;
  for (const shape of SHAPES[pass]) {
    if (sums(widths, pass, shape) > MAX_SUMS) continue;
    const kernel = blocked(capabilities, pass, { widths, dtype, shape });
    if (kernel) return kernel;
  }
}

/** Tokens that sequences are whole multiples of on matrix units. */
const MATRIX_ROWS = 128;

/** Whether the kernels for matrix units can run: units of 16 × 16, subgroups of 32, widths that registers and workgroup memory hold. */
export function fitsMatrixUnits(
  capabilities: Capabilities,
  { d_nope, d_rope, d_v }: HeadWidths,
  length: number,
): boolean {
  const qk = d_nope + d_rope;
  // Tiles of 32 rows; backward, 64 rows of two products and of what they become in halves.
  const bytes = 32 * 2 * (qk + 8 + d_v + 8) + 64 * 2 * (4 * 36 + 2 * 40) + 512;
  return hasSquareUnits(capabilities) &&
    [d_nope, d_rope, d_v].every((width) => width % 32 === 0) && qk + d_v <= 192 &&
    length % MATRIX_ROWS === 0 && bytes <= capabilities.max_workgroup_bytes;
}

/** Pages of 64 columns of queries and keys, and of values. */
function columns(widths: HeadWidths): { keys: number; values: number } {
  const { d_nope, d_rope, d_v } = widths;
  return { keys: Math.ceil((d_nope + d_rope) / 64), values: Math.ceil(d_v / 64) };
}

/** A blocked kernel, if the device can run it. */
function blocked(
  capabilities: Capabilities,
  pass: AttentionPass,
  options: { widths: HeadWidths; dtype: DType; shape: BlockShape },
): AttentionKernel | undefined {
  const { widths, dtype, shape: { down, own, other } } = options;
  const { keys, values } = columns(widths);
  const rows = 4 * down * own;
  const ownPages = rows / 64;
  const scores = 4 * other * ownPages;
  /** Two halves of what a product over a width reads. */
  const operands = 2 * (ownPages + other);
  // Forward, the scores take the place of the operands, and the maxima that of the values' second half.
  const memory = pass === "forward"
    ? { first: Math.max(scores, operands), more: values + Math.max(values, ownPages) }
    : {
      first: scores,
      more: Math.max(operands, 2 * keys, pass === "key" ? 2 * values : 0),
    };
  const pages = memory.first + memory.more;
  const fits = Number.isInteger(ownPages) && Number.isInteger(16 / down) &&
    16 * down <= capabilities.max_invocations &&
    PAGE_BYTES * pages <= capabilities.max_workgroup_bytes;
  if (!fits) return undefined;
  const blockColumns = pass === "forward" ? values : Math.max(keys, pass === "key" ? values : 0);
  const constants = {
    DOWN: down,
    OWN_QUADS: own,
    OTHER_QUADS: other,
    OWN_PAGES: ownPages,
    PAGES: pages,
    BUFFER: memory.first,
    // Numbers in vec4s that an invocation has under way from memory.
    FETCHES: Math.max(own + 16 * other / down, blockColumns * 16 / down),
    RAW: dtype === "f32" ? "vec4f" : "vec2u",
  };
  return pass === "forward"
    ? {
      name: "attention_forward_blocked",
      source: blocks + forwardBlocked,
      constants,
      rows,
      loads: 4,
    }
    : {
      name: "attention_backward_blocked",
      source: blocks + backwardBlocked,
      constants: { SIDE: pass, ...constants },
      rows,
      loads: 4,
    };
}

/** Numbers that an invocation of a blocked kernel sums up at the same time. */
function sums(widths: HeadWidths, pass: AttentionPass, { own, other }: BlockShape): number {
  const { keys, values } = columns(widths);
  return 16 * own *
    (other + (pass === "forward" ? values : pass === "query" ? keys : keys + values));
}

/** Products that blocks compute, zeros included, for each that the pass needs. */
function padding(widths: HeadWidths, pass: AttentionPass): number {
  const qk = widths.d_nope + widths.d_rope;
  const v = widths.d_v;
  const { keys, values } = columns(widths);
  /** Along a width, products go in steps of 16. */
  const along = (width: number) => 16 * Math.ceil(width / 16);
  if (pass === "forward") return (along(qk) + 64 * values) / (qk + v);
  const both = along(qk) + along(v) + 64 * keys;
  return pass === "query" ? both / (2 * qk + v) : (both + 64 * values) / (2 * (qk + v));
}

/** Each number that a direct kernel loads is used for so many rows; the rows of wide heads fit no registers. */
function directRows(widths: HeadWidths): number {
  return widths.d_nope + widths.d_rope + widths.d_v <= DIRECT_WIDTH ? DIRECT_ROWS : 1;
}

/** The largest tile whose rows, and the parts of dot products, fit into workgroup memory. */
function tiling(
  widths: HeadWidths,
  shape: { ROWS: number; SPLIT: number; tile: number },
  partBytes: number,
): Constants {
  const { ROWS, SPLIT } = shape;
  const padded = (width: number) => Math.ceil(width / 4 / SPLIT) * SPLIT * 16;
  const row = padded(widths.d_nope + widths.d_rope) + padded(widths.d_v) +
    partBytes * ROWS * SPLIT;
  let tile = shape.tile;
  while (tile > 1 && tile * row > WORKGROUP_BYTES) tile /= 2;
  if (tile * row > WORKGROUP_BYTES) {
    throw new RangeError(
      `Attention heads of widths ${widths.d_nope} + ${widths.d_rope} and ${widths.d_v} take ${row} bytes a row of workgroup memory; at most ${WORKGROUP_BYTES}`,
    );
  }
  return { ROWS, SPLIT, TILE: tile };
}
