/**
 * Multi-head latent attention (MLA): queries, keys and values through low-rank latents, one rotary key for all heads.
 *
 * ```
 * c_q          = rmsnorm(x W_dq)            q       = c_q W_uq        per head [nope | rope]
 * [c_kv | k_r] = x W_dkv                    [k_n|v] = rmsnorm(c_kv) W_ukv
 * q_h = [q_n ; R(q_r)]   k_h = [k_n ; R(k_r)]   o_h = softmax(q_h k_hᵀ / √(nope+rope), causal) v_h
 * y   = concat_h(o_h) W_o
 * ```
 *
 * @module
 */

import type { AttentionSection } from "../../section.ts";
import { type AttentionInput, need, type Pass } from "../layer.ts";
import {
  add,
  addBlock,
  block,
  concatColumns,
  map,
  matmul,
  type Matrix,
  matrix,
  row,
  softmax,
  softmaxBackward,
  transpose,
  type Weights,
} from "../matrix.ts";
import { rmsNormBackward, rmsNormForward } from "../norm.ts";
import { rotate } from "../rotary.ts";

/** Sizes of the layer. */
type Mla = Omit<Extract<AttentionSection, { kind: "mla" }>, "kind">;

/** One head of one sequence, after rotation. */
interface Head {
  /** Length × (d_nope + d_rope). */
  readonly query: Matrix;
  /** Length × (d_nope + d_rope). */
  readonly key: Matrix;
  /** Length × d_v. */
  readonly value: Matrix;
  /** Attention probabilities, length × length, zero above the diagonal. */
  readonly probabilities: Matrix;
}

/** The weights as matrices, and the gains of the norms. */
function matrices(mla: Mla, weights: Weights<string>, d_model: number) {
  const { num_heads, q_lora_rank, kv_lora_rank, d_nope, d_rope, d_v } = mla;
  const named = need(weights, [
    "w_dq",
    "q_norm.weight",
    "w_uq",
    "w_dkv",
    "kv_norm.weight",
    "w_ukv",
    "w_o",
  ]);
  return {
    w_dq: matrix(d_model, q_lora_rank, named.w_dq),
    q_gain: named["q_norm.weight"],
    w_uq: matrix(q_lora_rank, num_heads * (d_nope + d_rope), named.w_uq),
    w_dkv: matrix(d_model, kv_lora_rank + d_rope, named.w_dkv),
    kv_gain: named["kv_norm.weight"],
    w_ukv: matrix(kv_lora_rank, num_heads * (d_nope + d_v), named.w_ukv),
    w_o: matrix(num_heads * d_v, d_model, named.w_o),
  };
}

/** Softmax of each row's first `row + 1` entries: a token sees itself and what came before. */
function causalSoftmax(logits: Matrix): Matrix {
  const out = matrix(logits.rows, logits.columns);
  for (let t = 0; t < logits.rows; t++) {
    row(out, t).set(softmax(row(logits, t).subarray(0, t + 1)));
  }
  return out;
}

