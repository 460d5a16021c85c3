/**
 * Memory: arenas for what lasts, and a pool for the transient tensors of plans.
 *
 * @module
 */

import type { Gpu } from "./device.ts";
import { copiesOf, placeCopies } from "./copies.ts";
import { type Plan, tensorsOf } from "./plan.ts";
import { ALIGNMENT, BYTES, roundUp, Tensor } from "./tensor.ts";
import { createTexels, Texels } from "./texels.ts";

const STORAGE = () => GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;

/** A line of the memory report. */
export interface MemoryLine {
  /** The purpose of the memory: `weights`, `gradients`, `activations` … */
  readonly owner: string;
  /** Bytes allocated. */
  readonly bytes: number;
}

/** Bytes on a device, of arenas and of pools. */
export class MemoryMeter {
  #bytes = 0;
  #peak = 0;

  /** Allocated now. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Most that was allocated since {@linkcode MemoryMeter.reset}, or ever. */
  get peak(): number {
    return this.#peak;
  }

  /** Lets the peak begin with what is allocated now. */
  reset(): void {
    this.#peak = this.#bytes;
  }

  /** Counts bytes, or with a negative number what was freed. */
  add(bytes: number): void {
    this.#bytes += bytes;
    this.#peak = Math.max(this.#peak, this.#bytes);
  }
}

const meters = new WeakMap<Gpu, MemoryMeter>();

/** The meter of a device. */
export function memoryOf(gpu: Gpu): MemoryMeter {
  let meter = meters.get(gpu);
  if (!meter) meters.set(gpu, meter = new MemoryMeter());
  return meter;
}

/** The facts of a device that sizes depend on. */
export type SizedGpu = Pick<Gpu, "runtime" | "adapter" | "capabilities">;

/**
 * The device's limits with buffers that have a size and no memory: what is allocated and recorded on it is counted by its {@linkcode memoryOf}, and
 * refused where the device would refuse it by its limits. Nothing runs on it.
 */
export function sizingGpu(gpu: SizedGpu): Gpu {
  const none = () => {
    throw new Error(`The sizes of ${gpu.adapter.description} are a device that runs nothing.`);
  };
  const createBuffer = ({ size }: GPUBufferDescriptor) => ({ size, destroy() {} });
  return {
    device: { createBuffer, queue: { writeBuffer() {} } } as unknown as GPUDevice,
    runtime: gpu.runtime,
    adapter: gpu.adapter,
    capabilities: gpu.capabilities,
    check: none,
    guard: none,
    attempt: none,
    close() {},
  };
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
  readonly #meter: MemoryMeter;
  #counted: number;

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
    this.#meter = memoryOf(gpu);
    this.#counted = this.bytes;
    this.#meter.add(this.#counted);
  }

  /** Bytes allocated. */
  get bytes(): number {
    return this.chunks.reduce((n, chunk) => n + chunk.bytes, 0);
  }

  /** Frees the buffers. */
  destroy(): void {
    for (const buffer of this.#buffers) buffer.destroy();
    this.#meter.add(-this.#counted);
    this.#counted = 0;
  }
}

/** Buffers that transient tensors share, and textures that copies of tensors do. */
export class Pool {
  readonly #resources: readonly { destroy(): void }[];
  readonly #meter: MemoryMeter;
  #counted: number;
  /** Bytes allocated: the peak of the transient tensors. */
  readonly bytes: number;
  /** Bytes of these in textures, which hold copies alone. */
  readonly copies: number;
  /** The memory in use at the moment of the highest demand, by owner, largest first. */
  readonly peak: readonly MemoryLine[];

  /** Takes over buffers and textures of so many bytes together. */
  constructor(
    gpu: Gpu,
    resources: readonly { destroy(): void }[],
    { bytes, copies, peak }: {
      readonly bytes: number;
      readonly copies: number;
      readonly peak: readonly MemoryLine[];
    },
  ) {
    this.#resources = resources;
    this.bytes = bytes;
    this.copies = copies;
    this.peak = peak;
    this.#meter = memoryOf(gpu);
    this.#counted = this.bytes;
    this.#meter.add(this.#counted);
  }

