/**
 * The gradient of an update whose micro-batches are in groups: each group's sum is made on a device, and the groups' sums are added in order on the host.
 *
 * A group's last micro-batch runs in segments. Sums that a segment has finished are read back, added and sent while the next segments run. Losses are summed
 * like gradients. Running statistics start each group where the update found them, and the update leaves the mean of the groups' ones.
 *
 * @module
 */

import type { BuiltPlan } from "../../gpu/build.ts";
import type { Gpu } from "../../gpu/device.ts";
import { Arena } from "../../gpu/memory.ts";
import { BYTES, Tensor } from "../../gpu/tensor.ts";
import { upload } from "../../gpu/transfer.ts";
import { OrderedSum } from "./ordered_sum.ts";
import { type Part, partsOf, type Segment, segmentsOf } from "./parts.ts";
import type { Ranks } from "./ranks.ts";
import { Uploads } from "./uploads.ts";

/** Most elements of a part unless given: 64 MiB, of which a copy takes longer than a wait for it. */
const PART_ELEMENTS = 2 ** 24;
/** Ranks up to which parts are as large. More ranks take smaller ones, for a chain is full only when each has a part. */
const RANKS_OF_LARGE_PARTS = 8;
/** Fewest elements of a part unless given: 1 MiB. */
const SMALL_PART_ELEMENTS = 2 ** 18;

/** Segments that are submitted before the first of them is waited for, so that the device has work while the host adds. */
const AHEAD = 2;

/** Elements of a part, at most, among so many ranks. */
export function partElements(ranks: number): number {
  const shrunk = PART_ELEMENTS / Math.max(1, ranks / RANKS_OF_LARGE_PARTS);
  return Math.max(SMALL_PART_ELEMENTS, Math.floor(shrunk));
}

/** Options of {@linkcode GroupedUpdate}. */
export interface GroupedUpdateOptions {
  /** The plan of a group's first micro-batch, which overwrites gradients, and that of the others where there are some. */
  readonly plans: { readonly first: BuiltPlan; readonly next?: BuiltPlan | undefined };
  /** Gradients and losses. */
  readonly sums: readonly Tensor[];
  /** Running statistics. */
  readonly means: readonly Tensor[];
  /** `[2]` u32, the key of dropout: its second number is that of the micro-batch before. */
  readonly dropoutKey: Tensor;
  /** Micro-batches of an update. */
  readonly microBatches: number;
  /** Groups of an update, G. */
  readonly groups: number;
  /** The processes that share them. */
  readonly ranks: Ranks;
  /** Elements of a part, at most; {@linkcode partElements} unless given. No bits depend on it. */
  readonly partElements?: number | undefined;
}

/** Where this rank's time went, in seconds of all updates but the first, which compiles kernels. */
export interface ExchangeTimes {
  readonly updates: number;
  /** From the first micro-batch to the sums of all groups on the device, without the optimiser. */
  readonly whole: number;
  /** Of these, those after the last micro-batch's gradients had been read back. */
  readonly after: number;
  /** The host's thread: copying gradients out of what was read back, adding them, and giving the sums to the device's queue. */
  readonly copied: number;
  readonly added: number;
  readonly written: number;
}

/** Computes gradients by groups. */
export class GroupedUpdate {
  /** The parts in which numbers leave the device. */
  readonly parts: readonly Part[];
  /** The micro-batches of an update that this rank computes. */
  readonly own: { readonly from: number; readonly count: number };
  readonly #gpu: Gpu;
  readonly #options: GroupedUpdateOptions;
  /** Micro-batches of a group. */
  readonly #microBatches: number;
  readonly #segments: readonly Segment[];
  readonly #staging: readonly GPUBuffer[];
  readonly #sum: OrderedSum;
  readonly #uploads: Uploads;
  /** Running statistics as the update found them. */
  readonly #found: ReadonlyMap<Tensor, Tensor>;
  readonly #arenas: readonly Arena[];
  #updates = 0;
  readonly #seconds = { whole: 0, after: 0 };

