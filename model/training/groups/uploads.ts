/**
 * Numbers on their way to the device, through memory that is mapped again and again.
 *
 * `writeBuffer` takes new memory for each of them, whose first touch costs several times the copy.
 *
 * @module
 */

import type { Gpu } from "../../gpu/device.ts";
import { BYTES } from "../../gpu/tensor.ts";

/** Buffers at most: 512 MiB where parts have 64 MiB. */
const MOST = 8;

/** A place of some of the numbers on the device. */
export interface Destination {
  readonly buffer: GPUBuffer;
  readonly offset: number;
  /** Bytes. */
  readonly size: number;
}

/** Buffers through which vectors reach the device. */
export class Uploads {
  /** Seconds of the host's thread so far. */
  seconds = 0;
  readonly #gpu: Gpu;
  readonly #bytes: number;
  readonly #buffers: GPUBuffer[] = [];
  /** Each buffer, once it is mapped and nobody's. */
  readonly #free: Promise<GPUBuffer>[] = [];
  #sent = 0;

  /** @param options.size Elements of a vector, at most. */
  constructor(gpu: Gpu, { size }: { readonly size: number }) {
    this.#gpu = gpu;
    this.#bytes = size * BYTES.f32;
  }

  /** Resolves when the copy is in the device's queue, before whatever is submitted after that. */
  async send(values: Float32Array, destinations: readonly Destination[]): Promise<void> {
    const turn = this.#sent++ % MOST;
    const free = this.#free[turn] ?? this.#open();
    const { promise, resolve, reject } = Promise.withResolvers<GPUBuffer>();
    this.#free[turn] = promise;
    // A failure is met by whoever waits next, if anyone.
    promise.catch(() => {});
    const buffer = await free;
    const began = performance.now();
    new Float32Array(buffer.getMappedRange(0, values.byteLength)).set(values);
    buffer.unmap();
    const { device } = this.#gpu;
    const encoder = device.createCommandEncoder({ label: "sums to the device" });
    let at = 0;
    for (const { buffer: to, offset, size } of destinations) {
      encoder.copyBufferToBuffer(buffer, at, to, offset, size);
      at += size;
    }
    device.queue.submit([encoder.finish()]);
    this.seconds += (performance.now() - began) / 1000;
    this.#gpu.guard(buffer.mapAsync(GPUMapMode.WRITE)).then(() => resolve(buffer), reject);
  }

  /** Frees what it allocated. */
  destroy(): void {
    for (const buffer of this.#buffers) buffer.destroy();
  }

  #open(): Promise<GPUBuffer> {
    const buffer = this.#gpu.device.createBuffer({
      label: "sums to the device",
      size: this.#bytes,
      usage: GPUBufferUsage.COPY_SRC | GPUBufferUsage.MAP_WRITE,
      mappedAtCreation: true,
    });
    this.#buffers.push(buffer);
    return Promise.resolve(buffer);
  }
}
