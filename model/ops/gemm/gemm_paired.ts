/**
 * Causal matrix products for every sequence and head at once: `C_p = epilogue(op(A_p) · op(B_p))`, of which only the causal part is computed.
 *
 * @module
 */

import epilogueSource from "../../../shaders/gemm/gemm_epilogue.wgsl" with { type: "text" };
import { type Binding, f32, grid, read, readScalar, update, write } from "../../gpu/kernel.ts";
import type { Plan } from "../../gpu/plan.ts";
import { BYTES, type Tensor } from "../../gpu/tensor.ts";
import { dropoutParts, type RecordedDropout } from "../dropout/dropout.ts";
import { gpuKernel, type ProductShape, SQUARE_TILE } from "./gemm_kernels.ts";
import {
  type Loads,
  type Matrix,
  type Operands,
  operandShape,
  place,
  productSizes,
} from "./matrix.ts";

/** Matrices of one shape inside a tensor, one for each sequence and head; the first one's place, and the others'. */
export interface PairedMatrix extends Matrix {
  /** Elements from a sequence's matrix to the next one's, a multiple of 4. */
  readonly sequence: number;
  /** Elements from a head's matrix to the next one's, a multiple of 4. */
  readonly head: number;
}

/** A number for each row of each pair's result, inside a tensor of f32. */
export interface PairedRows {
  readonly tensor: Tensor;
  /** Element of the first row of the first pair. */
  readonly start: number;
  /** Elements from a sequence's first row to the next one's. */
  readonly sequence: number;
  /** Elements from a head's first row to the next one's. */
  readonly head: number;
}

/** Attention's backward pass does this to scores before it stores them. */
type ScoreEpilogue =
  /** `C = exp(scale·P − log_sum)` where the column is no later than the row, else 0: a head's probabilities. */
  | { readonly kind: "probabilities"; readonly log_sum: PairedRows; readonly scale: number }
  /**
   * `C = scale·S ∘ (P − delta)`, where S are the probabilities: the score gradients. With dropout's factors F of places in `delta` and columns,
   * `C = scale·S ∘ (F ∘ P − delta)`, and S becomes `F ∘ S`.
   */
  | {
    readonly kind: "score_gradients";
    readonly probabilities: Tensor;
    readonly delta: PairedRows;
    readonly scale: number;
    readonly dropout?: RecordedDropout | undefined;
  };

interface PairedProduct extends Operands {
  readonly a: PairedMatrix;
  readonly b: PairedMatrix;
  readonly c: PairedMatrix;
  /** How many pairs there are. */
  readonly pairs: { readonly sequences: number; readonly heads: number };
  /**
   * `below` computes the tiles of a square result on its diagonal and below it; `until` the terms up to the last row of a result's tile; `from` the
   * terms from its first row on.
   */
  readonly causal: "below" | "until" | "from";
  readonly epilogue?: ScoreEpilogue;
  /**
   * Rows of the blocks on the diagonal of a causal square A which hold zeros beyond it, 128 unless said: tiles may be as high.
   */
  readonly whole?: number;
  /**
   * For `tn` without matrix units: what A counts times, the same for {@linkcode SQUARE_TILE} terms each: `[pairs, length / SQUARE_TILE, length]`, f32, rows
   * as far apart as those of A.
   */
  readonly factors?: Tensor;
}

