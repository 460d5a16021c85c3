/**
 * Marks on the device's own clock between submissions, so that long runs can be timed without waiting for any of them.
 *
 * @module
 */

import type { Gpu } from "../../gpu/device.ts";

/** A list of moments on the device's clock. Each is when everything that was submitted before had ended. */
export class Marks implements Disposable {
  readonly #gpu: Gpu;
  readonly #set: GPUQuerySet;
  readonly #resolved: GPUBuffer;
  readonly #staging: GPUBuffer;
  readonly #capacity: number;
  #count = 0;

  /**
   * Room for `capacity` marks.
   *
   * @throws {Error} If the device has no timestamps.
   */
  constructor(gpu: Gpu, capacity: number) {
    if (!gpu.capabilities.timestamps) {
      throw new Error(`${gpu.adapter.description} has no timestamp queries`);
    }
    this.#gpu = gpu;
    this.#capacity = capacity;
    this.#set = gpu.device.createQuerySet({ type: "timestamp", count: capacity });
    this.#resolved = gpu.device.createBuffer({
      label: "marks",
      size: 8 * capacity,
      usage: GPUBufferUsage.QUERY_RESOLVE | GPUBufferUsage.COPY_SRC,
    });
    this.#staging = gpu.device.createBuffer({
      label: "marks read back",
      size: 8 * capacity,
      usage: GPUBufferUsage.COPY_DST | GPUBufferUsage.MAP_READ,
    });
  }

  /** Sets a mark after what the encoder holds, or, without one, after what was submitted. */
  set(encoder?: GPUCommandEncoder): void {
    if (this.#count >= this.#capacity) {
      throw new RangeError(`There is room for ${this.#capacity} marks, and all are set`);
    }
    const own = encoder ?? this.#gpu.device.createCommandEncoder({ label: "mark" });
    // A pass without dispatches waits for what comes before it all the same.
    const timestampWrites = { querySet: this.#set, endOfPassWriteIndex: this.#count++ };
    own.beginComputePass({ timestampWrites }).end();
    if (!encoder) this.#gpu.device.queue.submit([own.finish()]);
  }

  /** Waits, and gives the marks in seconds after the first. The list is empty then. */
  async read(): Promise<number[]> {
    const count = this.#count;
    this.#count = 0;
    if (count === 0) return [];
    const { device } = this.#gpu;
    const encoder = device.createCommandEncoder({ label: "marks" });
    encoder.resolveQuerySet(this.#set, 0, count, this.#resolved, 0);
    encoder.copyBufferToBuffer(this.#resolved, 0, this.#staging, 0, 8 * count);
    device.queue.submit([encoder.finish()]);
    await this.#gpu.guard(this.#staging.mapAsync(GPUMapMode.READ));
    const times = new BigUint64Array(this.#staging.getMappedRange().slice(0), 0, count);
    this.#staging.unmap();
    return Array.from(times, (time) => Number(time - times[0]!) / 1e9);
  }

  /** Frees queries and buffers. */
  [Symbol.dispose](): void {
    this.#set.destroy();
    this.#resolved.destroy();
    this.#staging.destroy();
  }
}
