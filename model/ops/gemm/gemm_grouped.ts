/**
 * Matrix products over groups of rows, each with a matrix of its own: tokens sorted by expert, and the experts' weights.
 *
 * A group's rows are padded with zeros to whole tiles, so that a tile multiplies with one matrix. Tables on the GPU say which: no host knows how many rows a group has.
 *
 * @module
 */

import directSource from "../../../shaders/gemm/gemm_direct.wgsl" with { type: "text" };
import epilogueSource from "../../../shaders/gemm/gemm_epilogue.wgsl" with { type: "text" };
import reduceSource from "../../../shaders/gemm/gemm_reduce.wgsl" with { type: "text" };
import vectorSource from "../../../shaders/gemm/gemm_vector.wgsl" with { type: "text" };
import type { Capabilities } from "../../gpu/capabilities.ts";
import { type Binding, grid, read, readScalar, update, write } from "../../gpu/kernel.ts";
import type { Plan } from "../../gpu/plan.ts";
import { BYTES, type DType, roundUp, type Tensor } from "../../gpu/tensor.ts";
import { groupedWay } from "./gemm_grouped_ways.ts";
import { gpuKernel, type ProductShape, productUnit } from "./gemm_kernels.ts";
import {
  type Loads,
  type Matrix,
  matrix,
  type Operands,
  operandShape,
  place,
  transpose,
} from "./matrix.ts";

/** How the rows of a product are spread over groups. */
export interface Groups {
  /** Groups in all. */
  readonly count: number;
  /** Rows of a tile; a group has a whole number of tiles. */
  readonly tile: number;
  /** Rows in all at most, padding included: a multiple of `tile`. */
  readonly rows: number;
  /** Rows that are not padding, at most: the operations that a product is counted with. */
  readonly filled: number;
  /** Group of each tile, u32 `[rows / tile]`; of a tile that none uses 0xffffffff. */
  readonly of_tile: Tensor;
  /** First row of each group, and after them the first row that is no group's: u32 `[count + 1]`, multiples of `tile`. */
  readonly begin_of: Tensor;
}

/** Rounds of a loop that a software adapter runs for certain. */
const MAX_ROUNDS = 65000;
/** Rows and vec4s of columns that an invocation of `gemm_direct.wgsl` computes. */
const DIRECT = { rows: 8, columns: 2 };
/** Rows of a tile on real GPUs: the high ones are faster, the low ones pad less. Matrix units take none lower than theirs; sums go over whole steps of 32 rows. */
const TILES = { high: 128, units: 64, low: 32 };
/** Rows of a group on average, from which on high tiles pay. */
const MANY_ROWS = 256;
/** Rows that are multiplied one by one at most, where nothing is to be summed over them. */
const FEW_ROWS = 16;
/** Columns of a row that a workgroup of `gemm_vector.wgsl` computes, and fours of terms that it asks for at once. */
const VECTOR = { nn: { columns: 32, unroll: 2 }, nt: { columns: 8, unroll: 4 } };

/**
 * Rows of a tile: 8 on a software adapter; on a GPU 32, or 64 where matrix units multiply, or 128 where groups have so many rows on average that their padding
 * costs less than small tiles do. 1, no padding at all, for a few rows of which no gradient is asked for.
 *
 * @param sizes `dtype`: that of the rows and of what they are multiplied with.
 */
export function groupTile(
  capabilities: Capabilities,
  sizes: { rows: number; groups: number; gradients: boolean; dtype: DType },
): number {
  const { rows, groups, gradients, dtype } = sizes;
  if (capabilities.software) return DIRECT.rows;
  if (!gradients && rows <= FEW_ROWS) return 1;
  if (rows >= MANY_ROWS * groups) return TILES.high;
  return dtype === "f16" && productUnit(capabilities) ? TILES.units : TILES.low;
}

/** Rows that `rows` of `groups` groups take at most when each group is padded to whole tiles. */
export function paddedRows(
  { rows, groups, tile }: { rows: number; groups: number; tile: number },
): number {
  return roundUp(rows + Math.min(rows, groups) * (tile - 1), tile);
}

