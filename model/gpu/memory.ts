/**
 * Memory: arenas for what lasts, and a pool for the transient tensors of plans.
 *
 * @module
 */

import type { Gpu } from "./device.ts";
import { type Plan, tensorsOf } from "./plan.ts";
import { ALIGNMENT, BYTES, roundUp, Tensor } from "./tensor.ts";

const STORAGE = () => GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;

/** A line of the memory report. */
export interface MemoryLine {
  /** What the memory is for: `weights`, `gradients`, `activations` … */
  readonly owner: string;
  /** Bytes allocated. */
  readonly bytes: number;
}

/** Every tensor of an arena starts at a multiple of so many elements: 256 bytes of f16. */
const ARENA_ELEMENTS = 128;

/** Elements that a chunk of an arena can have, whatever their type. */
export function chunkElements(gpu: Gpu): number {
  const most = Math.min(gpu.capabilities.max_binding_bytes, gpu.capabilities.max_buffer_bytes);
  return Math.floor(most / 4 / ARENA_ELEMENTS) * ARENA_ELEMENTS;
}

/**
 * Tensors that last, packed into as few buffers as the device allows, zero at first.
 *
 * Whatever treats them alike (the optimiser, the norm, a checkpoint) can work on whole {@linkcode Arena.chunks} instead of on one tensor
 * after the other. Positions are counted in elements, so arenas of the same shapes line up element by element even
 * when their types differ.
 */
export class Arena {
  readonly name: string;
  /** All tensors, in the order in which they were given; one type. */
  readonly tensors: readonly Tensor[];
  /** Whole buffers as flat tensors. A tensor lies in exactly one chunk; gaps between tensors are zero. */
  readonly chunks: readonly Tensor[];
  readonly #buffers: GPUBuffer[] = [];

  /** Allocates at once. A tensor larger than a chunk is an error: tables are split before they come here. */
  constructor(gpu: Gpu, name: string, tensors: readonly Tensor[]) {
    this.name = name;
    this.tensors = tensors;
    const most = chunkElements(gpu);
    const dtype = tensors[0]?.dtype ?? "f32";
    const chunks: { tensors: [Tensor, number][]; size: number }[] = [];
    for (const tensor of tensors) {
      const size = roundUp(tensor.size, ARENA_ELEMENTS);
      if (tensor.dtype !== dtype) {
        throw new TypeError(`${tensor.name} is ${tensor.dtype} in an arena of ${dtype}`);
      }
      if (size > most) {
        throw new RangeError(
          `Tensor ${tensor.name} has ${tensor.size} elements; a chunk of memory can have ${most}`,
        );
      }
      let chunk = chunks.at(-1);
      if (!chunk || chunk.size + size > most) chunks.push(chunk = { tensors: [], size: 0 });
      chunk.tensors.push([tensor, chunk.size]);
      chunk.size += size;
    }
    this.chunks = chunks.map((chunk, i) => {
      const flat = new Tensor(chunks.length === 1 ? name : `${name} ${i + 1}`, [chunk.size], {
        dtype,
        owner: tensors[0]?.owner ?? name,
      });
      const buffer = gpu.device.createBuffer({
        label: flat.name,
        size: flat.bytes,
        usage: STORAGE(),
      });
      this.#buffers.push(buffer);
      flat.place({ buffer, offset: 0 });
      for (const [tensor, at] of chunk.tensors) tensor.place({ buffer, offset: at * BYTES[dtype] });
      return flat;
    });
  }

  /** Bytes allocated. */
  get bytes(): number {
    return this.chunks.reduce((n, chunk) => n + chunk.bytes, 0);
  }

  /** Frees the buffers. */
  destroy(): void {
    for (const buffer of this.#buffers) buffer.destroy();
  }
}

/** Buffers that transient tensors share. */
export class Pool {
  readonly #buffers: readonly GPUBuffer[];
  /** Bytes allocated: the peak of the transient tensors. */
  readonly bytes: number;
  /** What lived at the moment of the highest demand, by owner, largest first. */
  readonly peak: readonly MemoryLine[];

