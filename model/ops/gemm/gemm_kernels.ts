/**
 * Which kernel multiplies on a GPU, and in tiles of what size.
 *
 * @module
 */

import matrixSource from "../../../shaders/gemm/gemm_matrix.wgsl" with { type: "text" };
import stepsSource from "../../../shaders/gemm/gemm_steps.wgsl" with { type: "text" };
import tileSource from "../../../shaders/gemm/gemm_tile.wgsl" with { type: "text" };
import tiledSource from "../../../shaders/gemm/gemm_tiled.wgsl" with { type: "text" };
import type { Capabilities, SubgroupMatrixConfig } from "../../gpu/capabilities.ts";
import type { Constants } from "../../gpu/kernel.ts";
import type { OperandShape } from "./matrix.ts";
import { matrixUnit } from "./matrix_unit.ts";

/** Tiles that keep a large GPU busy, and that it works on at a time: two for each of 132 multiprocessors. */
const GPU_TILES = 264;
/** Terms of a sum that are worth a workgroup of their own. */
const SPLIT_TERMS = 256;
/** Parts that a sum is cut into at most, which bounds the workspace. */
const MAX_SPLITS = 64;

/** Tiles of 128 that are enough to keep a GPU busy, where the sum is too short to be cut. */
const FEW_TILES = 64;

/** A kernel that computes tiles of the product. */
export interface GpuKernel {
  /** Rows of a workgroup's tile. */
  readonly tile_m: number;
  /** Its columns. */
  readonly tile_n: number;
  /** A range of the sum that a workgroup takes is a multiple of it. */
  readonly step: number;
  /** Numbers of a load of A, in which its start and stride are counted; halves are loaded as bits. */
  readonly lanes_a: 4 | 8;
  /** The same for B. */
  readonly lanes_b: 4 | 8;
  /** Whether it runs on matrix units, which take whole steps. */
  readonly units: boolean;
  /** The kernel to dispatch. */
  readonly kernel: {
    readonly name: string;
    readonly source: string;
    readonly constants: Constants;
  };
}

/** The shape of a product. */
export interface ProductShape {
  /** Rows of the result. */
  readonly m: number;
  /** Columns of the result. */
  readonly n: number;
  /** Terms of each sum. */
  readonly k: number;
  /** Which operand is stored transposed. */
  readonly layout: "nn" | "nt" | "tn";
  readonly a: OperandShape;
  readonly b: OperandShape;
  /** Whether the product may be made in parts that are added up. */
  readonly linear: boolean;
  /** Whether the result is f32, and so is what is added to it. */
  readonly single: boolean;
  /** Products of this shape at once, each a causal part of it: 1 when absent. */
  readonly pairs?: number;
  /** Whether tiles have to be square: those of {@linkcode SQUARE_TILE}. */
  readonly square?: boolean;
  /** Rows of a tile at most, for products over causal squares: 128 when absent. */
  readonly whole?: number;
  /** Rows of a tile exactly, for products whose rows belong to groups. */
  readonly height?: number;
  /** Results of this shape, one for each group of rows, whose sums go over whole steps: 1 when absent. */
  readonly groups?: number;
}

/** A tile of `gemm_tiled.wgsl`, and the rows and columns of an invocation's part. */
interface Tiling {
  readonly tile_m: number;
  readonly tile_n: number;
  readonly fragment_m: number;
  readonly fragment_n: number;
}

/** Rows and columns of a square tile. */
export const SQUARE_TILE = 128;

/** Parts that a sum of `k` terms may be cut into; 0 where it is too short to be cut. */
export function mostSplits(k: number): number {
  return Math.min(Math.floor(k / SPLIT_TERMS), MAX_SPLITS);
}

/** Rounds for each part of the sum, of as many tiles as a GPU works on at a time: what the time goes by. */
function roundsOf(kernel: GpuKernel, { m, n }: ProductShape, splits: number): number {
  const tiles = Math.ceil(m / kernel.tile_m) * Math.ceil(n / kernel.tile_n);
  return Math.ceil(tiles * splits / GPU_TILES) / splits;
}

/**
 * Parts that the sum is cut into: the fewest whose tiles keep a GPU busy to within a few percent, in whole rounds of as many as it works on at a time. 1: none.
 */
function splitsOf(kernel: GpuKernel, shape: ProductShape): number {
  const rounds = (splits: number) => roundsOf(kernel, shape, splits);
  const counts = Array.from({ length: Math.max(1, mostSplits(shape.k)) }, (_, i) => i + 1);
  const least = Math.min(...counts.map(rounds));
  return counts.find((splits) => rounds(splits) <= 1.04 * least)!;
}