/** Records a causal product for each pair, accumulated in f32. Not for software adapters. */
export function gemmPaired(plan: Plan, label: string, product: PairedProduct): void {
  const { a, b, c, layout, causal, epilogue, factors } = product;
  const { sequences, heads } = product.pairs;
  const pairs = sequences * heads;
  const { m, n, k } = productSizes(label, product);
  if (causal === "below" ? m !== n : m !== k) {
    throw new RangeError(`${label}: op(A) is ${m}×${k} and C ${m}×${n}, not causal ${causal}`);
  }
  const shape: ProductShape = {
    m,
    n,
    k,
    layout,
    a: pairedShape(a),
    b: pairedShape(b),
    linear: epilogue === undefined,
    single: c.tensor.dtype === "f32",
    pairs,
    // The other products read a square up to the end of a tile of theirs, which is no larger.
    square: causal === "below",
    ...(product.whole && { whole: product.whole }),
  };
  const chosen = gpuKernel(plan.gpu.capabilities, shape);
  const { tile_m, tile_n, kernel } = chosen;
  if (factors && (chosen.units || layout !== "tn")) {
    throw new RangeError(`${label}: only products tn without matrix units take factors`);
  }
  const rows = epilogue && (epilogue.kind === "probabilities" ? epilogue.log_sum : epilogue.delta);
  const { bindings, params } = placePaired({ ...product, rows }, chosen);
  const down = Math.ceil(m / tile_m);
  const tiles = causal === "below" ? tilesBelow(down) : down * Math.ceil(n / tile_n);
  /** Numbers of a square of probabilities on and below its diagonal. */
  const half = m * (m + 1) / 2;
  const square = causal === "below" ? c : a;
  const bytes = [a, b, c].reduce(
    (sum, x) => sum + BYTES[x.tensor.dtype] * (x === square ? half : x.rows * x.columns),
    epilogue?.kind === "score_gradients" ? BYTES[epilogue.probabilities.dtype] * half : 0,
  );
  const outputs: Record<string, Binding> = { c: write(c.tensor) };
  if (epilogue?.kind === "probabilities") outputs["log_sum"] = readScalar(epilogue.log_sum.tensor);
  if (factors) outputs["factors"] = read(factors);
  const dropout = dropoutParts(
    epilogue?.kind === "score_gradients" ? epilogue.dropout : undefined,
  );
  if (epilogue?.kind === "score_gradients") {
    const { probabilities } = epilogue;
    outputs["e"] = epilogue.dropout ? update(probabilities) : read(probabilities);
    outputs["delta"] = readScalar(epilogue.delta.tensor);
  }
  plan.dispatch({
    label,
    name: kernel.name,
    source: dropout.source + epilogueSource + kernel.source,
    constants: {
      LAYOUT: layout,
      EPILOGUE: epilogue?.kind ?? "none",
      SPLIT: false,
      PAIRED: causal,
      ...(factors && { FACTORS: SQUARE_TILE }),
      ...kernel.constants,
      ...dropout.constants,
    },
    params: {
      m,
      n,
      k,
      ...params,
      scale: f32(epilogue?.scale ?? 1),
      ...(factors && {
        factors_stride: a.stride / 4,
        factors_pair: Math.ceil(k / SQUARE_TILE) * a.stride / 4,
      }),
      ...dropout.params,
    },
    bindings: { ...bindings, ...outputs, ...dropout.bindings },
    workgroups: grid(pairs * tiles),
    flops: 2 * pairs * half * (causal === "below" ? k : n),
    bytes: pairs * bytes,
  });
}

/** Tiles on the diagonal and below it, where `down` of them make the diagonal: their rows in twos make whole ones together, see gemm_tile.wgsl. */
export function tilesBelow(down: number): number {
  return Math.ceil(down / 2) * (down + 1);
}

/** Operands as a kernel of paired tiles binds them, with where each pair's matrices and `rows` lie: what gemm_tile.wgsl takes. */
export function placePaired(
  product: Pick<PairedProduct, "a" | "b" | "c" | "layout" | "pairs"> & {
    readonly rows: PairedRows | undefined;
  },
  kernel: Loads,
): ReturnType<typeof place> {
  const { a, b, c, pairs: { sequences, heads }, rows } = product;
  const { bindings, params } = place(product, kernel);
  return {
    bindings,
    params: {
      ...params,
      pairs: sequences * heads,
      heads,
      a_sequence: a.sequence / kernel.lanes_a,
      a_head: a.head / kernel.lanes_a,
      b_sequence: b.sequence / kernel.lanes_b,
      b_head: b.head / kernel.lanes_b,
      c_sequence: c.sequence / 4,
      c_head: c.head / 4,
      s_start: rows?.start ?? 0,
      s_sequence: rows?.sequence ?? 0,
      s_head: rows?.head ?? 0,
    },
  };
}

/** Every pair's matrix has to be aligned for loads of eights. */
function pairedShape(matrix: PairedMatrix) {
  const { dtype, aligned } = operandShape(matrix);
  return { dtype, aligned: aligned && matrix.sequence % 8 === 0 && matrix.head % 8 === 0 };
}
