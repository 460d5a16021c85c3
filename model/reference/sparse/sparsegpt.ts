/**
 * SparseGPT in float64, column after column: pruning and quantising a matrix so that its outputs change least.
 *
 * @module
 */

import { levelsOf, prunedOf, type Pruning } from "../../sparse/options.ts";
import { type Matrix, matrix, row } from "../matrix.ts";

/** A pruned matrix. */
export interface ReferencePruned {
  /** `[out, in]`, zeros included. */
  readonly weight: Matrix;
  /** 1 where a weight was pruned. */
  readonly mask: Int32Array;
  /** Half the change of the outputs, squared, that the Hessian predicts. */
  readonly loss: number;
  /** The grid of each row and the level of each weight, where weights are quantised. */
  readonly quantised?: {
    readonly scale: Float64Array;
    readonly zero: Float64Array;
    readonly level: Int32Array;
  };
}

/** `2/n · Xᵀ X` of `n` rows. */
export function hessian(x: Matrix): Matrix {
  const out = matrix(x.columns, x.columns);
  for (let t = 0; t < x.rows; t++) {
    const values = row(x, t);
    for (let i = 0; i < x.columns; i++) {
      const target = row(out, i);
      for (let j = 0; j < x.columns; j++) target[j]! += values[i]! * values[j]!;
    }
  }
  out.data.forEach((v, i) => out.data[i] = 2 * v / x.rows);
  return out;
}

/** The upper triangle R with `H = R Rᵀ`; undefined where H is not positive definite. */
function upperCholesky(h: Matrix): Matrix | undefined {
  const n = h.rows;
  const r = matrix(n, n);
  for (let j = n - 1; j >= 0; j--) {
    for (let i = j; i >= 0; i--) {
      let sum = h.data[i * n + j]!;
      for (let k = j + 1; k < n; k++) sum -= r.data[i * n + k]! * r.data[j * n + k]!;
      if (i < j) r.data[i * n + j] = sum / r.data[j * n + j]!;
      else if (sum > 0) r.data[j * n + j] = Math.sqrt(sum);
      else return undefined;
    }
  }
  return r;
}

/** The inverse of an upper triangle. */
function invertUpper(r: Matrix): Matrix {
  const n = r.rows;
  const u = matrix(n, n);
  for (let j = 0; j < n; j++) {
    u.data[j * n + j] = 1 / r.data[j * n + j]!;
    for (let i = j - 1; i >= 0; i--) {
      let sum = 0;
      for (let k = i + 1; k <= j; k++) sum += r.data[i * n + k]! * u.data[k * n + j]!;
      u.data[i * n + j] = -sum / r.data[i * n + i]!;
    }
  }
  return u;
}

/** The upper triangle U with `Uᵀ U = (H + λ I)⁻¹`, and which inputs never had a value. */
export function inverseFactor(h: Matrix, damping: number): { u: Matrix; dead: boolean[] } {
  const n = h.rows;
  const damped = matrix(n, n, h.data.slice());
  const diagonal = Float64Array.from({ length: n }, (_, i) => h.data[i * n + i]!);
  const dead = Array.from(diagonal, (v) => v === 0);
  const live = diagonal.filter((v) => v !== 0);
  if (live.length === 0) throw new RangeError("Every input is zero");
  const step = damping * live.reduce((a, b) => a + b, 0) / live.length;
  for (let i = 0; i < n; i++) if (dead[i]) damped.data[i * n + i] = 1;
  for (let attempt = 0; attempt < 100; attempt++) {
    for (let i = 0; i < n; i++) damped.data[i * n + i]! += step;
    const r = upperCholesky(damped);
    if (r) return { u: invertUpper(r), dead };
  }
  throw new RangeError("The Hessian is not positive definite");
}

/** `round` to the nearest whole number, halves to the even one. */
function roundEven(x: number): number {
  const low = Math.floor(x);
  if (x - low !== 0.5) return Math.round(x);
  return low % 2 === 0 ? low : low + 1;
}

/** The grid of each row of a dense matrix: step and zero point. */
function gridOf(w: Matrix, bits: number, symmetric: boolean) {
  const scale = new Float64Array(w.rows);
  const zero = new Float64Array(w.rows);
  for (let r = 0; r < w.rows; r++) {
    const values = row(w, r);
    if (symmetric) {
      const bound = values.reduce((most, v) => Math.max(most, Math.abs(v)), 0) || 1;
      scale[r] = bound / levelsOf({ bits, symmetric }).highest;
      continue;
    }
    let low = values.reduce((a, b) => Math.min(a, b), 0);
    let high = values.reduce((a, b) => Math.max(a, b), 0);
    if (low === 0 && high === 0) [low, high] = [-1, 1];
    scale[r] = (high - low) / (2 ** bits - 1);
    zero[r] = roundEven(-low / scale[r]!);
  }
  return { scale, zero };
}

/** Positions of the `count` smallest, the lower one first among equals. */
function smallest(scores: ArrayLike<number>, count: number): number[] {
  return Array.from({ length: scores.length }, (_, i) => i)
    .sort((i, j) => scores[i]! - scores[j]! || i - j).slice(0, count);
}

