/**
 * Attention's backward pass as matrix products over scores that are in memory, some sequences or heads at a time:
 *
 * ```
 * S = exp(scale·Q Kᵀ − log_sum)    G = scale·S ∘ (dO Vᵀ − delta)    dV = Sᵀ dO    dK = Gᵀ Q    dQ = G K
 * ```
 *
 * Five products for each score instead of seven, at the speed of matrix products; it costs a workspace and its traffic.
 *
 * @module
 */

import scoreGradientsSource from "../../../shaders/attention/attention_score_gradients_matrix.wgsl" with {
  type: "text",
};
import tilesSource from "../../../shaders/attention/attention_tiles.wgsl" with { type: "text" };
import { f32, grid, readBits, readScalar, writeBits } from "../../gpu/kernel.ts";
import type { Plan } from "../../gpu/plan.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import type { AttentionBackward } from "./attention_operands.ts";
import { partKeys, transposedPays, type WholeKeys, wholeKeys } from "./attention_keys.ts";
import { fitsMatrixUnits } from "./attention_kernels.ts";
import { type Part, partsOf, places, squaresShape, type StoredPairs } from "./attention_pairs.ts";
import { scoreGradientsByTiles, scoreTiles, WHOLE_ROWS } from "./attention_tiled_scores.ts";
import { dropoutParts } from "../dropout/dropout.ts";
import { gemmPaired } from "../gemm/gemm_paired.ts";
import { matrix, transpose } from "../gemm/matrix.ts";

/** Queries of a workgroup of `attention_score_gradients_matrix.wgsl`. */
const SLOPE_ROWS = 64;

/** Records the gradients by products; `delta` `[heads, T]` is what the softmax's backward pass subtracts. */
export function storedBackward(
  plan: Plan,
  label: string,
  operands: AttentionBackward & {
    readonly delta: Tensor;
    readonly stored: StoredPairs;
  },
): void {
  const { sizes, q, kv, d_o, d_kv, d_kr, stored, dropout } = operands;
  const { batch, length, heads, d_nope, d_rope } = sizes;
  const tokens = batch * length;
  const qk = d_nope + d_rope;
  const workspace = (name: string, shape: number[]) =>
    plan.tensor(`${label}.${name}`, shape, { dtype: q.dtype, owner: "workspace" });
  const keys = wholeKeys(plan, label, operands);
  const d_keys: WholeKeys = d_kr
    ? { tensor: workspace("d_keys", [tokens, heads * qk]), step: qk }
    : { tensor: d_kv, step: keys.step };
  const squares = squaresShape(sizes, stored);
  const probabilities = workspace("probabilities", squares);
  const score_gradients = workspace("score_gradients", squares);
  const units = q.dtype === "f16" && fitsMatrixUnits(plan.gpu.capabilities, sizes, length);
  const transposeOf = (name: string, tensor: Tensor) =>
    transpose(plan, `${label}.${name}_transposed`, matrix(tensor)).tensor;
  /** Keys that are columns of keys and values are transposed with these. */
  const transposeAll = () => {
    const q_t = transposeOf("q", q);
    const keys_t = d_kr && transposeOf("keys", keys.tensor);
    const kv_t = transposeOf("kv", kv);
    return { q: q_t, keys: keys_t ?? kv_t, kv: kv_t, d_o: transposeOf("d_o", d_o) };
  };
  const transposed = units || !transposedPays(length) ? undefined : transposeAll();
  // Tiles with dropout bind nine tensors.
  const bindable = !dropout || plan.gpu.capabilities.max_storage_buffers > 8;
  const tiles = transposed && bindable && scoreTiles(plan.gpu.capabilities, sizes, q.dtype);
  const tensors = { ...operands, keys, d_keys, probabilities, score_gradients, transposed };
  for (const part of partsOf(sizes, stored)) {
    if (units) scoresOnUnits(plan, label, part, tensors);
    else if (tiles) {
      const key_step = keys.step;
      scoreGradientsByTiles(plan, label, part, { ...tensors, transposed, key_step, tiles });
    } else scoresByProducts(plan, label, part, tensors);
    gradientsByProducts(plan, label, part, { ...tensors, ...(tiles && { whole: WHOLE_ROWS }) });
  }
  if (d_kr) partKeys(plan, label, { sizes, d_keys: d_keys.tensor, d_kv, d_kr });
}

/** The operands of a part's products. */
interface StoredTensors extends AttentionBackward {
  readonly delta: Tensor;
  /** Whole keys. */
  readonly keys: WholeKeys;
  /** Their gradient. */
  readonly d_keys: WholeKeys;
  /** Transposes, where they are worth it. */
  readonly transposed: Readonly<Record<"q" | "keys" | "kv" | "d_o", Tensor>> | undefined;
  /** Probabilities of a part `[pairs, length, width]`: `S`. */
  readonly probabilities: Tensor;
  /** Gradients of its scores: `G`. */
  readonly score_gradients: Tensor;
  /** Rows of the blocks on the diagonal of the probabilities that are whole, where it is not those of a tile. */
  readonly whole?: number;
}

