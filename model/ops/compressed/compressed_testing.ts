/**
 * Random pruned matrices for tests of compressed forms, and recordings of their products.
 *
 * @module
 */

import type { Gpu } from "../../gpu/device.ts";
import { Plan } from "../../gpu/plan.ts";
import { type DType, Tensor } from "../../gpu/tensor.ts";
import { segmentsOf } from "../mixture/segments.ts";
import { noise } from "../testing.ts";
import { compressedWeights } from "./experts.ts";
import type { Compression, LevelGrid, PrunedWeights, ValueType } from "./forms.ts";
import { gemmGroupedCompressed } from "./gemm_grouped_compressed.ts";

/** Sizes of a random matrix, and how it is pruned. */
export interface RandomPruning {
  readonly outputs: number;
  readonly inputs: number;
  /** `[N, M]`; without it half of the weights are pruned at random. */
  readonly pattern?: readonly [number, number] | undefined;
  readonly values: ValueType;
  readonly seed: number;
  /** Inputs `i` with `i % 7` equal to it are dead: all their weights are pruned. */
  readonly dead?: number | undefined;
}

/** A grid with levels of so many bits, for all matrices of `outputs` rows. */
export function randomGrid(
  outputs: number,
  { bits, lowest, seed }: { bits: number; lowest: number; seed: number },
): LevelGrid {
  const numbers = noise(2 * outputs, seed);
  return {
    scale: Float32Array.from({ length: outputs }, (_, r) => 0.01 + 0.1 * Math.abs(numbers[r]!)),
    zero: Float32Array.from(
      { length: outputs },
      (_, r) => lowest < 0 ? 0 : Math.floor(Math.abs(numbers[outputs + r]!) * 0.999 * 2 ** bits),
    ),
    lowest,
  };
}

/** A pruned matrix of random weights, of which some that are kept are zero. Weights are exact in their type. */
export function randomPruned(
  { outputs, inputs, pattern, values, seed, dead }: RandomPruning,
  grid?: LevelGrid,
): PrunedWeights {
  const size = outputs * inputs;
  const [numbers, chosen] = [noise(size, 2 * seed + 1), noise(size, 2 * seed + 2)];
  const mask = new Uint8Array(size);
  for (let r = 0; r < outputs; r++) {
    const [zeros, group] = pattern ?? [0, 1];
    for (let first = 0; first < inputs; first += group) {
      const at = r * inputs + first;
      if (pattern) {
        const order = Array.from({ length: group }, (_, p) => p)
          .sort((p, q) => chosen[at + p]! - chosen[at + q]!);
        for (const p of order.slice(0, zeros)) mask[at + p] = 1;
      } else mask[at] = chosen[at]! < 0 ? 1 : 0;
    }
    if (dead === undefined) continue;
    for (let c = dead; c < inputs; c += 7) mask[r * inputs + c] = 1;
  }
  const weight = new Float32Array(size);
  const numberOf = (i: number) => mask[i] || i % 11 === 0 ? 0 : numbers[i]!;
  if (values.kind !== "levels") {
    for (let i = 0; i < size; i++) {
      weight[i] = values.kind === "f16" ? Math.f16round(numberOf(i)) : numberOf(i);
    }
    return { weight, mask };
  }
  const { scale, zero } = grid!;
  const most = 2 ** values.bits - 1;
  const level = new Int16Array(size);
  for (let i = 0; i < size; i++) {
    const r = Math.floor(i / inputs);
    level[i] = mask[i]
      ? zero[r]!
      : values.lowest + Math.floor((numbers[i]! + 1) / 2 * (most + (values.lowest < 0 ? 0 : 1)));
    weight[i] = mask[i] ? 0 : scale[r]! * (level[i]! - zero[r]!);
  }
  return { weight, mask, quantised: { scale, zero, level } };
}

/** Forms and value types that between them take every branch of the kernels. */
const RECORDED: readonly Omit<Compression, "inputs">[] = [
  { pattern: [2, 4], values: { kind: "f32" } },
  { pattern: [4, 8], values: { kind: "f16" } },
  { pattern: [1, 2], values: { kind: "levels", bits: 4, lowest: 0 } },
  { pattern: [3, 8], values: { kind: "levels", bits: 5, lowest: 0 } },
  { values: { kind: "f32" } },
  { values: { kind: "f16" } },
  { values: { kind: "levels", bits: 4, lowest: 0 } },
  { values: { kind: "levels", bits: 7, lowest: 0 } },
];

/** Rows, inputs and outputs: a few rows, low tiles, high ones that are narrow and wide, and products for which rows are transposed. */
const RECORDED_SIZES = [[4, 64, 64], [64, 64, 64], [4096, 64, 64], [4096, 64, 256], [
  16384,
  1024,
  1024,
]] as const;

/** Products with compressed weights of each form on each way. */
export function recordCompressedProducts(gpu: Gpu): Plan {
  const plan = new Plan(gpu, "compressed products");
  const experts = 8;
  const t = (name: string, shape: readonly number[], dtype: DType = "f32") =>
    new Tensor(name, shape, { dtype });
  for (const [rows, inputs, outputs] of RECORDED_SIZES) {
    const { groups } = segmentsOf(plan, "segments", {
      ...{ keys: t("keys", [rows], "u32"), experts, drops: false, gradients: false, dtype: "f32" },
    });
    const [a, c] = [t("a", [groups.rows, inputs]), t("c", [groups.rows, outputs])];
    for (const compression of RECORDED) {
      const stored = Array.from({ length: experts }, () => outputs * inputs / 2);
      const shape = { ...compression, inputs, outputs, stored };
      const b = compressedWeights(gpu.capabilities, "w", shape);
      gemmGroupedCompressed(plan, "y", { a, b, c, groups });
    }
  }
  return plan;
}
