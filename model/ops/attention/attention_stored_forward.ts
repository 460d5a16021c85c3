/**
 * Attention's forward pass as matrix products over scores that are in memory, some sequences or heads at a time:
 *
 * ```
 * S = exp(scale·K Qᵀ − maxima)    O = (S ∘ factors)ᵀ V
 * ```
 *
 * A tile of keys has maxima of its own, one a query, since the tiles of a row are computed at the same time. The factors that turn its
 * exponentials into probabilities are known when all tiles are there, and the second product multiplies by them.
 *
 * @module
 */

import type { Plan } from "../../gpu/plan.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import type { AttentionForward } from "./attention_operands.ts";
import { wholeKeys } from "./attention_keys.ts";
import { partsOf, places, squaresShape, type StoredPairs } from "./attention_pairs.ts";
import { probabilitiesByTiles, WHOLE_ROWS } from "./attention_tiled_scores.ts";
import { type GpuKernel, SQUARE_TILE } from "../gemm/gemm_kernels.ts";
import { gemmPaired } from "../gemm/gemm_paired.ts";
import { matrix, transpose } from "../gemm/matrix.ts";

/** Records the forward pass by products. */
export function storedForward(
  plan: Plan,
  label: string,
  operands: AttentionForward & { readonly stored: StoredPairs; readonly tiles: GpuKernel },
): void {
  const { sizes, q, kv, o, log_sum, stored, tiles } = operands;
  const { d_nope, d_v } = sizes;
  const owner = "workspace";
  const squares = squaresShape(sizes, stored) as [number, number, number];
  const [pairs, length, width] = squares;
  const probabilities = plan.tensor(`${label}.probabilities`, squares, { dtype: q.dtype, owner });
  const statistics = [pairs, Math.ceil(length / SQUARE_TILE), width];
  const maxima: Tensor = plan.tensor(`${label}.maxima`, statistics, { owner });
  const sums: Tensor = plan.tensor(`${label}.sums`, statistics, { owner });
  const keys = wholeKeys(plan, label, operands);
  const transposed = {
    q: transpose(plan, `${label}.q_transposed`, matrix(q)).tensor,
    keys: transpose(plan, `${label}.keys_transposed`, matrix(keys.tensor)).tensor,
  };
  for (const part of partsOf(sizes, stored)) {
    probabilitiesByTiles(plan, label, part, {
      sizes,
      tiles,
      key_step: keys.step,
      transposed,
      probabilities,
      maxima,
      sums,
      log_sum,
      dropout: operands.dropout,
    });
    const { square, columns } = places(part, sizes);
    gemmPaired(plan, `${label}.o`, {
      a: square(probabilities),
      b: columns(kv, d_nope + d_v, d_v, d_nope),
      c: columns(o, d_v),
      layout: "tn",
      causal: "until",
      pairs: part.pairs,
      whole: WHOLE_ROWS,
      factors: maxima,
    });
  }
}