/** Floating-point operations from which on a product is worth a dispatch before it. */
const LONG = 8e9;
/** Columns that each number of an operand meets, from which on it is worth transposing. */
const WIDE = 256;

/**
 * Whether operands should be transposed by a kernel of their own first, so that both are stored K-major: a product without matrix units is 8 to 20 % faster then.
 */
function transposingPays({ units, tile_m, tile_n }: GpuKernel, shape: ProductShape): boolean {
  const { m, n, k, layout } = shape;
  return !units && layout !== "tn" && tile_m === 128 && tile_n === 128 && 2 * m * n * k >= LONG &&
    n >= WIDE && (layout === "nn" || m >= WIDE);
}

/** The kernel that the rule takes for a product. */
export function gpuKernel(capabilities: Capabilities, shape: ProductShape): GpuKernel {
  return onMatrixUnits(capabilities, shape) ??
    tiled(capabilities, shape, tileOf(capabilities, shape));
}

/** A way of making a product. */
export interface ProductWay {
  readonly kernel: GpuKernel;
  /** Parts that the sum is cut into. 1: none. */
  readonly splits: number;
  /** Whether operands are transposed first, so that both are stored K-major and the kernel is one for `tn`. */
  readonly transposed: boolean;
}

/** The way that the rule takes for a product. */
export function productWay(capabilities: Capabilities, shape: ProductShape): ProductWay {
  const kernel = gpuKernel(capabilities, shape);
  if (!transposingPays(kernel, shape)) {
    return { kernel, splits: splitsOf(kernel, shape), transposed: false };
  }
  const transposed = transposedShape(shape);
  const inner = gpuKernel(capabilities, transposed);
  return { kernel: inner, splits: splitsOf(inner, transposed), transposed: true };
}

/** The product of transposed operands: `transpose` aligns their rows. */
export function transposedShape(shape: ProductShape): ProductShape {
  const { layout, a, b } = shape;
  return {
    ...shape,
    layout: "tn",
    a: { ...a, aligned: true },
    b: layout === "nt" ? { ...b, aligned: true } : b,
  };
}

/** Rows of a workgroup's tile on matrix units. */
const MATRIX_TILE = 128;
/** Columns of a narrow one. */
const NARROW = 64;
/** Terms of a sum that they take at a time. */
const MATRIX_STEP = 32;
/** Workgroup memory of `gemm_matrix.wgsl` at most: two tiles with padded rows, and invocations' numbers. */
const MATRIX_BYTES = 2 * 2 * 128 * 40 + 4 * 4 * 64;

/** The matrix unit that products of halves run on; none where a device has no such unit, or too little for a workgroup's tiles. */
export function productUnit(capabilities: Capabilities): SubgroupMatrixConfig | undefined {
  const { max_workgroup_bytes, max_invocations, subgroup_max_size } = capabilities;
  if (MATRIX_BYTES > max_workgroup_bytes || 4 * subgroup_max_size > max_invocations) {
    return undefined;
  }
  return matrixUnit(capabilities);
}

function onMatrixUnits(
  capabilities: Capabilities,
  shape: ProductShape,
): GpuKernel | undefined {
  const { m, n, k, layout, a, b, linear, single, pairs, height, groups } = shape;
  const grouped = height !== undefined || groups !== undefined;
  if (![a, b].every(({ dtype, aligned }) => dtype === "f16" && aligned)) return undefined;
  if (k < MATRIX_STEP || ((!linear || grouped) && k % MATRIX_STEP > 0)) return undefined;
  const unit = productUnit(capabilities);
  // Their tiles are not as low.
  if (!unit || height === LOW_TILE.tile_m) return undefined;
  const tile_m = height ?? MATRIX_TILE;
  const tile_n = n <= NARROW ? NARROW : MATRIX_TILE;
  if (pairs !== undefined && (m % tile_m > 0 || n % tile_n > 0 || k % MATRIX_STEP > 0)) {
    return undefined;
  }
  return {
    tile_m,
    tile_n,
    step: MATRIX_STEP,
    lanes_a: 8,
    lanes_b: 8,
    units: true,
    kernel: {
      name: "gemm_matrix",
      source: tileSource + matrixSource,
      constants: {
        SUBGROUP_MATRIX: true,
        SUBGROUP: capabilities.subgroup_max_size,
        TILE_M: tile_m,
        TILE_N: tile_n,
        STEP: MATRIX_STEP,
        M: unit.m,
        N: unit.n,
        K: unit.k,
        DIRECT: single && linear && m % unit.m === 0 && n % unit.n === 0,
        CLAMPED: m < tile_m || n < tile_n || (layout === "nt" && n % 4 !== 0),
      },
    },
  };
}