  /** Frees the buffers. */
  destroy(): void {
    for (const resource of this.#resources) resource.destroy();
    this.#meter.add(-this.#counted);
    this.#counted = 0;
  }
}

/** A transient tensor or a copy, and the steps at which it is needed, first and last, counted over all plans. */
interface Span<What extends Tensor | Texels = Tensor | Texels> {
  readonly what: What;
  readonly bytes: number;
  readonly first: number;
  last: number;
}

/** A buffer or a texture to be: what lives in it one after the other. */
interface Slot<What extends Tensor | Texels> {
  readonly bytes: number;
  readonly tenants: Span<What>[];
}

/**
 * Gives each transient tensor of `plans` a buffer between its first and its last use, and each copy of a tensor a texture.
 *
 * The largest tensors choose first: of the buffers in which nothing lives at the same time each takes the smallest, else it gets a new one of its size.
 * All together stay within a few percent of what lives at the moment of the highest demand.
 *
 * @param options `isolate`: give every tensor a buffer of its own.
 */
export function assignMemory(
  gpu: Gpu,
  plans: readonly Plan[],
  options: { isolate?: boolean } = {},
): Pool {
  const { tensors, copies } = spansOf(plans, options);
  const buffers = slotsOf(tensors).map(({ bytes, tenants }) => {
    const buffer = gpu.device.createBuffer({
      label: tenants.map(({ what }) => what.name).slice(0, 3).join(", "),
      size: bytes,
      usage: STORAGE(),
    });
    for (const { what } of tenants) what.place({ buffer, offset: 0 });
    return { bytes, resource: buffer };
  });
  const textures = slotsOf(copies).map(({ bytes, tenants }) => {
    const label = tenants.map(({ what }) => what.tensor.name).slice(0, 3).join(", ");
    const texture = createTexels(gpu.device, label, bytes);
    for (const { what } of tenants) what.place(texture);
    return { bytes, resource: texture };
  });
  const all = [...buffers, ...textures];
  return new Pool(gpu, all.map(({ resource }) => resource), {
    bytes: all.reduce((n, { bytes }) => n + bytes, 0),
    copies: textures.reduce((n, { bytes }) => n + bytes, 0),
    peak: byOwner(highestDemand([...tensors, ...copies])),
  });
}

/** Spreads spans over as little memory as {@linkcode assignMemory} promises. */
function slotsOf<What extends Tensor | Texels>(spans: readonly Span<What>[]): Slot<What>[] {
  const slots: Slot<What>[] = [];
  // The sort is stable: tensors of a size keep the order of their first use.
  for (const span of spans.toSorted((a, b) => b.bytes - a.bytes)) {
    // Buffers are in the order of their size, and none is smaller than this tensor.
    const slot = slots.findLast(({ tenants }) =>
      tenants.every((other) => other.last < span.first || span.last < other.first)
    );
    if (slot) slot.tenants.push(span);
    else slots.push({ bytes: span.bytes, tenants: [span] });
  }
  return slots;
}

/** The transient tensors and the copies of plans in the order of their first use; tensors that are kept, and all that is isolated, are needed all the time. */
function spansOf(
  plans: readonly Plan[],
  { isolate = false }: { isolate?: boolean },
): { tensors: Span<Tensor>[]; copies: Span<Texels>[] } {
  const tensors = new Map<Tensor, Span<Tensor>>();
  const copies = new Map<Texels, Span<Texels>>();
  let step = 0;
  const use = <What extends Tensor | Texels>(
    spans: Map<What, Span<What>>,
    what: What,
    { bytes, always }: { bytes: number; always: boolean },
  ) => {
    const span = spans.get(what);
    if (span) span.last = Math.max(span.last, step);
    else {
      const [first, last] = always ? [0, Infinity] : [step, step];
      spans.set(what, { what, bytes, first, last });
    }
  };
  for (const plan of plans) {
    for (const placed of placeCopies(plan)) {
      for (const { base } of tensorsOf(placed.step)) {
        if (!plan.transient.has(base) || base.allocated) continue;
        const always = isolate || plans.some(({ kept }) => kept.has(base));
        use(tensors, base, { bytes: roundUp(base.bytes, ALIGNMENT), always });
      }
      for (const copy of copiesOf(placed)) {
        use(copies, copy, { bytes: copy.bytes, always: isolate });
      }
      step++;
    }
  }
  return { tensors: [...tensors.values()], copies: [...copies.values()] };
}

/** The tensors that live when the most bytes do. */
function highestDemand(spans: readonly Span[]): Span[] {
  const changes = new Map<number, number>();
  for (const { bytes, first, last } of spans) {
    changes.set(first, (changes.get(first) ?? 0) + bytes);
    changes.set(last + 1, (changes.get(last + 1) ?? 0) - bytes);
  }
  let bytes = 0;
  let most = { bytes: 0, step: 0 };
  for (const [step, change] of [...changes].sort(([a], [b]) => a - b)) {
    bytes += change;
    if (bytes > most.bytes) most = { bytes, step };
  }
  return spans.filter(({ first, last }) => first <= most.step && most.step <= last);
}

/** Sums bytes by owner, largest first. */
function byOwner(spans: readonly Span[]): MemoryLine[] {
  const sums = new Map<string, number>();
  for (const { what } of spans) {
    const owner = what instanceof Texels ? "copies" : what.owner;
    sums.set(owner, (sums.get(owner) ?? 0) + what.bytes);
  }
  return [...sums].map(([owner, bytes]) => ({ owner, bytes })).sort((a, b) => b.bytes - a.bytes);
}
