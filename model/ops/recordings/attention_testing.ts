/**
 * Recordings of attention, positions and dropout.
 *
 * @module
 */

import { Plan } from "../../gpu/plan.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { attentionBackward, attentionForward } from "../attention/attention.ts";
import { joinHeads, splitHeads } from "../attention/heads.ts";
import { rope } from "../attention/rope.ts";
import { CONTROL } from "../control.ts";
import { cachedAttention } from "../decoding/cached_attention.ts";
import { DROPOUT_KEY, dropoutKey, dropoutRows } from "../dropout/dropout.ts";
import { addPositions, positionsBackward } from "../elementwise/positions.ts";
import { matrix } from "../gemm/matrix.ts";
import { type Recordings, unallocated as t } from "../testing.ts";

/** Attention, as it trains and as it decodes, with positions and masks. */
export const ATTENTION_RECORDINGS: Recordings = {
  attention(gpu) {
    const plan = new Plan(gpu, "attention");
    // Widths that fill blocks, the paper's first.
    for (const [d_nope, d_rope, d_v] of [[64, 64, 64], [20, 20, 36], [64, 0, 64]] as const) {
      // With and without whole blocks.
      for (
        const [dtype, length] of [["f32", 100], ["f32", 256], ["f16", 100], ["f16", 256]] as const
      ) {
        const sizes = { batch: 1, length, heads: 2, d_nope, d_rope, d_v };
        const [q, kv, o] = [d_nope + d_rope, d_nope + d_v, d_v].map((width) =>
          t("x", [length, 2 * width], dtype)
        ) as [Tensor, Tensor, Tensor];
        const shared = d_rope > 0;
        const dropout = { key: t("key", [DROPOUT_KEY], "u32"), place: 1, rate: 0.1 };
        const operands = {
          sizes,
          q,
          kv,
          o,
          log_sum: t("log_sum", [2, length]),
          ...(shared && { kr: t("kr", [length, d_rope], dtype) }),
        };
        const variants = (["stored", "recomputed"] as const).flatMap((scores) => [
          { scores },
          ...shared ? [] : [{ scores, dropout }],
        ]);
        for (const variant of variants) {
          attentionForward(plan, "attention", { ...operands, ...variant });
          attentionBackward(plan, "attention", {
            ...operands,
            ...variant,
            d_o: t("d_o", [length, 2 * d_v], dtype),
            d_q: t("d_q", q.shape.slice(), dtype),
            d_kv: t("d_kv", kv.shape.slice(), dtype),
            ...(shared && { d_kr: t("d_kr", [length, 2 * d_rope]) }),
          });
        }
      }
    }
    return [plan];
  },
  heads(gpu) {
    const plan = new Plan(gpu, "heads");
    const groups = { heads: 4, kv_heads: 2, d_head: 16 };
    for (const dtype of ["f32", "f16"] as const) {
      const q = t("q", [8, 64], dtype);
      const kv = t("kv", [8, 128], dtype);
      const qkv = t("qkv", [8, 128], dtype);
      for (const bias of [undefined, t("bias", [128])]) {
        splitHeads(plan, "split", { groups, qkv, bias, q, kv });
      }
      joinHeads(plan, "join", { groups, d_q: q, d_kv: kv, d_qkv: qkv });
      const position = t("position", [1], "u32");
      const cache = t("cache", [100, 64], dtype);
      cachedAttention(plan, "cached", {
        groups,
        q,
        kv: cache,
        position,
        y: t("y", [8, 64], dtype),
      });
    }
    return [plan];
  },
  dropout(gpu) {
    const plan = new Plan(gpu, "dropout");
    const key = t("key", [DROPOUT_KEY], "u32");
    const dropout = { key, place: 1, rate: 0.1 };
    const control = t("control", [CONTROL.length]);
    for (const first of [true, false]) dropoutKey(plan, "key", { key, control, seed: 1, first });
    const x = t("x", [8, 64]);
    for (const y of [x, t("y", [8, 64]), t("y", [8, 64], "f16")]) {
      for (const numbers of [undefined, t("numbers", [8], "u32")]) {
        dropoutRows(plan, "rows", { x, y, dropout, numbers });
      }
    }
    return [plan];
  },
  rope(gpu) {
    const plan = new Plan(gpu, "rope");
    for (const dtype of ["f32", "f16"] as const) {
      // Whole vec4s, halves that are none, and a last vec4 that is shared.
      for (const columns of [16, 20, 10]) {
        for (const y of [undefined, matrix(t("y", [32, 64], dtype), { columns })]) {
          for (const inverse of [true, false]) {
            rope(plan, "rope", {
              x: matrix(t("x", [32, 64], dtype), { columns }),
              groups: { count: 2, step: 32 },
              ...(y ? { y } : { position: t("position", [2], "u32") }),
              length: 16,
              inverse,
            });
          }
        }
      }
    }
    return [plan];
  },
  positions(gpu) {
    const plan = new Plan(gpu, "positions");
    for (const dtype of ["f32", "f16"] as const) {
      const operands = { x: t("x", [32, 64]), table: t("table", [20, 64], dtype), length: 16 };
      addPositions(plan, "positions", operands);
      addPositions(plan, "positions", { ...operands, position: t("position", [1], "u32") });
    }
    for (const epilogue of ["none", "accumulate"] as const) {
      const operands = { dx: t("dx", [32, 64]), d_table: t("d_table", [20, 64]), length: 16 };
      positionsBackward(plan, "positions", { ...operands, epilogue });
    }
    return [plan];
  },
};
