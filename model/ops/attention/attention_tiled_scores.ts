/**
 * Scores of causal attention that go to memory, computed through tiles without matrix units: probabilities forward, probabilities and
 * score gradients backward.
 *
 * @module
 */

import mergeSource from "../../../shaders/attention/attention_merge.wgsl" with { type: "text" };
import probabilitiesSource from "../../../shaders/attention/attention_probabilities_tiled.wgsl" with {
  type: "text",
};
import scoreGradientsSource from "../../../shaders/attention/attention_score_gradients_tiled.wgsl" with {
  type: "text",
};
import tileSource from "../../../shaders/gemm/gemm_tile.wgsl" with { type: "text" };
import stepsSource from "../../../shaders/gemm/gemm_steps.wgsl" with { type: "text" };
import type { Capabilities } from "../../gpu/capabilities.ts";
import {
  f32,
  grid,
  loading,
  read,
  readScalar,
  update,
  write,
  writeScalar,
} from "../../gpu/kernel.ts";
import type { Plan } from "../../gpu/plan.ts";
import { BYTES, type DType, type Tensor } from "../../gpu/tensor.ts";
import type { AttentionSizes } from "./attention_operands.ts";
import { transposedPays } from "./attention_keys.ts";
import { dropoutParts, type RecordedDropout } from "../dropout/dropout.ts";
import { type Part, places } from "./attention_pairs.ts";
import { type GpuKernel, gpuKernel, SQUARE_TILE } from "../gemm/gemm_kernels.ts";
import { type PairedMatrix, placePaired, tilesBelow } from "../gemm/gemm_paired.ts";

/** Rows of the blocks on the diagonal of these probabilities which hold zeros beyond it: two tiles. */
export const WHOLE_ROWS = 2 * SQUARE_TILE;
/** Tiles that a workgroup computes one after the other, where a step has the 16 terms that leave room for the next tile's. */
const CHAIN = 2;