/** The level of a weight on a row's grid, and the weight that it stands for. */
function quantised(
  value: number,
  { scale, zero, bits, symmetric }: {
    scale: number;
    zero: number;
    bits: number;
    symmetric: boolean;
  },
): { level: number; value: number } {
  const { lowest, highest } = levelsOf({ bits, symmetric });
  const level = Math.min(Math.max(roundEven(value / scale) + zero, lowest), highest);
  return { level, value: scale * (level - zero) };
}

/** Prunes the smallest weights of `w` `[out, in]`, of each block or of each group, and leaves the others alone but for their grid. */
export function pruneByMagnitude(w: Matrix, pruning: Pruning): ReferencePruned {
  const { sparsity, pattern, bits, symmetric, block } = pruning;
  const { rows, columns } = w;
  const mask = new Int32Array(rows * columns);
  const size = (at: number) => Math.abs(w.data[at]!);
  const prune = (positions: readonly number[], count: number) => {
    for (const i of smallest(positions.map(size), count)) mask[positions[i]!] = 1;
  };
  const cells = (row: number, start: number, end: number) =>
    Array.from({ length: end - start }, (_, j) => row * columns + start + j);
  const all = Array.from({ length: rows }, (_, r) => r);
  const step = pattern ? pattern[1] : block;
  for (let start = 0; start < columns; start += step) {
    const end = Math.min(start + step, columns);
    if (pattern) { for (const r of all) prune(cells(r, start, end), pattern[0]); }
    else {
      const positions = all.flatMap((r) => cells(r, start, end));
      prune(positions, prunedOf(positions.length, sparsity));
    }
  }
  const kept = w.data.map((v, i) => mask[i] ? 0 : v);
  const change = (to: ArrayLike<number>) =>
    w.data.reduce((sum, v, i) => sum + (v - to[i]!) ** 2 / 2, 0);
  if (bits === undefined) {
    return { weight: matrix(rows, columns, kept), mask, loss: change(kept) };
  }
  const { scale, zero } = gridOf(w, bits, symmetric);
  const found = Array.from(kept, (v, i) => {
    const r = Math.floor(i / columns);
    return quantised(v, { scale: scale[r]!, zero: zero[r]!, bits, symmetric });
  });
  const weight = Float64Array.from(found, ({ value }) => value);
  const level = Int32Array.from(found, (cell) => cell.level);
  return {
    weight: matrix(rows, columns, weight),
    mask,
    loss: change(weight),
    quantised: { scale, zero, level },
  };
}

/** Prunes `w` `[out, in]` by the Hessian `h` `[in, in]` of its inputs. */
export function sparsegpt(dense: Matrix, h: Matrix, pruning: Pruning): ReferencePruned {
  const { sparsity, pattern, bits, symmetric, block, damping } = pruning;
  const { rows, columns } = dense;
  const { u, dead } = inverseFactor(h, damping);
  const grid = bits === undefined ? undefined : gridOf(dense, bits, symmetric);
  const w = matrix(rows, columns, dense.data.map((v, i) => dead[i % columns] ? 0 : v));
  const weight = matrix(rows, columns);
  const mask = new Int32Array(rows * columns);
  const level = new Int32Array(rows * columns);
  const score = (r: number, i: number) =>
    (w.data[r * columns + i]! / u.data[i * columns + i]!) ** 2;
  let loss = 0;
  for (let start = 0; start < columns; start += block) {
    const end = Math.min(start + block, columns);
    const width = end - start;
    if (!pattern) {
      const scores = Float64Array.from(
        { length: rows * width },
        (_, i) => score(Math.floor(i / width), start + i % width),
      );
      for (const i of smallest(scores, prunedOf(rows * width, sparsity))) {
        mask[Math.floor(i / width) * columns + start + i % width] = 1;
      }
    }
    for (let i = start; i < end; i++) {
      if (pattern && i % pattern[1] === 0) {
        for (let r = 0; r < rows; r++) {
          const scores = Float64Array.from({ length: pattern[1] }, (_, j) => score(r, i + j));
          for (const j of smallest(scores, pattern[0])) mask[r * columns + i + j] = 1;
        }
      }
      for (let r = 0; r < rows; r++) {
        const at = r * columns + i;
        let q = mask[at] ? 0 : w.data[at]!;
        if (grid && bits !== undefined) {
          const on = { scale: grid.scale[r]!, zero: grid.zero[r]!, bits, symmetric };
          ({ level: level[at], value: q } = quantised(q, on));
        }
        weight.data[at] = q;
        const error = (w.data[at]! - q) / u.data[i * columns + i]!;
        loss += error ** 2 / 2;
        // Later blocks are not looked at before they begin, so all columns may follow at once.
        for (let j = i + 1; j < columns; j++) {
          w.data[r * columns + j]! -= error * u.data[i * columns + j]!;
        }
      }
    }
  }
  return { weight, mask, loss, ...(grid && { quantised: { ...grid, level } }) };
}
