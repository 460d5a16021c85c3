/**
 * Moving numbers between the host and tensors.
 *
 * @module
 */

import type { Gpu } from "./device.ts";
import { BYTES, type Tensor } from "./tensor.ts";

/** Bytes moved at once: large enough to be fast, small enough not to double the host's memory. */
const CHUNK_BYTES = 64 * 2 ** 20;

/** Writes numbers to a tensor, converting to its type. Values beyond the tensor's size are an error. */
export function upload(gpu: Gpu, tensor: Tensor, values: ArrayLike<number>): void {
  if (values.length !== tensor.size) {
    throw new RangeError(
      `${tensor.name} has ${tensor.size} elements [${
        tensor.shape.join(", ")
      }], got ${values.length}`,
    );
  }
  const { buffer, offset } = tensor.memory;
  const array = encode(tensor, values);
  for (let at = 0; at < array.byteLength; at += CHUNK_BYTES) {
    const size = Math.min(CHUNK_BYTES, array.byteLength - at);
    gpu.device.queue.writeBuffer(buffer, offset + at, array.buffer, array.byteOffset + at, size);
  }
}

function encode(
  tensor: Tensor,
  values: ArrayLike<number>,
): Float32Array<ArrayBuffer> | Uint32Array<ArrayBuffer> | Uint8Array<ArrayBuffer> {
  switch (tensor.dtype) {
    case "f32":
      // A weight may have gigabytes, and the queue takes its own copy.
      return isPlain(values, Float32Array) ? values : new Float32Array(values);
    case "u32":
      return isPlain(values, Uint32Array) ? values : new Uint32Array(values);
    case "f16": {
      const bytes = new Uint8Array(Math.ceil(values.length / 2) * 4);
      new Float16Array(bytes.buffer).set(values);
      return bytes;
    }
  }
}

/** Whether numbers have their type already, in memory that the queue takes. */
function isPlain<Numbers extends Float32Array | Uint32Array>(
  values: ArrayLike<number>,
  type: new (length: number) => Numbers,
): values is Numbers & { readonly buffer: ArrayBuffer } {
  return values instanceof type && values.buffer instanceof ArrayBuffer;
}

/** Reads a tensor back. Waits for everything that was submitted before. */
export async function download(gpu: Gpu, tensor: Tensor): Promise<Float32Array | Uint32Array> {
  const out = new Uint8Array(Math.ceil(tensor.size * BYTES[tensor.dtype] / 4) * 4);
  await downloadInto(gpu, tensor, out);
  switch (tensor.dtype) {
    case "f32":
      return new Float32Array(out.buffer, 0, tensor.size);
    case "u32":
      return new Uint32Array(out.buffer, 0, tensor.size);
    case "f16":
      return new Float32Array(new Float16Array(out.buffer, 0, tensor.size));
  }
}

/** Reads a tensor's bytes, a multiple of four, into `out`. */
async function downloadInto(gpu: Gpu, tensor: Tensor, out: Uint8Array): Promise<void> {
  const { buffer, offset } = tensor.memory;
  for (let at = 0; at < out.length; at += CHUNK_BYTES) {
    await readBytes(gpu, { buffer, offset: offset + at }, out.subarray(at, at + CHUNK_BYTES));
  }
}

/** Writes numbers to the tensors that hold a table, one part of it after the other. */
export function uploadParts(gpu: Gpu, parts: readonly Tensor[], values: ArrayLike<number>): void {
  const all = values instanceof Float32Array ? values : new Float32Array(values);
  let at = 0;
  for (const part of parts) upload(gpu, part, all.subarray(at, at += part.size));
}

/** Reads a table back whole from the tensors that hold it. */
export async function downloadParts(gpu: Gpu, parts: readonly Tensor[]): Promise<Float32Array> {
  if (parts.length === 1) return await download(gpu, parts[0]!) as Float32Array;
  const whole = new Float32Array(parts.reduce((n, { size }) => n + size, 0));
  let first = 0;
  // Each part goes where it belongs: a table of gigabytes is in the host's memory once.
  await Promise.all(parts.map(async (part) => {
    const own = whole.subarray(first, first += part.size);
    if (part.dtype !== "f32") return own.set(await download(gpu, part));
    await downloadInto(gpu, part, new Uint8Array(own.buffer, own.byteOffset, own.byteLength));
  }));
  return whole;
}

/** Reads as many bytes as `out` takes, a multiple of four. */
async function readBytes(
  gpu: Gpu,
  { buffer, offset }: { readonly buffer: GPUBuffer; readonly offset: number },
  out: Uint8Array,
): Promise<void> {
  const staging = Staging.of(gpu);
  const through = staging.take(out.length);
  const encoder = gpu.device.createCommandEncoder();
  encoder.copyBufferToBuffer(buffer, offset, through, 0, out.length);
  gpu.device.queue.submit([encoder.finish()]);
  // A buffer that could not be mapped is lost with its device.
  await gpu.guard(through.mapAsync(GPUMapMode.READ, 0, out.length));
  out.set(new Uint8Array(through.getMappedRange(0, out.length)));
  through.unmap();
  staging.give(through);
}

/** The smallest buffer that is read through. */
const STAGING_BYTES = 4096;

/** Bytes of such buffers that a device keeps. */
const STAGING_KEPT = 2 * CHUNK_BYTES;

/** Buffers that numbers are read through. They are kept: making one of 64 MB takes longer than what it is read for. */
class Staging {
  readonly #gpu: Gpu;
  readonly #free: GPUBuffer[] = [];

  private constructor(gpu: Gpu) {
    this.#gpu = gpu;
  }

  /** Those of a device. */
  static of(gpu: Gpu): Staging {
    let staging = stagings.get(gpu);
    if (!staging) stagings.set(gpu, staging = new Staging(gpu));
    return staging;
  }

  /** A buffer of at least so many bytes, that nothing else reads through. */
  take(bytes: number): GPUBuffer {
    let best = -1;
    for (const [i, { size }] of this.#free.entries()) {
      if (size >= bytes && (best < 0 || size < this.#free[best]!.size)) best = i;
    }
    if (best >= 0) return this.#free.splice(best, 1)[0]!;
    return this.#gpu.device.createBuffer({
      label: "read back",
      // A power of two serves other sizes later.
      size: Math.max(STAGING_BYTES, 2 ** Math.ceil(Math.log2(bytes))),
      usage: GPUBufferUsage.COPY_DST | GPUBufferUsage.MAP_READ,
    });
  }

  /** Takes a buffer back. */
  give(buffer: GPUBuffer): void {
    const kept = this.#free.reduce((sum, { size }) => sum + size, 0);
    if (kept + buffer.size <= STAGING_KEPT) this.#free.push(buffer);
    else buffer.destroy();
  }
}

const stagings = new WeakMap<Gpu, Staging>();

/** A row of numbers in the order of their names; names that `values` lacks are 0. */
export function packFields<Name extends string>(
  names: readonly Name[],
  values: Readonly<Partial<Record<Name, number>>>,
): Float32Array {
  return Float32Array.from(names, (name) => values[name] ?? 0);
}

/** The numbers of a row by their names. */
export function unpackFields<Name extends string>(
  names: readonly Name[],
  numbers: ArrayLike<number>,
  options: { row?: number } = {},
): Record<Name, number> {
  const first = (options.row ?? 0) * names.length;
  const entries = names.map((name, i) => [name, numbers[first + i]!]);
  return Object.fromEntries(entries) as Record<Name, number>;
}
