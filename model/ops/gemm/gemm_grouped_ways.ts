/**
 * How rows are multiplied with their group's matrix on a GPU: in which tiles, and in how many parts of the sum.
 *
 * Rows of a group are few, so tiles are low and there are not many of them. A large GPU gives each of its multiprocessors as many workgroups as any other or one
 * more, and is done when those with one more are: so sums are cut where that makes the last round fuller by more than the parts cost.
 *
 * @module
 */

import type { Capabilities } from "../../gpu/capabilities.ts";
import {
  gpuKernel,
  mostSplits,
  type ProductShape,
  type ProductWay,
  productWay,
  stepOf,
  type Tiling,
  transposedShape,
} from "./gemm_kernels.ts";

/** Tiles of 64 rows and fewer, by name: rows and columns of a tile, then those of an invocation's part. The first of a height that a device has memory for is taken. */
export const LOW_TILES: Readonly<Record<string, Tiling>> = {
  "64x64.4x8": { tile_m: 64, tile_n: 64, fragment_m: 4, fragment_n: 8 },
  "64x64.8x4": { tile_m: 64, tile_n: 64, fragment_m: 8, fragment_n: 4 },
  "64x64.8x8": { tile_m: 64, tile_n: 64, fragment_m: 8, fragment_n: 8 },
  "64x64.4x4": { tile_m: 64, tile_n: 64, fragment_m: 4, fragment_n: 4 },
  "64x128.8x8": { tile_m: 64, tile_n: 128, fragment_m: 8, fragment_n: 8 },
  "64x128.4x8": { tile_m: 64, tile_n: 128, fragment_m: 4, fragment_n: 8 },
  "32x64.4x8": { tile_m: 32, tile_n: 64, fragment_m: 4, fragment_n: 8 },
  "32x64.4x4": { tile_m: 32, tile_n: 64, fragment_m: 4, fragment_n: 4 },
  "32x128.4x8": { tile_m: 32, tile_n: 128, fragment_m: 4, fragment_n: 8 },
};

/** A way that is asked for instead of the rule's. */
export interface GroupedWay {
  /** One of {@linkcode LOW_TILES}, as high as the groups' tiles. Matrix units have tiles of their own. */
  readonly tiling?: string;
  /** Parts that the sum is cut into. */
  readonly splits?: number;
  /** Whether operands are transposed first. */
  readonly transposed?: boolean;
}

/** Multiprocessors of a large GPU. */
const PROCESSORS = 132;
/** Workspace for parts of sums at most. */
const PART_BYTES = 64 << 20;
/** Terms of a number that a GPU multiplies and adds in the time that a part of its sum takes to be written and read. */
const PART_TERMS = 40;

/**
 * The way of a product of rows with their group's matrix.
 *
 * @param options `rows`: rows that are likely to be computed, padding included.
 */
export function groupedWay(
  capabilities: Capabilities,
  shape: ProductShape,
  { rows, asked = {} }: { rows: number; asked?: GroupedWay | undefined },
): ProductWay {
  const { layout, m, n, k } = shape;
  const low = { ...shape, tiling: tilingOf(capabilities, shape, asked) };
  // Groups lie side by side in the transpose of their matrices, and each has to begin with a whole load.
  const transposed = (asked.transposed ?? productWay(capabilities, low).transposed) &&
    (layout === "nn" || n % 8 === 0);
  const kernel = gpuKernel(capabilities, transposed ? transposedShape(low) : low);
  const tiles = Math.ceil(rows / kernel.tile_m) * Math.ceil(n / kernel.tile_n);
  const most = Math.min(
    mostSplits(k),
    Math.floor(Math.min(PART_BYTES, capabilities.max_binding_bytes) / (4 * m * n)),
  );
  const splits = asked.splits ?? (kernel.units || transposed ? 1 : splitsOf(tiles, k, most));
  return { kernel, splits, transposed };
}

function tilingOf(
  capabilities: Capabilities,
  { height }: ProductShape,
  { tiling }: GroupedWay,
): Tiling | undefined {
  if (tiling !== undefined) return LOW_TILES[tiling];
  return Object.values(LOW_TILES).find((tile) =>
    tile.tile_m === height && stepOf(capabilities, tile) !== undefined
  );
}

/** Parts that sums of `k` terms are cut into, at most `most`: the fewest that take no more than a few percent longer than the best. */
function splitsOf(tiles: number, k: number, most: number): number {
  /** The time of a number, in terms that a busy GPU adds in it. */
  const time = (splits: number) =>
    Math.ceil(tiles * splits / PROCESSORS) * PROCESSORS / (tiles * splits) * k +
    (splits > 1 ? PART_TERMS * splits : 0);
  const counts = Array.from({ length: Math.max(1, most) }, (_, i) => i + 1);
  const least = Math.min(...counts.map(time));
  return counts.find((splits) => time(splits) <= 1.04 * least)!;
}
