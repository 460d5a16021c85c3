/**
 * Products of rows with their expert's compressed weights, which are unpacked in the kernel and nowhere else.
 *
 * @module
 */

import weightsSource from "../../../shaders/compressed/compressed_weights.wgsl" with {
  type: "text",
};
import vectorSource from "../../../shaders/compressed/compressed_vector.wgsl" with { type: "text" };
import directSource from "../../../shaders/gemm/gemm_direct.wgsl" with { type: "text" };
import epilogueSource from "../../../shaders/gemm/gemm_epilogue.wgsl" with { type: "text" };
import { type Constants, grid, loading, read, readScalar, write } from "../../gpu/kernel.ts";
import type { Plan } from "../../gpu/plan.ts";
import { BYTES, type Tensor } from "../../gpu/tensor.ts";
import { gpuKernel, type ProductShape, productWay } from "../gemm/gemm_kernels.ts";
import type { Groups } from "../gemm/gemm_grouped.ts";
import { type Matrix, matrix, transpose } from "../gemm/matrix.ts";
import type { CompressedWeights } from "./experts.ts";
import { placeBits } from "./forms.ts";

/** Rows and vec4s of columns that an invocation of `gemm_direct.wgsl` computes. */
const DIRECT = { ROWS: 8, COLUMNS: 2, WORKGROUP: 8 };
/** Outputs of a row that a workgroup of `compressed_vector.wgsl` computes, and chunks that an invocation asks for at once. */
const VECTOR = { OUTPUTS: 16, UNROLL: 2 };

/**
 * Records `C[r] = A[r] · W[group of r]ᵀ`, accumulated in f32, for the experts' weights `W` `[out, in]`; rows of tiles that no group uses are left alone.
 *
 * @param product `a`: `[rows, in padded to 4]`, f32, zeros beyond `in`. `c`: `[rows, out padded to 4]`, f32, gets zeros beyond `out`.
 * @throws {RangeError} If rows, widths or the number of experts do not fit each other.
 */
export function gemmGroupedCompressed(plan: Plan, label: string, product: {
  readonly a: Tensor;
  readonly b: CompressedWeights;
  readonly c: Tensor;
  readonly groups: Groups;
}): void {
  const { b, c, groups } = product;
  const { outputs: n, inputs: k } = b;
  check(label, product);
  const kernel = kernelOf(plan, label, product);
  const { a, chunk } = kernel;
  for (const { first, count, stored, values, places, starts } of b.parts) {
    const share = count / groups.count;
    plan.dispatch({
      label,
      name: kernel.name,
      source: epilogueSource + weightsSource + kernel.source,
      constants: { ...kernel.constants, ...formOf(b, chunk), GROUPED: "rows", EPILOGUE: "none" },
      params: {
        m: groups.rows,
        n,
        k,
        lda: a.stride / 4,
        ldc: c.width / 4,
        a_start: 0,
        b_start: 0,
        c_start: 0,
        first,
        groups: count,
        stride: places.width / (b.pattern ? 1 : 4),
        values_stride: values.width,
        starts_stride: starts?.width ?? 0,
      },
      bindings: {
        a: loading(a.tensor),
        values: readScalar(values),
        places: b.pattern ? readScalar(places) : read(places),
        ...starts && { starts: readScalar(starts) },
        ...b.levels && { levels: readScalar(b.levels) },
        of_tile: readScalar(groups.of_tile),
        c: write(c),
      },
      workgroups: grid(kernel.workgroups),
      flops: 2 * groups.filled * stored / groups.count,
      bytes: values.bytes + places.bytes + (starts?.bytes ?? 0) + (b.levels?.bytes ?? 0) +
        share * groups.filled * BYTES.f32 * (k + n),
    });
  }
}