/** Records `C[r] = A[r] · op(B[group of r])`, accumulated in f32; rows of tiles that no group uses are left alone. */
export function gemmGrouped(plan: Plan, label: string, product: {
  /** `[rows, K]`. */
  readonly a: Tensor;
  /** `nn` `[count, K, N]`, `nt` `[count, N, K]`: whole, or in parts of consecutive groups. */
  readonly b: readonly Tensor[];
  /** `[rows, N]`. */
  readonly c: Tensor;
  readonly layout: "nn" | "nt";
  readonly groups: Groups;
  /** `accumulate` adds to C. */
  readonly epilogue?: "none" | "accumulate";
}): void {
  const { a, c, layout, groups, epilogue = "none" } = product;
  checkRows(label, groups, [a, c]);
  const [k, n] = [a.width, c.width];
  let first = 0;
  for (const b of product.b) {
    const [count, ...sizes] = matrices(b);
    const [rows, columns] = layout === "nn" ? [k, n] : [n, k];
    checkMatrices(label, b, sizes, [rows, columns]);
    const share = count / groups.count;
    const { stride, splits, ...kernel } = rowsKernel(plan, label, groups, {
      operands: {
        a: matrix(a),
        b: matrix(b, { rows, columns }),
        c: matrix(c),
        layout,
      },
      share,
    });
    const { bindings, params } = place(kernel.operands, kernel.loads);
    const of_tile = readScalar(groups.of_tile);
    const sums: Record<string, Binding> = { c: epilogue === "none" ? write(c) : update(c) };
    const flops = share * 2 * groups.filled * n * k;
    const partial = splits.splits === 1
      ? undefined
      : plan.tensor(`${label}.partial`, [splits.splits, groups.rows, n], { owner: "workspace" });
    plan.dispatch({
      label,
      name: kernel.name,
      source: partial ? kernel.source : epilogueSource + kernel.source,
      constants: {
        ...kernel.constants,
        LAYOUT: kernel.operands.layout,
        EPILOGUE: partial ? "none" : epilogue,
        GROUPED: "rows",
        SPLIT: partial !== undefined,
      },
      params: {
        m: groups.rows,
        n,
        k,
        ...params,
        first,
        groups: count,
        stride: stride / (kernel.loads?.lanes_b ?? 4),
        ...partial && splits,
      },
      bindings: { ...bindings, of_tile, ...partial ? { p: write(partial) } : sums },
      workgroups: grid(kernel.workgroups * splits.splits),
      flops,
      bytes: b.bytes + share * groups.filled *
          (k * BYTES[a.dtype] + n * BYTES[c.dtype] * (epilogue === "none" ? 1 : 2)),
    });
    if (partial) {
      plan.dispatch({
        label: `${label}.reduce`,
        name: "gemm_reduce",
        source: epilogueSource + reduceSource,
        constants: { LAYOUT: layout, EPILOGUE: epilogue, GROUPED: "rows", TILE: groups.tile },
        params: {
          m: groups.rows,
          n,
          ldc: params["ldc"]!,
          c_start: params["c_start"]!,
          splits: splits.splits,
          first,
          groups: count,
        },
        bindings: { p: read(partial), of_tile, ...sums },
        workgroups: grid(Math.ceil(groups.rows * n / 256)),
        flops: share * splits.splits * groups.filled * n,
      });
    }
    first += count;
  }
  checkCount(label, groups, first);
}

