/**
 * Causal attention with a rotary key that all heads share, forward and backward; the scores are never in memory.
 *
 * @module
 */

import backwardDirect from "../../shaders/attention_backward_direct.wgsl" with { type: "text" };
import backwardTiled from "../../shaders/attention_backward_tiled.wgsl" with { type: "text" };
import deltaSource from "../../shaders/attention_delta.wgsl" with { type: "text" };
import forwardDirect from "../../shaders/attention_forward_direct.wgsl" with { type: "text" };
import forwardTiled from "../../shaders/attention_forward_tiled.wgsl" with { type: "text" };
import {
  type Binding,
  type Constants,
  f32,
  grid,
  read,
  readScalar,
  write,
  writeScalar,
} from "../gpu/kernel.ts";
import type { Plan } from "../gpu/plan.ts";
import type { Tensor } from "../gpu/tensor.ts";

/** Sizes of an attention. Widths are per head and multiples of 4, counts are free. */
export interface AttentionSizes {
  /** Sequences; tokens `T = batch · length`. */
  readonly batch: number;
  /** Tokens of a sequence; any count. */
  readonly length: number;
  /** Heads. */
  readonly heads: number;
  /** Width of queries and keys without rotary position. */
  readonly d_nope: number;
  /** Width of queries and keys with rotary position. */
  readonly d_rope: number;
  /** Width of values. */
  readonly d_v: number;
}

/** What the forward pass reads and writes; f32 or f16 unless said otherwise. */
export interface AttentionForward {
  /** Counts and widths. */
  readonly sizes: AttentionSizes;
  /** Rotated queries `[T, heads·(nope+rope)]`. */
  readonly q: Tensor;
  /** Keys and values `[T, heads·(nope+v)]`, per head `[k_n | v]`. */
  readonly kv: Tensor;
  /** Rotated keys `[T, rope]`, shared by the heads. */
  readonly kr: Tensor;
  /** Result `[T, heads·v]`. */
  readonly o: Tensor;
  /** Result `[heads, T]`, f32: the logarithm of each row's sum of exponentials. */
  readonly log_sum: Tensor;
}

/** What the backward pass reads beyond the forward pass's operands, and what it writes. */
export interface AttentionBackward extends AttentionForward {
  /** Gradient of `o`. */
  readonly d_o: Tensor;
  /** Gradient of `q`. */
  readonly d_q: Tensor;
  /** Gradient of `kv`. */
  readonly d_kv: Tensor;
  /** `[T, heads·rope]`: each head's share of the gradient of `kr`; they are still to be summed. */
  readonly d_kr: Tensor;
}

/** A SIMD width of a processor: the workgroup of a direct kernel. */
const LANES = 8;
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

/** Records `o_h = softmax(q_h k_hᵀ / √(nope+rope), causal) v_h` for every head and sequence. */
export function attentionForward(plan: Plan, label: string, operands: AttentionForward): void {
  const { sizes, q, kv, kr, o, log_sum } = operands;
  checkShapes(label, operands);
  const direct = plan.gpu.capabilities.software;
  record(plan, label, {
    name: direct ? "attention_forward_direct" : "attention_forward_tiled",
    source: direct ? forwardDirect : forwardTiled,
    constants: direct
      ? { LANES, ROWS: directRows(sizes), KEYS: 2 }
      : tiling(sizes, TILED.forward, 4),
    rows: direct ? LANES * directRows(sizes) : TILED.forward.ROWS,
    sizes,
    bindings: {
      q: read(q),
      kv: read(kv),
      kr: read(kr),
      o: write(o),
      log_sum: writeScalar(log_sum),
    },
    products: sizes.d_nope + sizes.d_rope + sizes.d_v,
  });
}

/**
 * Records the gradients of {@linkcode attentionForward}: the scores are computed again, once by rows of queries and once by rows
 * of keys, so that every sum belongs to one invocation and its order is fixed.
 */