  constructor(buffers: readonly GPUBuffer[], peak: readonly MemoryLine[]) {
    this.#buffers = buffers;
    this.bytes = buffers.reduce((n, buffer) => n + buffer.size, 0);
    this.peak = peak;
  }

  /** Frees the buffers. */
  destroy(): void {
    for (const buffer of this.#buffers) buffer.destroy();
  }
}

interface Slot {
  bytes: number;
  readonly tenants: Tensor[];
}

/**
 * Gives each transient tensor of `plans` a buffer between its first and its last use.
 *
 * Slots are planned before any buffer is made, so a slot may still grow while it waits for a tenant: of the free ones the
 * smallest that is large enough is taken, else the largest free one grows.
 */
export function assignMemory(
  gpu: Gpu,
  plans: readonly Plan[],
  options: { isolate?: boolean } = {},
): Pool {
  const slots: Slot[] = [];
  let peak: { bytes: number; live: Tensor[] } = { bytes: 0, live: [] };
  for (const plan of plans) {
    const free = new Set(slots.filter((slot) => !slot.tenants.some((t) => kept(plans, t))));
    const occupied = new Map<Tensor, Slot>();
    const lastUse = new Map<Tensor, number>();
    plan.steps.forEach((step, i) => {
      for (const tensor of tensorsOf(step)) {
        if (plan.transient.has(tensor.base)) lastUse.set(tensor.base, i);
      }
    });
    plan.steps.forEach((step, i) => {
      const touched = [...new Set(tensorsOf(step).map((t) => t.base))]
        .filter((t) => plan.transient.has(t));
      for (const tensor of touched) {
        if (occupied.has(tensor) || tensor.allocated) continue;
        const bytes = roundUp(tensor.bytes, ALIGNMENT);
        const alone = options.isolate || plan.kept.has(tensor);
        let slot = alone ? undefined : pick(free, bytes);
        if (slot) {
          free.delete(slot);
          slot.bytes = Math.max(slot.bytes, bytes);
        } else slots.push(slot = { bytes, tenants: [] });
        slot.tenants.push(tensor);
        occupied.set(tensor, slot);
      }
      const bytes = [...occupied.keys()].reduce((n, t) => n + t.bytes, 0);
      if (bytes > peak.bytes) peak = { bytes, live: [...occupied.keys()] };
      for (const tensor of touched) {
        if (lastUse.get(tensor) !== i || plan.kept.has(tensor)) continue;
        const slot = occupied.get(tensor);
        occupied.delete(tensor);
        if (slot && !options.isolate) free.add(slot);
      }
    });
  }
  const buffers = slots.map((slot) => {
    const buffer = gpu.device.createBuffer({
      label: slot.tenants.map((t) => t.name).slice(0, 3).join(", "),
      size: slot.bytes,
      usage: STORAGE(),
    });
    for (const tensor of slot.tenants) tensor.place({ buffer, offset: 0 });
    return buffer;
  });
  return new Pool(buffers, byOwner(peak.live));
}

function kept(plans: readonly Plan[], tensor: Tensor): boolean {
  return plans.some((plan) => plan.kept.has(tensor));
}

function pick(free: ReadonlySet<Slot>, bytes: number): Slot | undefined {
  let best: Slot | undefined;
  for (const slot of free) {
    const fits = slot.bytes >= bytes;
    const bestFits = best !== undefined && best.bytes >= bytes;
    if (
      best === undefined || (fits && (!bestFits || slot.bytes < best.bytes)) ||
      (!fits && !bestFits && slot.bytes > best.bytes)
    ) best = slot;
  }
  return best;
}

/** Sums bytes by owner, largest first. */
export function byOwner(tensors: readonly Tensor[]): MemoryLine[] {
  const sums = new Map<string, number>();
  for (const t of tensors) sums.set(t.owner, (sums.get(t.owner) ?? 0) + t.bytes);
  return [...sums].map(([owner, bytes]) => ({ owner, bytes })).sort((a, b) => b.bytes - a.bytes);
}