/** The tiles that scores are computed by; undefined where they should not be: widths that are no whole steps, short sequences, matrix units. */
export function scoreTiles(
  capabilities: Capabilities,
  { length, d_nope, d_rope, d_v }: AttentionSizes,
  dtype: DType,
): GpuKernel | undefined {
  if (!transposedPays(length)) return undefined;
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
interface TransposedTensors {
  readonly sizes: AttentionSizes;
  readonly tiles: GpuKernel;
  /** `[heads·(nope+rope), T]`, and keys `[heads·key_step, T]`, of a head's columns the first. */
  readonly transposed: Readonly<Record<"q" | "keys", Tensor>>;
  readonly key_step: number;
  /** A square for each pair. */
  readonly probabilities: Tensor;
  /** `[heads, T]`, f32. */
  readonly log_sum: Tensor;
  /** Of the probabilities. */
  readonly dropout?: RecordedDropout | undefined;
}

/** Records a part's probabilities and score gradients, squares whose rows are queries, of transposed values `[heads·(nope+v), T]` and gradients `[heads·v, T]`. */
export function scoreGradientsByTiles(
  plan: Plan,
  label: string,
  part: Part,
  tensors: TransposedTensors & {
    readonly transposed: Readonly<Record<"q" | "keys" | "kv" | "d_o", Tensor>>;
    readonly delta: Tensor;
    readonly score_gradients: Tensor;
  },
): void {
  const { sizes, transposed, key_step, log_sum, delta, probabilities, score_gradients, tiles } =
    tensors;
  const { d_nope, d_rope, d_v } = sizes;
  const qk = d_nope + d_rope;
  const place = places(part, sizes);
  const lanes = tiles.lanes_a;
  const dropout = dropoutParts(tensors.dropout);
  const d_o = place.transposed(transposed.d_o, d_v);
  const kv = place.transposed(transposed.kv, d_nope + d_v, d_v, d_nope);
  const call = scoresCall(part, tensors, {
    a: place.transposed(transposed.q, qk),
    b: place.transposed(transposed.keys, key_step, qk),
    terms: qk + d_v,
    // Probabilities are written and read again, score gradients written.
    squares: 3,
  });
  plan.dispatch({
    ...call,
    label: `${label}.score_gradients`,
    name: "attention_score_gradients_tiled",
    source: dropout.source + tileSource + stepsSource + scoreGradientsSource,
    constants: { ...call.constants, VALUES: d_v, ...dropout.constants },
    params: {
      ...call.params,
      ...dropout.params,
      d_o_start: d_o.start / lanes,
      d_o_head: d_o.head / lanes,
      kv_start: kv.start / lanes,
      kv_head: kv.head / lanes,
    },
    bindings: {
      q: loading(transposed.q, lanes),
      keys: loading(transposed.keys, lanes),
      kv: loading(transposed.kv, lanes),
      d_o: loading(transposed.d_o, lanes),
      log_sum: readScalar(log_sum),
      delta: readScalar(delta),
      probabilities: write(probabilities),
      score_gradients: write(score_gradients),
      ...dropout.bindings,
    },
  });
}

/**
 * Records a part's exponentials, a square whose rows are keys, and the logarithms of its rows' sums `[heads, T]`. Leaves in `maxima` the factors that turn
 * the exponentials into probabilities.
 */
export function probabilitiesByTiles(
  plan: Plan,
  label: string,
  part: Part,
  tensors: TransposedTensors & {
    /** Of each tile's exponentials `[pairs, tiles, length]`, f32. */
    readonly maxima: Tensor;
    readonly sums: Tensor;
  },
): void {
  const { sizes, transposed, key_step, tiles, probabilities, maxima, sums, log_sum } = tensors;
  const { length, d_nope, d_rope } = sizes;
  const qk = d_nope + d_rope;
  const place = places(part, sizes);
  const dropout = dropoutParts(tensors.dropout);
  const call = scoresCall(part, tensors, {
    a: place.transposed(transposed.keys, key_step, qk),
    b: place.transposed(transposed.q, qk),
    terms: qk,
    squares: 1,
  });
  plan.dispatch({
    ...call,
    label: `${label}.probabilities`,
    name: "attention_probabilities_tiled",
    source: dropout.source + tileSource + stepsSource + probabilitiesSource,
    constants: { ...call.constants, ...dropout.constants },
    params: { ...call.params, ...dropout.params },
    bindings: {
      keys: loading(transposed.keys, tiles.lanes_a),
      q: loading(transposed.q, tiles.lanes_a),
      probabilities: write(probabilities),
      maxima: write(maxima),
      sums: write(sums),
      ...dropout.bindings,
    },
  });
  const { sequences, heads } = part.pairs;
  const rows = place.rows(log_sum);
  const width4 = probabilities.width / 4;
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

/** The common part of both calls: `terms` products for each score; `squares` squares of scores are read or written. */
function scoresCall(
  part: Part,
  { sizes, tiles, probabilities, log_sum }: TransposedTensors,
  { terms, squares, ...operands }: {
    readonly a: PairedMatrix;
    readonly b: PairedMatrix;
    readonly terms: number;
    readonly squares: number;
  },
) {
  const { length, d_nope, d_rope } = sizes;
  const { pairs } = part;
  const count = pairs.sequences * pairs.heads;
  const place = places(part, sizes);
  const layout = "tn";
  const c = place.square(probabilities);
  const { params } = placePaired(
    { ...operands, c, layout, pairs, rows: place.rows(log_sum) },
    tiles,
  );
  const half = length * (length + 1) / 2;
  const qk = d_nope + d_rope;
  const chain = tiles.step >= 32 ? CHAIN : 1;
  return {
    constants: {
      LAYOUT: layout,
      PAIRED: "below",
      SPLIT: false,
      ...tiles.kernel.constants,
      WIDTH: qk,
      CHAIN: chain,
    },
    params: { m: length, n: length, k: qk, ...params, scale: f32(1 / Math.sqrt(qk)) },
    workgroups: grid(Math.ceil(count * tilesBelow(Math.ceil(length / SQUARE_TILE)) / chain)),
    flops: 2 * terms * count * half,
    bytes: count * BYTES[probabilities.dtype] * (squares * half + 2 * terms * length),
  };
}