export function attentionBackward(plan: Plan, label: string, operands: AttentionBackward): void {
  const { sizes, q, kv, kr, o, log_sum, d_o, d_q, d_kv, d_kr } = operands;
  checkShapes(label, operands);
  const { batch, length, heads, d_nope, d_rope, d_v } = sizes;
  const tokens = batch * length;
  const direct = plan.gpu.capabilities.software;
  const lanes = direct ? LANES : 64;
  const delta = plan.tensor(`${label}.delta`, [heads, tokens]);
  plan.dispatch({
    label: `${label}.delta`,
    name: "attention_delta",
    source: deltaSource,
    constants: { V4: d_v / 4, LANES: lanes },
    params: { tokens, heads },
    bindings: { o: read(o), d_o: read(d_o), delta: writeScalar(delta) },
    workgroups: grid(Math.ceil(tokens * heads / lanes)),
    flops: 2 * tokens * heads * d_v,
  });
  const qk = d_nope + d_rope;
  const reads = {
    q: read(q),
    kv: read(kv),
    kr: read(kr),
    d_o: read(d_o),
    log_sum: readScalar(log_sum),
    delta: readScalar(delta),
  };
  for (const side of ["query", "key"] as const) {
    record(plan, `${label}.${side}`, {
      name: direct ? "attention_backward_direct" : "attention_backward_tiled",
      source: direct ? backwardDirect : backwardTiled,
      constants: {
        SIDE: side,
        ...(direct
          ? { LANES, ROWS: directRows(sizes), STREAM: 1 }
          : tiling(sizes, TILED.backward, 8)),
      },
      rows: direct ? LANES * directRows(sizes) : TILED.backward.ROWS,
      sizes,
      bindings: {
        ...reads,
        ...(side === "query" ? { d_q: write(d_q) } : { d_kv: write(d_kv), d_kr: write(d_kr) }),
      },
      products: side === "query" ? 2 * qk + d_v : 2 * (qk + d_v),
    });
  }
}

/** Records a kernel that goes over the causal half of every head's scores by blocks of `rows`. */
function record(plan: Plan, label: string, call: {
  name: string;
  source: string;
  constants: Constants;
  rows: number;
  sizes: AttentionSizes;
  bindings: Record<string, Binding>;
  /** Multiplications for one score. */
  products: number;
}): void {
  const { batch, length, heads, d_nope, d_rope, d_v } = call.sizes;
  const blocks = Math.ceil(length / call.rows);
  plan.dispatch({
    label,
    name: call.name,
    source: call.source,
    constants: { NOPE4: d_nope / 4, ROPE4: d_rope / 4, V4: d_v / 4, ...call.constants },
    params: { batch, length, heads, blocks, scale: f32(1 / Math.sqrt(d_nope + d_rope)) },
    bindings: call.bindings,
    workgroups: grid(batch * heads * blocks),
    flops: 2 * call.products * batch * heads * length * (length + 1) / 2,
  });
}

/** Each number that a direct kernel loads is used for so many rows; the rows of wide heads fit no registers. */
function directRows(sizes: AttentionSizes): number {
  return sizes.d_nope + sizes.d_rope + sizes.d_v <= DIRECT_WIDTH ? DIRECT_ROWS : 1;
}

/** The largest tile whose rows, and the parts of dot products, fit into workgroup memory. */
function tiling(
  sizes: AttentionSizes,
  shape: { ROWS: number; SPLIT: number; tile: number },
  partBytes: number,
): Constants {
  const { ROWS, SPLIT } = shape;
  const padded = (width: number) => Math.ceil(width / 4 / SPLIT) * SPLIT * 16;
  const row = padded(sizes.d_nope + sizes.d_rope) + padded(sizes.d_v) + partBytes * ROWS * SPLIT;
  let tile = shape.tile;
  while (tile > 1 && tile * row > WORKGROUP_BYTES) tile /= 2;
  if (tile * row > WORKGROUP_BYTES) {
    throw new RangeError(
      `Attention heads of widths ${sizes.d_nope} + ${sizes.d_rope} and ${sizes.d_v} take ${row} bytes a row of workgroup memory; at most ${WORKGROUP_BYTES}`,
    );
  }
  return { ROWS, SPLIT, TILE: tile };
}

function checkShapes(label: string, operands: AttentionForward | AttentionBackward): void {
  const { batch, length, heads, d_nope, d_rope, d_v } = operands.sizes;
  for (const [name, width] of Object.entries({ d_nope, d_rope, d_v })) {
    if (width % 4 !== 0 || width < 4) {
      throw new RangeError(`${label}: ${name} is ${width}, not a positive multiple of 4`);
    }
  }
  const tokens = batch * length;
  const widths = {
    q: heads * (d_nope + d_rope),
    kv: heads * (d_nope + d_v),
    kr: d_rope,
    o: heads * d_v,
    log_sum: heads,
  };
  const wanted: [string, Tensor, number][] = [];
  for (const name of ["q", "kv", "kr", "o", "log_sum"] as const) {
    wanted.push([name, operands[name], widths[name]]);
  }
  if ("d_o" in operands) {
    wanted.push(
      ["d_o", operands.d_o, widths.o],
      ["d_q", operands.d_q, widths.q],
      ["d_kv", operands.d_kv, widths.kv],
      ["d_kr", operands.d_kr, heads * d_rope],
    );
  }
  for (const [name, tensor, width] of wanted) {
    if (tensor.size !== tokens * width) {
      throw new RangeError(
        `${label}: ${name} (${tensor.name}) has ${tensor.size} elements, expected ${tokens}·${width}`,
      );
    }
  }
}