/** Attention over the rows of `x`, which are sequences of `length` tokens one after another. */
export function mla(section: Mla, weights: Weights<string>, input: AttentionInput): Pass {
  const { num_heads, kv_lora_rank, d_nope, d_rope, d_v } = section;
  const { x, length } = input;
  const w = matrices(section, weights, x.columns);
  const rotary = { base: section.rope_base };

  const queryLatent = rmsNormForward(matmul(x, w.w_dq), w.q_gain);
  const queries = matmul(queryLatent.y, w.w_uq);
  const down = matmul(x, w.w_dkv);
  const keyLatent = rmsNormForward(block(down, { columns: kv_lora_rank }), w.kv_gain);
  const keysValues = matmul(keyLatent.y, w.w_ukv);

  const mixed = matrix(x.rows, num_heads * d_v);
  const heads: Head[] = [];
  const scale = 1 / Math.sqrt(d_nope + d_rope);
  for (let top = 0; top < x.rows; top += length) {
    const rotaryKey = rotate(block(down, { top, rows: length, left: kv_lora_rank }), 1, rotary);
    for (let h = 0; h < num_heads; h++) {
      const part = (m: Matrix, left: number, columns: number) =>
        block(m, { top, rows: length, left, columns });
      const q = h * (d_nope + d_rope);
      const kv = h * (d_nope + d_v);
      const query = concatColumns(
        part(queries, q, d_nope),
        rotate(part(queries, q + d_nope, d_rope), 1, rotary),
      );
      const key = concatColumns(part(keysValues, kv, d_nope), rotaryKey);
      const value = part(keysValues, kv + d_nope, d_v);
      const probabilities = causalSoftmax(map(matmul(query, transpose(key)), (s) => s * scale));
      heads.push({ query, key, value, probabilities });
      addBlock(mixed, matmul(probabilities, value), { top, left: h * d_v });
    }
  }

  const backward: Pass["backward"] = (gradient) => {
    const gMixed = matmul(gradient, transpose(w.w_o));
    const gQueries = matrix(x.rows, num_heads * (d_nope + d_rope));
    const gKeysValues = matrix(x.rows, num_heads * (d_nope + d_v));
    const gDown = matrix(x.rows, kv_lora_rank + d_rope);
    heads.forEach(({ query, key, value, probabilities }, number) => {
      const h = number % num_heads;
      const top = Math.floor(number / num_heads) * length;
      const gOut = block(gMixed, { top, rows: length, left: h * d_v, columns: d_v });

      const gProbabilities = matmul(gOut, transpose(value));
      const gLogits = matrix(length, length);
      for (let t = 0; t < length; t++) {
        const g = softmaxBackward(row(probabilities, t), row(gProbabilities, t));
        row(gLogits, t).set(g.map((g) => g * scale));
      }
      const gQuery = matmul(gLogits, key);
      const gKey = matmul(transpose(gLogits), query);

      const q = h * (d_nope + d_rope);
      addBlock(gQueries, block(gQuery, { columns: d_nope }), { top, left: q });
      const gRotaryQuery = rotate(block(gQuery, { left: d_nope }), -1, rotary);
      addBlock(gQueries, gRotaryQuery, { top, left: q + d_nope });

      const kv = h * (d_nope + d_v);
      addBlock(gKeysValues, block(gKey, { columns: d_nope }), { top, left: kv });
      const gValue = matmul(transpose(probabilities), gOut);
      addBlock(gKeysValues, gValue, { top, left: kv + d_nope });
      // One rotary key serves all heads: their gradients add up.
      const gRotaryKey = rotate(block(gKey, { left: d_nope }), -1, rotary);
      addBlock(gDown, gRotaryKey, { top, left: kv_lora_rank });
    });

    const gQueryLatent = rmsNormBackward(queryLatent, matmul(gQueries, transpose(w.w_uq)));
    const gKeyLatent = rmsNormBackward(keyLatent, matmul(gKeysValues, transpose(w.w_ukv)));
    addBlock(gDown, gKeyLatent.x, {});
    const xT = transpose(x);
    return {
      x: add(
        matmul(gQueryLatent.x, transpose(w.w_dq)),
        matmul(gDown, transpose(w.w_dkv)),
      ),
      weights: {
        w_dq: matmul(xT, gQueryLatent.x).data,
        "q_norm.weight": gQueryLatent.gain,
        w_uq: matmul(transpose(queryLatent.y), gQueries).data,
        w_dkv: matmul(xT, gDown).data,
        "kv_norm.weight": gKeyLatent.gain,
        w_ukv: matmul(transpose(keyLatent.y), gKeysValues).data,
        w_o: matmul(transpose(mixed), gradient).data,
      },
    };
  };
  return { y: matmul(mixed, w.w_o), backward };
}