/** Records a part's `S` and `G` as two products. */
function scoresByProducts(plan: Plan, label: string, part: Part, tensors: StoredTensors): void {
  const { sizes, probabilities, score_gradients, log_sum, delta, dropout } = tensors;
  const { d_nope, d_rope, d_v } = sizes;
  const qk = d_nope + d_rope;
  const { columns, transposed, square, rows } = places(part, sizes);
  const { q, kv, d_o } = tensors.transposed ?? tensors;
  const keys = tensors.transposed?.keys ?? tensors.keys.tensor;
  const place = tensors.transposed ? transposed : columns;
  const shared = {
    layout: tensors.transposed ? "tn" : "nt",
    causal: "below",
    pairs: part.pairs,
  } as const;
  const scale = 1 / Math.sqrt(qk);
  gemmPaired(plan, `${label}.probabilities`, {
    ...shared,
    a: place(q, qk),
    b: place(keys, tensors.keys.step, qk),
    c: square(probabilities),
    epilogue: { kind: "probabilities", log_sum: rows(log_sum), scale },
  });
  gemmPaired(plan, `${label}.score_gradients`, {
    ...shared,
    a: place(d_o, d_v),
    b: place(kv, d_nope + d_v, d_v, d_nope),
    c: square(score_gradients),
    epilogue: { kind: "score_gradients", probabilities, delta: rows(delta), scale, dropout },
  });
}

/** Records a part's `S` and `G` on matrix units, both at once. */
function scoresOnUnits(plan: Plan, label: string, part: Part, tensors: StoredTensors): void {
  const { sizes, q, kv, kr, d_o, probabilities, score_gradients, log_sum, delta } = tensors;
  const { batch, length, heads, d_nope, d_rope, d_v } = sizes;
  const pairs = part.pairs.sequences * part.pairs.heads;
  const widths = d_nope + d_rope + d_v;
  const dropout = dropoutParts(tensors.dropout);
  plan.dispatch({
    label: `${label}.score_gradients`,
    name: "attention_score_gradients_matrix",
    source: dropout.source + tilesSource + scoreGradientsSource,
    constants: {
      SUBGROUP_MATRIX: true,
      NOPE4: d_nope / 4,
      ROPE4: d_rope / 4,
      V4: d_v / 4,
      ...dropout.constants,
    },
    params: {
      tokens: batch * length,
      length,
      heads,
      pairs,
      pair_heads: part.pairs.heads,
      first_head: part.first.head,
      first_sequence: part.first.sequence,
      blocks: length / SLOPE_ROWS,
      width: probabilities.width / 8,
      scale: f32(1 / Math.sqrt(d_nope + d_rope)),
      ...dropout.params,
    },
    bindings: {
      q: readBits(q),
      kv: readBits(kv),
      ...(kr && { kr: readBits(kr) }),
      d_o: readBits(d_o),
      log_sum: readScalar(log_sum),
      delta: readScalar(delta),
      probabilities: writeBits(probabilities),
      score_gradients: writeBits(score_gradients),
      ...dropout.bindings,
    },
    workgroups: grid(pairs * length / SLOPE_ROWS),
    flops: pairs * length * (length + 1) * widths,
    // Half of two squares of halves; queries and keys, gradients and values.
    bytes: pairs * 2 * length * (length + 2 * widths),
  });
}

/** Records the gradients of queries, keys and values of a part. */
function gradientsByProducts(plan: Plan, label: string, part: Part, tensors: StoredTensors): void {
  const { sizes, q, d_o, d_q, d_kv, keys, d_keys, probabilities, score_gradients, whole } = tensors;
  const { d_nope, d_rope, d_v } = sizes;
  const qk = d_nope + d_rope;
  const { columns, square } = places(part, sizes);
  const { pairs } = part;
  gemmPaired(plan, `${label}.d_v`, {
    a: square(probabilities),
    b: columns(d_o, d_v),
    c: columns(d_kv, d_nope + d_v, d_v, d_nope),
    layout: "tn",
    causal: "from",
    pairs,
    ...(whole && { whole }),
  });
  gemmPaired(plan, `${label}.d_k`, {
    a: square(score_gradients),
    b: columns(q, qk),
    c: columns(d_keys.tensor, d_keys.step, qk),
    layout: "tn",
    causal: "from",
    pairs,
  });
  gemmPaired(plan, `${label}.d_q`, {
    a: square(score_gradients),
    b: columns(keys.tensor, keys.step, qk),
    c: columns(d_q, qk),
    layout: "nn",
    causal: "until",
    pairs,
  });
}