/** A kernel as it is dispatched. */
interface Dispatched {
  readonly name: string;
  readonly source: string;
  readonly constants: Constants;
  readonly workgroups: number;
  /** The rows as it reads them. */
  readonly a: Matrix;
  /** Inputs of an output that an invocation unpacks at once. */
  readonly chunk: number;
}

/** The kernel for the device and the groups; records the rows' transpose where it is faster with that. */
function kernelOf(plan: Plan, label: string, { a: rows, b, groups }: {
  a: Tensor;
  b: CompressedWeights;
  groups: Groups;
}): Dispatched {
  const { outputs: n, inputs: k } = b;
  const { capabilities } = plan.gpu;
  const a = matrix(rows);
  if (capabilities.software) {
    const across = Math.ceil(n / (4 * DIRECT.COLUMNS));
    return {
      name: "gemm_direct",
      source: directSource,
      constants: { ...DIRECT, LAYOUT: "nt" },
      workgroups: Math.ceil(groups.rows / DIRECT.ROWS * across / DIRECT.WORKGROUP),
      a,
      chunk: 4,
    };
  }
  if (groups.tile === 1) {
    return {
      name: "compressed_vector",
      source: vectorSource,
      constants: { ...VECTOR, LAYOUT: "nt" },
      workgroups: groups.rows * Math.ceil(n / VECTOR.OUTPUTS),
      a,
      chunk: 8,
    };
  }
  const shape: ProductShape = {
    ...{ m: groups.rows, n, k, layout: "nt", height: groups.tile },
    // Matrix units take no f32.
    a: { dtype: "f32", aligned: true },
    b: { dtype: "f32", aligned: true },
    linear: true,
    single: true,
  };
  // Weights are put K-major as they are unpacked, so the rows alone are transposed, where that pays for a dense product.
  const { transposed } = productWay(capabilities, shape);
  const layout = transposed ? "tn" : "nt";
  const { kernel, tile_m, tile_n, step } = gpuKernel(capabilities, { ...shape, layout });
  const { FRAGMENT_M, FRAGMENT_N } = kernel.constants as Record<string, number>;
  return {
    name: kernel.name,
    source: kernel.source,
    constants: { ...kernel.constants, LAYOUT: layout, SPLIT: false, PAIRED: false },
    workgroups: groups.rows / tile_m * Math.ceil(n / tile_n),
    a: transposed ? transpose(plan, `${label}.a`, a) : a,
    chunk: step / 2 * FRAGMENT_M! * FRAGMENT_N! / tile_m,
  };
}

/** Constants of the weights' form, for kernels that unpack so many inputs of an output at once. */
function formOf({ pattern, bits, levels }: CompressedWeights, chunk: number): Constants {
  const [zeros, group] = pattern ?? [];
  return {
    COMPRESSED: true,
    CHUNK: chunk,
    FORM: pattern ? "pattern" : "mask",
    BITS: bits,
    LEVELS: levels !== undefined,
    MASK: levels ? 2 ** bits - 1 : 0,
    MASKS: Array.from({ length: 8 }, (_, j) => 2 ** j - 1),
    ...zeros !== undefined && group !== undefined && {
      GROUP: group,
      KEPT: group - zeros,
      PLACE_BITS: placeBits(group),
    },
  };
}

function check(
  label: string,
  { a, b, c, groups }: { a: Tensor; b: CompressedWeights; c: Tensor; groups: Groups },
): void {
  const padded = (n: number) => Math.ceil(n / 4) * 4;
  for (const [{ name, dtype, rows, width }, expected] of [[a, b.inputs], [c, b.outputs]] as const) {
    if (dtype === "f32" && rows === groups.rows && width === padded(expected)) continue;
    throw new RangeError(
      `${label}: ${name} is ${dtype} ${rows}×${width}, expected f32 ${groups.rows}×${
        padded(expected)
      }`,
    );
  }
  if (b.experts === groups.count) return;
  throw new RangeError(`${label}: ${b.experts} experts for ${groups.count} groups`);
}
