/**
 * Scores of causal attention that go to memory, computed through tiles without matrix units: shares forward, shares and the gradients of the scores
 * backward.
 *
 * @module
 */

import mergeSource from "../../shaders/attention_merge.wgsl" with { type: "text" };
import sharesSource from "../../shaders/attention_shares_tiled.wgsl" with { type: "text" };
import slopesSource from "../../shaders/attention_slopes_tiled.wgsl" with { type: "text" };
import tileSource from "../../shaders/gemm_tile.wgsl" with { type: "text" };
import stepsSource from "../../shaders/gemm_steps.wgsl" with { type: "text" };
import type { Capabilities } from "../gpu/capabilities.ts";
import {
  type Binding,
  f32,
  grid,
  read,
  readBits,
  readScalar,
  update,
  write,
  writeScalar,
} from "../gpu/kernel.ts";
import type { Plan } from "../gpu/plan.ts";
import { BYTES, type DType, type Tensor } from "../gpu/tensor.ts";
import type { AttentionSizes } from "./attention.ts";
import { turnedPays } from "./attention_keys.ts";
import { type Part, places } from "./attention_pairs.ts";
import { type GpuKernel, gpuKernel, SQUARE_TILE } from "./gemm_kernels.ts";
import type { PairedMatrix, PairedRows } from "./gemm_paired.ts";

/** Rows of the blocks on the diagonal of these shares which hold zeros beyond it: two tiles. */
export const WHOLE_ROWS = 2 * SQUARE_TILE;

/** The tiles that scores are computed by; undefined where they should not be: widths that are no whole steps, short sequences, matrix units. */
export function scoreTiles(
  capabilities: Capabilities,
  { length, d_nope, d_rope, d_v }: AttentionSizes,
  dtype: DType,
): GpuKernel | undefined {
  if (!turnedPays(length)) return undefined;
  const operand = { dtype, aligned: true };
  const kernel = gpuKernel(capabilities, {
    m: length,
    n: length,
    k: d_nope + d_rope,
    layout: "tn",
    a: operand,
    b: operand,
    linear: false,
    single: false,
    pairs: 1,
    square: true,
  });
  const whole = (width: number) => width % kernel.step === 0;
  return !kernel.units && whole(d_nope + d_rope) && whole(d_v) ? kernel : undefined;
}

/** Queries and keys with a row a number and a column a token, and what their scores are computed by. */
interface TurnedTensors {
  readonly sizes: AttentionSizes;
  readonly tiles: GpuKernel;
  /** `[heads·(nope+rope), T]` each. */
  readonly turned: Readonly<Record<"q" | "keys", Tensor>>;
}

/** Records a part's shares and slopes, squares whose rows are queries, of `turned` values `[heads·(nope+v), T]` and gradients `[heads·v, T]`. */
export function slopesByTiles(
  plan: Plan,
  label: string,
  part: Part,
  tensors: TurnedTensors & {
    readonly turned: Readonly<Record<"q" | "keys" | "kv" | "d_o", Tensor>>;
    readonly log_sum: Tensor;
    readonly delta: Tensor;
    readonly shares: Tensor;
    readonly slopes: Tensor;
  },
): void {
  const { sizes, turned, log_sum, delta, shares, slopes, tiles } = tensors;
  const { d_nope, d_rope, d_v } = sizes;
  const qk = d_nope + d_rope;
  const place = places(part, sizes);
  const lanes = tiles.lanes_a;
  const d_o = place.turned(turned.d_o, d_v);
  const kv = place.turned(turned.kv, d_nope + d_v, d_v, d_nope);
  const bind = binder(lanes);
  plan.dispatch({
    ...scoresCall(part, tensors, {
      name: "attention_slopes_tiled",
      a: place.turned(turned.q, qk),
      b: place.turned(turned.keys, qk),
      c: place.square(shares),
      rows: place.rows(log_sum),
      terms: qk + d_v,
      squares: 3,
    }, {
      constants: { VALUES: d_v },
      params: {
        d_o_start: d_o.start / lanes,
        d_o_head: d_o.head / lanes,
        kv_start: kv.start / lanes,
        kv_head: kv.head / lanes,
      },
    }),
    label: `${label}.slopes`,
    source: tileSource + stepsSource + slopesSource,
    bindings: {
      q: bind(turned.q),
      keys: bind(turned.keys),
      kv: bind(turned.kv),
      d_o: bind(turned.d_o),
      log_sum: readScalar(log_sum),
      delta: readScalar(delta),
      shares: write(shares),
      slopes: write(slopes),
    },
  });
}

