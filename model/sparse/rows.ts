/**
 * Rows on the GPU: what enters a site, in as many tensors as the device needs for them, and matrices of other widths than multiples of four.
 *
 * @module
 */

import type { Gpu } from "../gpu/device.ts";
import { Arena } from "../gpu/memory.ts";
import type { Plan } from "../gpu/plan.ts";
import { type DType, roundUp, Tensor } from "../gpu/tensor.ts";
import { upload } from "../gpu/transfer.ts";
import { embeddingForward } from "../ops/elementwise/embedding.ts";

/** Rows of all tensors but the last are a multiple of this, so that any of them begins where a binding may. */
export const ALIGNED_ROWS = 64;

/** Rows that are gathered at once. */
const GATHERED_ROWS = 16384;

/** Bytes of the rows that are gathered at once, at most. */
const GATHERED_BYTES = 512 * 2 ** 20;

/** Tensors that last until they are disposed of together. */
export class Tensors implements Disposable {
  readonly #gpu: Gpu;
  readonly #arenas: Arena[] = [];

  /** Makes tensors on this device. */
  constructor(gpu: Gpu) {
    this.#gpu = gpu;
  }

  /** A tensor of zeros, or of `values`, f32 unless `dtype` says otherwise. */
  tensor(
    name: string,
    shape: readonly number[],
    options: { dtype?: DType; values?: ArrayLike<number>; owner?: string } = {},
  ): Tensor {
    const { dtype = "f32", values, owner = "expansion" } = options;
    const tensor = new Tensor(name, shape, { dtype, owner });
    this.#arenas.push(new Arena(this.#gpu, name, [tensor]));
    if (values) upload(this.#gpu, tensor, values);
    return tensor;
  }

  /** A matrix `[rows, columns padded to 4]` of `values` `[rows, columns]`, with zeros for padding. */
  matrix(name: string, values: ArrayLike<number>, columns: number): Tensor {
    const rows = values.length / columns;
    return this.tensor(name, [rows, roundUp(columns, 4)], { values: padColumns(values, columns) });
  }

  /** Bytes allocated. */
  get bytes(): number {
    return this.#arenas.reduce((sum, arena) => sum + arena.bytes, 0);
  }

  /** Frees the memory. */
  [Symbol.dispose](): void {
    for (const arena of this.#arenas) arena.destroy();
  }
}

/** Numbers of rows `[.., columns]` with zeros until each has a multiple of four. */
export function padColumns(values: ArrayLike<number>, columns: number): Float32Array {
  const width = roundUp(columns, 4);
  const rows = values.length / columns;
  const out = new Float32Array(rows * width);
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < columns; c++) out[r * width + c] = values[r * columns + c]!;
  }
  return out;
}

/** Numbers of rows without the padding that {@linkcode padColumns} gave them. */
export function unpadColumns(
  values: Float32Array | Uint32Array,
  columns: number,
): Float32Array | Uint32Array {
  const width = roundUp(columns, 4);
  if (width === columns) return values;
  const rows = values.length / width;
  const out = values instanceof Uint32Array
    ? new Uint32Array(rows * columns)
    : new Float32Array(rows * columns);
  for (let r = 0; r < rows; r++) {
    out.set(values.subarray(r * width, r * width + columns), r * columns);
  }
  return out;
}

/** The rows that enter a site. */
export interface SiteRows {
  /** `[rows, width padded to 4]` each, f32, zeros beyond `width`; all but the last have a multiple of 64 rows. */
  readonly chunks: readonly Tensor[];
  /** Rows in all. */
  readonly count: number;
  /** Inputs of the site. */
  readonly width: number;
}

/** Rows of a chunk of this width, so many that a binding holds them. */
export function chunkRows(gpu: Gpu, width: number): number {
  const most = Math.min(gpu.capabilities.max_binding_bytes, gpu.capabilities.max_buffer_bytes);
  const rows = Math.floor(most / (4 * roundUp(width, 4)) / ALIGNED_ROWS) * ALIGNED_ROWS;
  if (rows === 0) {
    throw new RangeError(`Rows of ${width} numbers are too wide for a binding of ${most} bytes`);
  }
  return rows;
}

/** Moves rows `[count, width]` to the GPU, in chunks of at most `most` rows where that is given. */
export function uploadRows(
  tensors: Tensors,
  values: ArrayLike<number>,
  options: { width: number; gpu: Gpu; most?: number },
): SiteRows {
  const { width, gpu } = options;
  const count = values.length / width;
  const rows = Math.min(chunkRows(gpu, width), options.most ?? Infinity);
  const all = new Float32Array(values);
  const chunks = Array.from({ length: Math.ceil(count / rows) }, (_, i) => {
    const part = all.subarray(i * rows * width, Math.min(count, (i + 1) * rows) * width);
    return tensors.matrix(`rows.${i}`, part, width);
  });
  return { chunks, count, width };
}

/** Records copies of the rows with the given numbers, a part of them at a time: what is done with a part is recorded before the next is asked for. */
export function* gatherParts(
  plan: Plan,
  label: string,
  { rows, numbers }: { rows: SiteRows; numbers: Uint32Array },
): Generator<Tensor> {
  const width = rows.chunks[0]!.width;
  const fitting = Math.floor(GATHERED_BYTES / (4 * width));
  const most = Math.max(1, Math.min(GATHERED_ROWS, fitting, chunkRows(plan.gpu, rows.width)));
  for (let first = 0; first < numbers.length; first += most) {
    const part = numbers.subarray(first, first + most);
    const tokens = plan.constant(`${label}.numbers.${first}`, [part.length], {
      dtype: "u32",
      numbers: () => part,
    });
    const x = plan.tensor(`${label}.rows`, [part.length, width], { owner: "workspace" });
    embeddingForward(plan, label, { tokens, parts: rows.chunks, x });
    yield x;
  }
}