/** Records `C[g] = Σ over the rows r of group g of A[r]ᵀ · B[r]`, accumulated in f32: zeros where a group has no rows, or what was there. */
export function gemmGroupedSums(plan: Plan, label: string, product: {
  /** `[rows, M]`. */
  readonly a: Tensor;
  /** `[rows, N]`. */
  readonly b: Tensor;
  /** `[count, M, N]`: whole, or in parts of consecutive groups. */
  readonly c: readonly { readonly tensor: Tensor; readonly epilogue: "none" | "accumulate" }[];
  readonly groups: Groups;
}): void {
  const { a, b, groups } = product;
  checkRows(label, groups, [a, b]);
  const [m, n] = [a.width, b.width];
  let first = 0;
  for (const { tensor, epilogue } of product.c) {
    const [count, ...sizes] = matrices(tensor);
    checkMatrices(label, tensor, sizes, [m, n]);
    const operands = {
      a: matrix(a),
      b: matrix(b),
      c: matrix(tensor, { rows: m, columns: n }),
      layout: "tn" as const,
    };
    const kernel = sumsKernel(plan, groups, { ...operands, m, n, count });
    const { bindings, params } = place(operands, kernel.loads);
    const share = count / groups.count;
    kernel.ranges.forEach((range, i) => {
      const accumulate = i > 0 || epilogue === "accumulate";
      const outputs: Record<string, Binding> = { c: accumulate ? update(tensor) : write(tensor) };
      plan.dispatch({
        label,
        name: kernel.name,
        source: epilogueSource + kernel.source,
        constants: {
          ...kernel.constants,
          LAYOUT: "tn",
          EPILOGUE: accumulate ? "accumulate" : "none",
          GROUPED: "sums",
        },
        params: {
          m,
          n,
          k: groups.rows,
          ...params,
          first,
          groups: count,
          stride: m * n / 4,
          ...range,
        },
        bindings: { ...bindings, begin_of: readScalar(groups.begin_of), ...outputs },
        workgroups: grid(kernel.workgroups),
        flops: share * 2 * groups.filled * m * n / kernel.ranges.length,
        bytes: tensor.bytes * (accumulate ? 2 : 1) +
          share * groups.filled * (m * BYTES[a.dtype] + n * BYTES[b.dtype]) / kernel.ranges.length,
      });
    });
    first += count;
  }
  checkCount(label, groups, first);
}

/** A kernel as it is dispatched. */
interface Dispatched {
  /** The kernel's own loads; `vec4`s unless it has some. */
  readonly loads?: Loads;
  readonly name: string;
  readonly source: string;
  readonly constants: Readonly<Record<string, number | boolean | string>>;
  readonly workgroups: number;
}

const direct = { ROWS: DIRECT.rows, COLUMNS: DIRECT.columns, WORKGROUP: 8 };

/** The operands of a product of rows with their group's matrix, and its kernel. */
interface RowsKernel extends Dispatched {
  /** As the kernel reads them; B is the first group's. */
  readonly operands: Operands;
  /** Elements from a group's matrix to the next one's. */
  readonly stride: number;
  /** Parts that the sum is cut into, each of `range` terms; 1: none. */
  readonly splits: { readonly splits: number; readonly range: number };
}

/** The kernel of a product of rows with their group's matrix; records the transposes that it is faster with. */
function rowsKernel(plan: Plan, label: string, groups: Groups, product: {
  readonly operands: Operands;
  /** Share of the groups that it is of. */
  readonly share: number;
}): RowsKernel {
  const { operands, share } = product;
  const { a, b, c } = operands;
  const layout = operands.layout === "nt" ? "nt" : "nn";
  const [n, k] = [c.columns, a.columns];
  const { capabilities } = plan.gpu;
  const stored = { operands, stride: k * n, splits: { splits: 1, range: k } };
  if (capabilities.software) {
    const across = Math.ceil(n / (4 * DIRECT.columns));
    return {
      ...stored,
      name: "gemm_direct",
      source: directSource,
      constants: direct,
      workgroups: Math.ceil(groups.rows / DIRECT.rows * across / 8),
    };
  }
  if (groups.tile === 1) {
    const { columns, unroll } = VECTOR[layout];
    return {
      ...stored,
      name: "gemm_vector",
      source: vectorSource,
      constants: { COLUMNS4: columns / 4, UNROLL: unroll, ROWS: 1, TOGETHER: 1, WHOLE: false },
      workgroups: groups.rows * Math.ceil(n / columns),
    };
  }
  const shape: ProductShape = {
    m: groups.rows,
    n,
    k,
    layout,
    a: operandShape(a),
    b: operandShape(b),
    linear: true,
    single: c.tensor.dtype === "f32",
    height: groups.tile,
  };
  // A group's last tile is half full on average.
  const rows = share * (groups.filled + Math.min(groups.filled, groups.count) * groups.tile / 2);
  const way = groupedWay(capabilities, shape, { rows });
  const { kernel, tile_m, tile_n, lanes_a, lanes_b, step } = way.kernel;
  const dispatched = {
    ...of(kernel),
    loads: { lanes_a, lanes_b },
    workgroups: groups.rows / tile_m * Math.ceil(n / tile_n),
    splits: { splits: way.splits, range: roundUp(Math.ceil(k / way.splits), step) },
  };
  if (!way.transposed) return { ...stored, ...dispatched };
  const across = { c, layout: "tn", a: transpose(plan, `${label}.a`, a) } as const;
  if (layout === "nn") return { ...dispatched, operands: { ...across, b }, stride: k * n };
  const side = transpose(plan, `${label}.b`, matrix(b.tensor));
  return { ...dispatched, operands: { ...across, b: { ...side, columns: n } }, stride: n };
}

