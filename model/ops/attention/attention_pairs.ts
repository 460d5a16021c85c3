/**
 * Attention whose scores are in memory, some sequences or heads at a time: how many, and where their matrices lie.
 *
 * @module
 */

import type { Capabilities } from "../../gpu/capabilities.ts";
import { BYTES, type DType, roundUp, type Tensor } from "../../gpu/tensor.ts";
import type { AttentionSizes } from "./attention_operands.ts";
import type { PairedMatrix, PairedRows } from "../gemm/gemm_paired.ts";
import { matrix } from "../gemm/matrix.ts";

/** Bytes of a tensor of scores at most. */
const STORED_BYTES = 1 << 30;
/** Widths of heads from which on products fill their tiles well enough. */
const MIN_WIDTH = 32;

/** Sequences, or heads of one sequence, whose scores are in memory at a time. */
export interface StoredPairs {
  readonly sequences: number;
  readonly heads: number;
}

/** How many scores of an attention are stored at a time; undefined where they should not be. */
export function storedPairs(
  capabilities: Capabilities,
  sizes: AttentionSizes,
  dtype: DType | undefined,
): StoredPairs | undefined {
  const { batch, length, heads, d_nope, d_rope, d_v } = sizes;
  if (capabilities.software || dtype === undefined || Math.min(d_nope + d_rope, d_v) < MIN_WIDTH) {
    return undefined;
  }
  const bytes = Math.min(STORED_BYTES, capabilities.max_binding_bytes);
  const pairs = Math.floor(bytes / (BYTES[dtype] * length * roundUp(length, 8)));
  if (pairs < 1) return undefined;
  const sequences = Math.min(batch, Math.floor(pairs / heads));
  return sequences > 0 ? { sequences, heads } : { sequences: 1, heads: pairs };
}

/** The pairs of sequence and head whose scores are in memory. */
export interface Part {
  readonly first: { readonly sequence: number; readonly head: number };
  readonly pairs: StoredPairs;
}

/** The parts of an attention, in order. */
export function partsOf({ batch, heads }: AttentionSizes, stored: StoredPairs): Part[] {
  const parts: Part[] = [];
  for (let sequence = 0; sequence < batch; sequence += stored.sequences) {
    for (let head = 0; head < heads; head += stored.heads) {
      parts.push({
        first: { sequence, head },
        pairs: {
          sequences: Math.min(stored.sequences, batch - sequence),
          heads: Math.min(stored.heads, heads - head),
        },
      });
    }
  }
  return parts;
}

/** Shape of a tensor of squares of scores. */
export function squaresShape({ length }: AttentionSizes, stored: StoredPairs): number[] {
  return [stored.sequences * stored.heads, length, roundUp(length, 8)];
}

/** Where a part's matrices lie. */
export function places({ first, pairs }: Part, { batch, length, heads }: AttentionSizes) {
  return {
    /** In a tensor with a row a token: `count` columns of a head's `step`, after the first `skip`. */
    columns: (tensor: Tensor, step: number, count = step, skip = 0): PairedMatrix => ({
      ...matrix(tensor, {
        rows: length,
        columns: count,
        stride: heads * step,
        start: first.sequence * length * heads * step + first.head * step + skip,
      }),
      sequence: length * heads * step,
      head: step,
    }),
    /** The transpose of that, in a tensor with a column a token. */
    transposed: (tensor: Tensor, step: number, count = step, skip = 0): PairedMatrix => ({
      ...matrix(tensor, {
        rows: count,
        columns: length,
        stride: tensor.width,
        start: (first.head * step + skip) * tensor.width + first.sequence * length,
      }),
      sequence: length,
      head: step * tensor.width,
    }),
    /** In a tensor of squares. */
    square: (tensor: Tensor): PairedMatrix => ({
      ...matrix(tensor, { rows: length, columns: length, stride: tensor.width }),
      sequence: pairs.heads * length * tensor.width,
      head: length * tensor.width,
    }),
    /** In a tensor `[heads, T]`. */
    rows: (tensor: Tensor): PairedRows => ({
      tensor,
      start: first.head * batch * length + first.sequence * length,
      sequence: length,
      head: batch * length,
    }),
  };
}
