/**
 * Latent codes from a factored table: the code of an expert is the sum over the axes of rows of `z` `[A, S, d_latent]`.
 *
 * The kernels of the experts read a table of codes and the rows of it that each token keeps. Here every kept expert of every token gets a row of its
 * own, `[T·M, d_latent]`, so those rows are 0, 1, 2, …
 *
 * @module
 */

import source from "../../../shaders/beam/beam_codes.wgsl" with { type: "text" };
import { grid, read, readScalar, write } from "../../gpu/kernel.ts";
import type { Plan } from "../../gpu/plan.ts";
import { BYTES, type DType, Tensor } from "../../gpu/tensor.ts";
import type { Gradient } from "../experts/experts.ts";
import { matrix } from "../gemm/matrix.ts";
import { segmentSum } from "../routing/segment_sum.ts";
import { sortByKey, type Sorted } from "../routing/sort.ts";

/** Rows of a part: a multiple of this, so that parts of other tensors begin where bindings may. */
const ALIGNED = 64;

/** Consecutive kept experts. */
interface Part {
  readonly first: number;
  readonly rows: number;
}

/** Parts of the kept experts whose rows of `width` numbers fit a binding. */
function partsOf(plan: Plan, n: number, width: number, dtype: DType): Part[] {
  const { max_binding_bytes, max_buffer_bytes } = plan.gpu.capabilities;
  const bytes = Math.min(max_binding_bytes, max_buffer_bytes);
  const most = Math.floor(bytes / (width * BYTES[dtype]) / ALIGNED) * ALIGNED;
  if (most < 1) {
    throw new RangeError(`${ALIGNED} codes of ${width} numbers take more than ${bytes} bytes`);
  }
  const parts: Part[] = [];
  for (let first = 0; first < n; first += most) {
    parts.push({ first, rows: Math.min(most, n - first) });
  }
  return parts;
}

/**
 * Records the codes of all kept experts.
 *
 * @param input `z` `[A, S, d_latent]`; `coords` u32 `[…, A]`: rows of `z` as a matrix `[A·S, d_latent]`.
 * @returns Consecutive rows in the type of `z`, in parts that fit a binding.
 */
export function gatherCodes(
  plan: Plan,
  label: string,
  input: { readonly z: Tensor; readonly coords: Tensor; readonly axes: number },
): Tensor[] {
  const { z, coords, axes } = input;
  const latent = z.width;
  const workgroup = 64;
  // As many parts as the gradient has, which is f32.
  return partsOf(plan, coords.size / axes, latent, "f32").map(({ first, rows }) => {
    const out = plan.tensor(`${label}.codes`, [rows, latent], { dtype: z.dtype });
    plan.dispatch({
      label: `${label}.codes`,
      name: "beam_codes",
      source,
      constants: { WORKGROUP: workgroup, AXES: axes },
      params: { first, n: rows, latent: latent / 4 },
      bindings: { z: read(z), coords: readScalar(coords), out: write(out) },
      workgroups: grid(Math.ceil(rows * latent / 4 / workgroup)),
      bytes: out.bytes * (1 + axes) + 4 * rows * axes,
    });
    return out;
  });
}

/** The rows 0, 1, … of `tokens · per` kept experts, u32 `[tokens, per]`, and what sorting them by row gives. */
export function ownRows(
  plan: Plan,
  tokens: number,
  per: number,
): { readonly index: Tensor; readonly sorted: Sorted } {
  const n = tokens * per;
  const rows = plan.constant(`rows ${n}`, [n + 1], {
    dtype: "u32",
    numbers: () => Uint32Array.from({ length: n + 1 }, (_, i) => i),
  });
  const view = (shape: readonly number[]) =>
    new Tensor(rows.name, shape, { dtype: "u32", owner: rows.owner, base: rows });
  return {
    index: view([tokens, per]),
    sorted: { order: view([n]), keys: view([n]), begin: rows },
  };
}

/** Tensors for the gradient of the codes that {@linkcode gatherCodes} gave, f32, as its parts. */
export function codeGradients(plan: Plan, label: string, codes: readonly Tensor[]): Tensor[] {
  return codes.map(({ shape }) => plan.tensor(`${label}.dcodes`, shape, { owner: "workspace" }));
}

/**
 * Records the gradient of the factored table: of each of its rows the sum over the kept experts that used it, in a fixed order.
 *
 * @param input `dcodes` as {@linkcode codeGradients} gave it; `gradient` of `z`, f32 `[A, S, d_latent]`.
 */
export function factoredGradient(
  plan: Plan,
  label: string,
  input: {
    readonly dcodes: readonly Tensor[];
    readonly coords: Tensor;
    readonly axes: number;
    readonly gradient: Gradient;
  },
): void {
  const { dcodes, coords, axes, gradient } = input;
  const { tensor, epilogue } = gradient;
  const all = coords.reshape(coords.size / axes, axes);
  let first = 0;
  for (const part of dcodes) {
    const keys = all.slice(first, part.rows);
    const sorted = sortByKey(plan, `${label}.sort`, { keys, bound: tensor.rows });
    segmentSum(plan, `${label}.dz`, {
      sorted,
      // A key is a kept expert on an axis.
      entries: {
        wgsl:
          "fn entry(at: u32, segment: u32, column: u32) -> vec4f { return load_rows(at / params.axes * params.ldr + column); }",
        bindings: { rows: read(part) },
        params: { axes, ldr: part.width / 4 },
      },
      out: matrix(tensor),
      first: 0,
      accumulate: epilogue === "accumulate" || first > 0,
    });
    first += part.rows;
  }
}