/** The kernel of sums over the rows of each group, and ranges of rows where they are too many for one dispatch. */
function sumsKernel(plan: Plan, groups: Groups, product: {
  a: Matrix;
  b: Matrix;
  c: Matrix;
  m: number;
  n: number;
  count: number;
}): Dispatched & { readonly ranges: readonly Readonly<Record<string, number>>[] } {
  const { a, b, c, m, n, count } = product;
  const { capabilities } = plan.gpu;
  if (capabilities.software) {
    const tiles = Math.ceil(m / DIRECT.rows) * Math.ceil(n / (4 * DIRECT.columns));
    // llvmpipe leaves an invocation's loops after 65,535 rounds in all, without a word.
    const ranges = Array.from(
      { length: Math.ceil(groups.rows / MAX_ROUNDS) },
      (_, i) => ({
        range_begin: i * MAX_ROUNDS,
        range_end: Math.min((i + 1) * MAX_ROUNDS, groups.rows),
      }),
    );
    return {
      name: "gemm_direct",
      source: directSource,
      constants: direct,
      workgroups: Math.ceil(count * tiles / 8),
      ranges,
    };
  }
  if (groups.tile < TILES.low) {
    throw new RangeError(`${c.tensor.name}: groups of tiles of ${groups.tile} rows have no sums`);
  }
  const { kernel, tile_m, tile_n, lanes_a, lanes_b } = gpuKernel(capabilities, {
    m,
    n,
    k: groups.rows,
    layout: "tn",
    a: operandShape(a),
    b: operandShape(b),
    linear: true,
    single: c.tensor.dtype === "f32",
    groups: count,
  });
  const workgroups = count * Math.ceil(m / tile_m) * Math.ceil(n / tile_n);
  return { ...of(kernel), loads: { lanes_a, lanes_b }, workgroups, ranges: [{}] };
}

function of({ name, source, constants }: ReturnType<typeof gpuKernel>["kernel"]) {
  return {
    name,
    source,
    constants: { ...constants, SPLIT: false, PAIRED: false } as Dispatched["constants"],
  };
}

/** Matrices of a tensor, and their rows and columns. */
function matrices({ name, shape }: Tensor): [count: number, rows: number, columns: number] {
  const [count, rows, columns, ...more] = shape;
  if (count === undefined || rows === undefined || columns === undefined || more.length > 0) {
    throw new RangeError(`${name} is [${shape.join(", ")}], expected a matrix for each group`);
  }
  return [count, rows, columns];
}

function checkMatrices(
  label: string,
  { name }: Tensor,
  found: readonly number[],
  expected: readonly number[],
): void {
  if (found.join() === expected.join()) return;
  throw new RangeError(
    `${label}: the matrices of ${name} are ${found.join("×")}, expected ${expected.join("×")}`,
  );
}

function checkRows(label: string, groups: Groups, tensors: readonly Tensor[]): void {
  for (const { name, rows } of tensors) {
    if (rows === groups.rows) continue;
    throw new RangeError(`${label}: ${name} has ${rows} rows, the groups ${groups.rows}`);
  }
}

function checkCount(label: string, groups: Groups, found: number): void {
  if (found === groups.count) return;
  throw new RangeError(`${label}: ${found} matrices for ${groups.count} groups`);
}