/** Maxima and sums of each tile's exponentials `[pairs, tiles, length]`. */
export interface TileStatistics {
  readonly maxima: Tensor;
  readonly sums: Tensor;
}

/**
 * Records a part's exponentials, a square whose rows are keys, and the logarithms of its rows' sums `[heads, T]`. Leaves in `maxima` the factors that make shares
 * of the exponentials.
 */
export function sharesByTiles(
  plan: Plan,
  label: string,
  part: Part,
  tensors: TurnedTensors & TileStatistics & {
    readonly shares: Tensor;
    readonly log_sum: Tensor;
  },
): void {
  const { sizes, turned, tiles, shares, maxima, sums, log_sum } = tensors;
  const { length, d_nope, d_rope } = sizes;
  const qk = d_nope + d_rope;
  const place = places(part, sizes);
  const bind = binder(tiles.lanes_a);
  const rows = place.rows(log_sum);
  plan.dispatch({
    ...scoresCall(part, tensors, {
      name: "attention_shares_tiled",
      a: place.turned(turned.keys, qk),
      b: place.turned(turned.q, qk),
      c: place.square(shares),
      rows,
      terms: qk,
      squares: 1,
    }, {}),
    label: `${label}.shares`,
    source: tileSource + stepsSource + sharesSource,
    bindings: {
      keys: bind(turned.keys),
      q: bind(turned.q),
      shares: write(shares),
      maxima: write(maxima),
      sums: write(sums),
    },
  });
  const { sequences, heads } = part.pairs;
  const width4 = shares.width / 4;
  plan.dispatch({
    label: `${label}.merge`,
    name: "attention_merge",
    source: mergeSource,
    constants: { TILE: SQUARE_TILE },
    params: {
      pairs: sequences * heads,
      heads,
      length,
      tiles: Math.ceil(length / SQUARE_TILE),
      width4,
      s_start: rows.start,
      s_sequence: rows.sequence,
      s_head: rows.head,
    },
    bindings: { maxima: update(maxima), sums: read(sums), log_sum: writeScalar(log_sum) },
    workgroups: grid(Math.ceil(sequences * heads * width4 / 64)),
    // Maxima twice and sums once, factors once, of half of the tiles.
    bytes: 8 * sequences * heads * Math.ceil(length / SQUARE_TILE) * length,
  });
}

/** Operands of a call that computes scores: `terms` products for each, of which `squares` read or write squares of them. */
interface ScoresOperands {
  readonly name: string;
  readonly a: PairedMatrix;
  readonly b: PairedMatrix;
  readonly c: PairedMatrix;
  readonly rows: PairedRows;
  readonly terms: number;
  readonly squares: number;
}

/** What both calls have in common. */
function scoresCall(
  part: Part,
  { sizes, tiles }: TurnedTensors,
  { name, a, b, c, rows, terms, squares }: ScoresOperands,
  more: { constants?: Record<string, number>; params?: Record<string, number> },
) {
  const { length, d_nope, d_rope } = sizes;
  const { sequences, heads } = part.pairs;
  const pairs = sequences * heads;
  const { lanes_a: lanes, kernel } = tiles;
  const down = Math.ceil(length / SQUARE_TILE);
  const half = length * (length + 1) / 2;
  return {
    name,
    constants: {
      LAYOUT: "tn",
      PAIRED: "below",
      SPLIT: false,
      ...kernel.constants,
      WIDTH: d_nope + d_rope,
      ...more.constants,
    },
    params: {
      m: length,
      n: length,
      k: d_nope + d_rope,
      lda: a.stride / lanes,
      ldc: c.stride / 4,
      pairs,
      heads,
      a_start: a.start / lanes,
      a_sequence: a.sequence / lanes,
      a_head: a.head / lanes,
      b_start: b.start / lanes,
      b_sequence: b.sequence / lanes,
      b_head: b.head / lanes,
      c_start: c.start / 4,
      c_sequence: c.sequence / 4,
      c_head: c.head / 4,
      s_start: rows.start,
      s_sequence: rows.sequence,
      s_head: rows.head,
      scale: f32(1 / Math.sqrt(d_nope + d_rope)),
      ...more.params,
    },
    // The rows of tiles in twos that make whole ones together: see gemm_tile.wgsl.
    workgroups: grid(pairs * Math.ceil(down / 2) * (down + 1)),
    flops: 2 * terms * pairs * half,
    bytes: pairs * BYTES[c.tensor.dtype] * (squares * half + 2 * terms * length),
  };
}

/** Binds operands as their loads take them. */
function binder(lanes: 4 | 8): (tensor: Tensor) => Binding {
  return lanes === 8 ? readBits : read;
}