  /** Allocates memory on the host for every gradient, and more in ranks that wait for others. The number of ranks divides that of groups. */
  constructor(gpu: Gpu, options: GroupedUpdateOptions) {
    const { plans, sums, means, ranks, groups, microBatches } = options;
    this.#gpu = gpu;
    this.#options = options;
    this.#microBatches = microBatches / groups;
    const count = groups / ranks.size * this.#microBatches;
    this.own = { from: ranks.rank * count, count };
    const last = this.#last;
    this.parts = partsOf({
      plans: plans.next ? [plans.first.plan, plans.next.plan] : [plans.first.plan],
      sums,
      means,
      most: options.partElements ?? partElements(ranks.size),
    });
    this.#segments = segmentsOf(last.plan.steps.length, this.parts);
    this.#staging = this.parts.map(({ size }) =>
      gpu.device.createBuffer({
        label: "gradients to the host",
        size: size * BYTES.f32,
        usage: GPUBufferUsage.COPY_DST | GPUBufferUsage.MAP_READ,
      })
    );
    const sizes = this.parts.map(({ size }) => size);
    this.#uploads = new Uploads(gpu, { size: Math.max(1, ...sizes) });
    this.#sum = new OrderedSum({ ranks, sizes, groups: groups / ranks.size });
    const kept = ranks.size < groups ? means : [];
    this.#found = new Map(
      kept.map((tensor) => [tensor, new Tensor(`${tensor.name} before`, tensor.shape)]),
    );
    const copies = [...this.#found.values()];
    this.#arenas = copies.length > 0 ? [new Arena(gpu, "statistics before", copies)] : [];
  }

  /** Where the time went. */
  get times(): ExchangeTimes {
    const written = this.#uploads.seconds;
    return { updates: this.#updates - 1, ...this.#seconds, ...this.#sum.seconds, written };
  }

  /**
   * Runs this rank's micro-batches, and leaves the sums and means of all groups on the device.
   *
   * @param load Writes the tokens of the rank's `i`-th micro-batch to the device.
   */
  async run(load: (i: number) => void): Promise<void> {
    const { plans, dropoutKey } = this.#options;
    const totals: Promise<void>[] = [];
    const began = performance.now();
    this.#copyStatistics("keep");
    for (let i = 0; i < this.own.count; i++) {
      const within = i % this.#microBatches;
      if (within === 0) {
        if (i > 0) this.#copyStatistics("restore");
        upload(this.#gpu, dropoutKey, [0, (this.own.from + i - 1) >>> 0]);
      }
      load(i);
      if (within < this.#microBatches - 1) {
        (within === 0 ? plans.first : plans.next!).run();
        continue;
      }
      for await (const part of this.#finishGroup()) {
        if (i < this.own.count - 1) continue;
        const total = this.#total(part);
        // A failure is met where all are awaited.
        total.catch(() => {});
        totals.push(total);
      }
    }
    const read = performance.now();
    await Promise.all(totals);
    const end = performance.now();
    this.#seconds.whole += (end - began) / 1000;
    this.#seconds.after += (end - read) / 1000;
    if (this.#updates++ === 0) {
      Object.assign(this.#seconds, { whole: 0, after: 0 });
      this.#uploads.seconds = 0;
      Object.assign(this.#sum.seconds, { copied: 0, added: 0 });
    }
  }

  /** Frees what it allocated. */
  destroy(): void {
    for (const buffer of this.#staging) buffer.destroy();
    this.#uploads.destroy();
    for (const arena of this.#arenas) arena.destroy();
  }

  /** The plan that ends a group. */
  get #last(): BuiltPlan {
    const { first, next } = this.#options.plans;
    return this.#microBatches > 1 ? next! : first;
  }

  /** Runs a group's last micro-batch, and tells which part has been read back and given to the sum. */
  async *#finishGroup(): AsyncGenerator<number> {
    const segments = this.#segments;
    for (const segment of segments.slice(0, AHEAD)) this.#submit(segment);
    for (const [s, { parts }] of segments.entries()) {
      await Promise.all(
        parts.map((i) => this.#gpu.guard(this.#staging[i]!.mapAsync(GPUMapMode.READ))),
      );
      const following = segments[s + AHEAD];
      if (following) this.#submit(following);
      for (const i of parts) {
        this.#sum.give(i, new Float32Array(this.#staging[i]!.getMappedRange()));
        this.#staging[i]!.unmap();
        yield i;
      }
    }
  }

  #submit(segment: Segment): void {
    const gpu = this.#gpu;
    gpu.check();
    const encoder = gpu.device.createCommandEncoder({ label: "part of a group" });
    this.#last.encodeSteps(encoder, segment);
    for (const i of segment.parts) {
      let at = 0;
      for (const { tensor, first, count } of this.parts[i]!.slices) {
        const { buffer, offset } = tensor.memory;
        const from = offset + first * BYTES.f32;
        encoder.copyBufferToBuffer(buffer, from, this.#staging[i]!, at, count * BYTES.f32);
        at += count * BYTES.f32;
      }
    }
    gpu.device.queue.submit([encoder.finish()]);
  }

  /** Waits for the total of a part, and writes it to the device. */
  async #total(i: number): Promise<void> {
    const { slices, mean } = this.parts[i]!;
    const total = await this.#sum.total(i);
    const { groups } = this.#options;
    // The quotient of two f32 in float64, rounded to f32, is the f32 quotient.
    if (mean) { for (let n = 0; n < total.length; n++) total[n] = total[n]! / groups; }
    const destinations = slices.map(({ tensor, first, count }) => ({
      buffer: tensor.memory.buffer,
      offset: tensor.memory.offset + first * BYTES.f32,
      size: count * BYTES.f32,
    }));
    await this.#uploads.send(total, destinations);
  }

  #copyStatistics(way: "keep" | "restore"): void {
    if (this.#found.size === 0) return;
    const encoder = this.#gpu.device.createCommandEncoder({ label: `${way} statistics` });
    for (const pair of this.#found) {
      const [from, to] = way === "keep" ? pair : pair.toReversed() as [Tensor, Tensor];
      encoder.copyBufferToBuffer(
        from.memory.buffer,
        from.memory.offset,
        to.memory.buffer,
        to.memory.offset,
        from.bytes,
      );
    }
    this.#gpu.device.queue.submit([encoder.finish()]);
  }
}