/** Tiles, the fastest first. */
const TILES: readonly [Tiling, ...Tiling[]] = [
  { tile_m: SQUARE_TILE, tile_n: SQUARE_TILE, fragment_m: 8, fragment_n: 8 },
  { tile_m: 256, tile_n: 64, fragment_m: 8, fragment_n: 8 },
  { tile_m: 128, tile_n: 64, fragment_m: 8, fragment_n: 4 },
  { tile_m: 64, tile_n: 64, fragment_m: 4, fragment_n: 4 },
];
/** The tile for few rows of groups, which a higher one would pad more. */
const LOW_TILE: Tiling = { tile_m: 32, tile_n: 64, fragment_m: 4, fragment_n: 4 };

/** A tile of the result. */
type Tile = Pick<GpuKernel, "tile_m" | "tile_n">;

/** Numbers that tiles compute, those beyond the result included. */
function areaOf({ m, n }: ProductShape, { tile_m, tile_n }: Tile): number {
  return Math.ceil(m / tile_m) * tile_m * Math.ceil(n / tile_n) * tile_n;
}

/** Invocations of a workgroup. */
function invocationsOf({ tile_m, tile_n, fragment_m, fragment_n }: Tiling): number {
  return tile_m * tile_n / (fragment_m * fragment_n);
}

/**
 * Terms of a sum at a time: as many as a device has memory for, for two buffers of each operand, and at least a load for each invocation. Half of the most costs
 * 6 % of the speed.
 */
function stepOf(capabilities: Capabilities, tile: Tiling): number | undefined {
  const { tile_m, tile_n } = tile;
  return [16, 8].find((step) =>
    4 * 2 * step * (tile_m + tile_n) <= capabilities.max_workgroup_bytes &&
    step * Math.min(tile_m, tile_n) >= 4 * invocationsOf(tile)
  );
}

/** The tiles that a device has memory for and a product can take. */
function tilesFor(
  capabilities: Capabilities,
  { pairs, whole = SQUARE_TILE, height }: ProductShape,
): readonly Tiling[] {
  const tiles = height === LOW_TILE.tile_m ? [LOW_TILE] : TILES;
  return tiles.filter((tile) =>
    stepOf(capabilities, tile) !== undefined &&
    (pairs === undefined || tile.tile_m <= whole) &&
    (height === undefined || tile.tile_m === height)
  );
}

/** The tile that the rule takes without matrix units. */
function tileOf(capabilities: Capabilities, shape: ProductShape): Tiling {
  const { m, n, k, pairs = 1, groups = 1 } = shape;
  if (shape.square) return TILES[0];
  const all = tilesFor(capabilities, shape);
  return all.find((tile) => {
    const tiles = pairs * groups * Math.ceil(m / tile.tile_m) * Math.ceil(n / tile.tile_n);
    return (tiles >= FEW_TILES || tiles * mostSplits(k) >= 0.75 * GPU_TILES) &&
      areaOf(shape, tile) <= 1.25 * areaOf(shape, { tile_m: 64, tile_n: 64 });
  }) ?? all.at(-1)!;
}

function tiled(
  capabilities: Capabilities,
  { k, layout, a, b }: ProductShape,
  tile: Tiling,
): GpuKernel {
  const { tile_m, tile_n, fragment_m, fragment_n } = tile;
  const step = stepOf(capabilities, tile)!;
  const invocations = invocationsOf(tile);
  // By eights, unless half of the invocations would have nothing to load, or a load might reach beyond the sum.
  const lanes = ({ dtype, aligned }: OperandShape, tile: number, transposed: boolean) =>
    dtype === "f16" && aligned && tile * step >= 8 * invocations && (!transposed || k % 8 === 0)
      ? 8
      : 4;
  const lanes_a = lanes(a, tile_m, layout !== "tn");
  const lanes_b = lanes(b, tile_n, layout === "nt");
  const type = ({ dtype }: OperandShape, lanes: 4 | 8) =>
    dtype === "f32" ? "vec4f" : lanes === 8 ? "vec4u" : "vec2u";
  return {
    tile_m,
    tile_n,
    step: 2 * step,
    lanes_a,
    lanes_b,
    units: false,
    kernel: {
      name: "gemm_tiled",
      source: tileSource + stepsSource + tiledSource,
      constants: {
        TILE_M: tile_m,
        TILE_N: tile_n,
        FRAGMENT_M: fragment_m,
        FRAGMENT_N: fragment_n,
        STEP: step,
        TYPE_A: type(a, lanes_a),
        TYPE_B: type(b, lanes_b),
      },
    },
  };
}
