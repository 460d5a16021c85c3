/**
 * How rows are multiplied with their group's matrix on a GPU: with which kernel, and in how many parts of the sum.
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
  transposedShape,
} from "./gemm_kernels.ts";

/** Multiprocessors of a large GPU. */
const PROCESSORS = 132;
/** Workspace for parts of sums at most. */
const PART_BYTES = 64 << 20;
/**
 * Terms of a number that a GPU multiplies and adds in the time that a part of its sum takes to be written and read: on an H200 44 to 49 for sums of 512 terms (`nn`),
 * at most 11 for those of 1,024 (`nt`). Any number up to 35 gives each of the two its fastest way.
 */
const PART_TERMS = 20;

/**
 * The way of a product of rows with their group's matrix.
 *
 * @param options `rows`: rows that are likely to be computed, padding included.
 */
export function groupedWay(
  capabilities: Capabilities,
  shape: ProductShape,
  { rows }: { rows: number },
): ProductWay {
  const { layout, m, n, k } = shape;
  // Groups lie side by side in the transpose of their matrices, and each has to begin with a whole load.
  const transposed = productWay(capabilities, shape).transposed &&
    (layout === "nn" || n % 8 === 0);
  const kernel = gpuKernel(capabilities, transposed ? transposedShape(shape) : shape);
  if (kernel.units || transposed) return { kernel, splits: 1, transposed };
  const tiles = Math.ceil(rows / kernel.tile_m) * Math.ceil(n / kernel.tile_n);
  const most = Math.min(
    mostSplits(k),
    Math.floor(Math.min(PART_BYTES, capabilities.max_binding_bytes) / (4 * m * n)),
  );
  return { kernel, splits: splitsOf(tiles, k, most), transposed };
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
