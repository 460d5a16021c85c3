/**
 * Attention of many tokens over a latent cache as matrix products, with the scores in memory, some tokens at a time. A row is a head of a token:
 *
 * ```
 * S = QL c_kvᵀ + QR krᵀ    P = softmax(S / √(nope+rope), causal)    Y = P c_kv
 * ```
 *
 * Products take all positions of the cache, since one recorded plan serves every position of the tokens. A position that a token does not
 * see counts as zero times its row, which is finite: zeros, as WebGPU clears its buffers, or left by an earlier sequence or the filling of a chunk.
 *
 * @module
 */

import rowsSource from "../../../shaders/gemm/rows.wgsl" with { type: "text" };
import softmaxSource from "../../../shaders/decoding/latent_softmax.wgsl" with { type: "text" };
import type { Capabilities } from "../../gpu/capabilities.ts";
import { f32, grid, read, readScalar, write } from "../../gpu/kernel.ts";
import type { Plan } from "../../gpu/plan.ts";
import { BYTES, roundUp, type Tensor } from "../../gpu/tensor.ts";
import { gemm } from "../gemm/gemm.ts";
import { matrix } from "../gemm/matrix.ts";

/** Rows, a head of a token each, from which on products are worth it: those of a tile. */
const MIN_ROWS = 128;
/** Bytes of scores and probabilities at most, together. */
const STORED_BYTES = 256 << 20;
/** Invocations that share a row of the softmax. */
const LANES = 256;

/** Operands of attention in the latent space, for decoding. */
export interface LatentAttention {
  /** Heads. */
  readonly heads: number;
  /** Width of queries without rotary position. */
  readonly d_nope: number;
  /** Width of queries and keys with rotary position. */
  readonly d_rope: number;
  /** Queries in the latent space `[tokens, heads·kv_rank]`. */
  readonly ql: Tensor;
  /** Rotated queries `[tokens, heads·(nope+rope)]`; only the rotated columns are read. */
  readonly q: Tensor;
  /** Normalised latents `[sequences·capacity, kv_rank]`; what lies beyond the tokens has to be finite. */
  readonly c_kv: Tensor;
  /** Rotated keys `[sequences·capacity, rope]`. */
  readonly kr: Tensor;
  /** `[sequences]` u32: position of the first token of each. Both caches already hold the tokens' own rows. */
  readonly position: Tensor;
  /** Weighted sums of latents `[tokens, heads·kv_rank]`. */
  readonly y: Tensor;
}

/** How many tokens' scores are stored at a time; undefined where attention should not go through products. */
export function productTokens(
  capabilities: Capabilities,
  { heads, ql, c_kv }: Pick<LatentAttention, "heads" | "ql" | "c_kv">,
): number | undefined {
  const tokens = ql.rows;
  if (capabilities.software || tokens === 1 || tokens * heads < MIN_ROWS) return undefined;
  const { f32: score } = BYTES;
  const scores = Math.min(
    STORED_BYTES / (score + BYTES[c_kv.dtype]),
    capabilities.max_binding_bytes / score,
  );
  const most = Math.floor(scores / (heads * scoreWidth(c_kv.rows)));
  if (most < 1) return undefined;
  return Math.ceil(tokens / Math.ceil(tokens / most));
}

/** Numbers from one row of scores to the next: matrix units read halves by eights. */
function scoreWidth(capacity: number): number {
  return roundUp(capacity, 8);
}

/** Records attention of one sequence by products, of `stored` tokens at a time. */
export function latentProducts(
  plan: Plan,
  label: string,
  operands: LatentAttention & { readonly stored: number },
): void {
  const { heads, d_nope, d_rope, ql, q, c_kv, kr, position, y, stored } = operands;
  const tokens = ql.rows;
  const { rows: capacity, width: rank, dtype } = c_kv;
  const width = scoreWidth(capacity);
  const owner = "workspace";
  const shape = [stored * heads, width];
  const scores = plan.tensor(`${label}.scores`, shape, { owner });
  const probabilities = plan.tensor(`${label}.probabilities`, shape, { dtype, owner });
  for (let first = 0; first < tokens; first += stored) {
    const rows = Math.min(stored, tokens - first) * heads;
    const s = matrix(scores, { rows, columns: capacity });
    const latent = { rows, stride: rank, start: first * heads * rank };
    gemm(plan, `${label}.scores`, { a: matrix(ql, latent), b: c_kv, c: s, layout: "nt" });
    const stride = d_nope + d_rope;
    const rotated = { rows, columns: d_rope, stride, start: first * heads * stride + d_nope };
    gemm(plan, `${label}.rotary_scores`, {
      a: matrix(q, rotated),
      b: kr,
      c: s,
      layout: "nt",
      epilogue: "accumulate",
    });
    plan.dispatch({
      label: `${label}.softmax`,
      name: "latent_softmax",
      source: rowsSource + softmaxSource,
      constants: { LANES, BY_ROW: false },
      params: {
        rows,
        heads,
        first,
        capacity,
        width4: width / 4,
        scale: f32(1 / Math.sqrt(stride)),
      },
      bindings: { s: read(scores), position: readScalar(position), p: write(probabilities) },
      workgroups: grid(rows),
      flops: 5 * rows * capacity,
      bytes: (2 * BYTES.f32 + BYTES[dtype]) * rows * width,
    });
    gemm(plan, `${label}.mixed`, {
      a: matrix(probabilities, { rows, columns: capacity }),
      b: c_kv,
      c: matrix(y, latent),
    });
  }
}
