/**
 * Which kernel multiplies on a GPU, and in tiles of what size.
 *
 * @module
 */

import matrixSource from "../../shaders/gemm_matrix.wgsl" with { type: "text" };
import tileSource from "../../shaders/gemm_tile.wgsl" with { type: "text" };
import tiledSource from "../../shaders/gemm_tiled.wgsl" with { type: "text" };
import type { Capabilities } from "../gpu/capabilities.ts";
import type { Constants } from "../gpu/kernel.ts";
import { matrixUnit } from "./matrix_unit.ts";

/** Tiles that keep a large GPU busy: two for each of 132 multiprocessors. */
export const GPU_TILES = 264;
/** Terms of a sum that are worth a workgroup of their own. */
export const SPLIT_TERMS = 256;
/** Parts that a sum is cut into at most, which bounds the workspace. */
export const MAX_SPLITS = 64;

/** Output numbers below which tiles of 128 would leave a GPU idle. */
const LARGE = 128 * 128 * 64;

/** A kernel that computes square tiles of the product. */
export interface GpuKernel {
  /** Rows and columns of a workgroup's tile. */
  readonly tile: number;
  /** A range of the sum that a workgroup takes is a multiple of it. */
  readonly step: number;
  /** Whether it reads its operands as bits, eight halves at a time, and counts strides and starts in eights. */
  readonly bits: boolean;
  /** Whether the sum has to be whole steps. */
  readonly whole: boolean;
  /** What to dispatch. */
  readonly kernel: {
    readonly name: string;
    readonly source: string;
    readonly constants: Constants;
  };
}

/** What is multiplied. */
export interface ProductShape {
  /** Rows of the result. */
  readonly m: number;
  /** Columns of the result. */
  readonly n: number;
  /** Terms of each sum. */
  readonly k: number;
  /** Which operand is stored transposed. */
  readonly layout: "nn" | "nt" | "tn";
  /** Whether both operands are f16 and aligned to eight of them. */
  readonly halves: boolean;
  /** Whether the product may be made in parts that are added up. */
  readonly linear: boolean;
  /** Whether the result is f32. */
  readonly single: boolean;
}

/** Chooses the kernel for a product. */
export function gpuKernel(capabilities: Capabilities, shape: ProductShape): GpuKernel {
  const { m, n, k, layout, halves, linear, single } = shape;
  const unit = halves && k >= MATRIX_STEP && (linear || k % MATRIX_STEP === 0)
    ? matrixUnit(capabilities)
    : undefined;
  if (
    unit && MATRIX_BYTES <= capabilities.max_workgroup_bytes &&
    4 * capabilities.subgroup_max_size <= capabilities.max_invocations
  ) {
    return {
      tile: MATRIX_TILE,
      step: MATRIX_STEP,
      bits: true,
      whole: true,
      kernel: {
        name: "gemm_matrix",
        source: tileSource + matrixSource,
        constants: {
          SUBGROUP_MATRIX: true,
          SUBGROUP: capabilities.subgroup_max_size,
          TILE: MATRIX_TILE,
          STEP: MATRIX_STEP,
          M: unit.m,
          N: unit.n,
          K: unit.k,
          DIRECT: single && linear && m % unit.m === 0 && n % unit.n === 0,
          CLAMPED: m < MATRIX_TILE || n < MATRIX_TILE || (layout === "nt" && n % 4 !== 0),
        },
      },
    };
  }
  const tile = m * n >= LARGE ? 128 : 64;
  // Two buffers of each operand; with less workgroup memory than they need, half the step costs 6 % of the speed.
  const step = 4 * 4 * 16 * tile <= capabilities.max_workgroup_bytes ? 16 : 8;
  // Loads of eight halves would leave half of the invocations idle on small tiles.
  const bits = halves && tile === 128 && step === 16 && (layout === "tn" || k % 8 === 0);
  return {
    tile,
    step: 2 * step,
    bits,
    whole: false,
    kernel: {
      name: "gemm_tiled",
      source: tileSource + tiledSource,
      constants: { TILE: tile, FRAGMENT: tile / 16, STEP: step, HALVES: bits },
    },
  };
}

/** Rows and columns of a workgroup's tile on matrix units. */
const MATRIX_TILE = 128;
/** Terms of a sum that they take at a time. */
const MATRIX_STEP = 32;
/** Workgroup memory of `gemm_matrix.wgsl` at most: two tiles with padded rows, and invocations' numbers. */
const MATRIX_BYTES = 2 * 2 * 128 * 40 + 4 * 4 * 64;
