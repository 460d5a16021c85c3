/**
 * Multi-head attention, whose heads may share keys and values in groups.
 *
 * ```
 * [q | k | v] = x W_qkv + b_qkv          each by heads; the first d_rope columns of a head's q and k turn with the position
 * o_h = drop(softmax(q_h k_gᵀ / √d_head, causal)) v_g       g = ⌊h / (num_heads / num_kv_heads)⌋
 * y   = drop(concat_h(o_h) W_o + b_o)
 * ```
 *
 * @module
 */

import type { AttentionSection } from "../../section.ts";
import { drop, type DropoutFactor, noDropout } from "../dropout.ts";
import { type AttentionInput, need, type Pass } from "../layer.ts";
import {
  addBlock,
  addScaled,
  block,
  columnSums,
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
import { rotate } from "../rotary.ts";

/** Sizes of the layer. */
type Mha = Omit<Extract<AttentionSection, { kind: "mha" }>, "kind">;

/** One head of one sequence, after rotation. */
interface Head {
  /** First row of its sequence. */
  readonly top: number;
  /** First columns of its query, key and value. */
  readonly left: { readonly query: number; readonly key: number; readonly value: number };
  /** First column of its output. */
  readonly out: number;
  /** Length × d_head each. */
  readonly query: Matrix;
  readonly key: Matrix;
  readonly value: Matrix;
  /** Attention probabilities, length × length, zero above the diagonal. */
  readonly probabilities: Matrix;
  /** The factor that they count times. */
  readonly factor: DropoutFactor;
}

/** The matrices, and the biases where there are some. */
function parameters({ bias }: Mha, weights: Weights<string>) {
  const { w_qkv, w_o } = need(weights, ["w_qkv", "w_o"]);
  return { w_qkv, w_o, ...(bias ? need(weights, ["b_qkv", "b_o"]) : {}) };
}

/** Every row of a matrix plus a vector. */
function plus(a: Matrix, bias: Float64Array | undefined): Matrix {
  if (!bias) return a;
  const out = matrix(a.rows, a.columns, a.data.slice());
  for (let t = 0; t < a.rows; t++) addScaled(row(out, t), 1, bias);
  return out;
}

/** Attention over the rows of `x`, which are sequences of `length` tokens one after another. */
export function mha(section: Mha, weights: Weights<string>, input: AttentionInput): Pass {
  const { num_heads, num_kv_heads = num_heads, d_rope, rope_base, rope_scaling, dropout } = section;
  const { x, length, masks = noDropout } = input;
  const width = section.d_head ?? x.columns / num_heads;
  const columns = (num_heads + 2 * num_kv_heads) * width;
  const { b_qkv, b_o, ...named } = parameters(section, weights);
  const w_qkv = matrix(x.columns, columns, named.w_qkv);
  const w_o = matrix(num_heads * width, x.columns, named.w_o);
  const rotary = { base: rope_base, ...(rope_scaling && { scaling: rope_scaling }) };
  /** Rotates the first columns of a head. */
  const rotated = (u: Matrix, direction: 1 | -1) =>
    concatColumns(
      rotate(block(u, { columns: d_rope }), direction, rotary),
      block(u, { left: d_rope }),
    );

  const qkv = plus(matmul(x, w_qkv), b_qkv);
  const mixed = matrix(x.rows, num_heads * width);
  const heads: Head[] = [];
  const scale = 1 / Math.sqrt(width);
  const dropped = masks("probabilities", dropout);
  for (let top = 0; top < x.rows; top += length) {
    for (let h = 0; h < num_heads; h++) {
      const part = (left: number) => block(qkv, { top, rows: length, left, columns: width });
      const group = Math.floor(h / (num_heads / num_kv_heads));
      const left = {
        query: h * width,
        key: (num_heads + group) * width,
        value: (num_heads + num_kv_heads + group) * width,
      };
      const query = rotated(part(left.query), 1);
      const key = rotated(part(left.key), 1);
      const value = part(left.value);
      const probabilities = matrix(length, length);
      const scores = map(matmul(query, transpose(key)), (s) => s * scale);
      for (let t = 0; t < length; t++) {
        row(probabilities, t).set(softmax(row(scores, t).subarray(0, t + 1)));
      }
      const factor: DropoutFactor = (i, j) => dropped(h * x.rows + top + i, j);
      heads.push({ top, left, out: h * width, query, key, value, probabilities, factor });
      addBlock(mixed, matmul(drop(probabilities, factor), value), { top, left: h * width });
    }
  }
  const output = masks("output", dropout);

  const backward: Pass["backward"] = (gradient) => {
    const gProjected = drop(gradient, output);
    const gMixed = matmul(gProjected, transpose(w_o));
    const gQkv = matrix(x.rows, columns);
    for (const { top, left, out, query, key, value, probabilities, factor } of heads) {
      const gOut = block(gMixed, { top, rows: length, left: out, columns: width });
      const gKept = drop(matmul(gOut, transpose(value)), factor);
      const gScores = matrix(length, length);
      for (let t = 0; t < length; t++) {
        const g = softmaxBackward(row(probabilities, t), row(gKept, t));
        row(gScores, t).set(g.map((g) => g * scale));
      }
      addBlock(gQkv, rotated(matmul(gScores, key), -1), { top, left: left.query });
      addBlock(gQkv, rotated(matmul(transpose(gScores), query), -1), { top, left: left.key });
      const gValue = matmul(transpose(drop(probabilities, factor)), gOut);
      addBlock(gQkv, gValue, { top, left: left.value });
    }
    const gBias = columnSums(gQkv);
    // A bias of keys that do not turn adds one number to all scores of a query: its exact gradient is zero.
    for (let i = 0; i < num_kv_heads * width; i++) {
      if (i % width >= d_rope) gBias[num_heads * width + i] = 0;
    }
    return {
      x: matmul(gQkv, transpose(w_qkv)),
      weights: {
        w_qkv: matmul(transpose(x), gQkv).data,
        w_o: matmul(transpose(mixed), gProjected).data,
        ...(section.bias && { b_qkv: gBias, b_o: columnSums(gProjected) }),
      },
    };
  };
  return { y: drop(plus(matmul(mixed, w_o), b_o), output), backward };
}
