/**
 * Tensors: names with shapes, which get memory when an arena is allocated or a plan is built.
 *
 * @module
 */

/** Element types that kernels store. */
export type DType = "f32" | "f16" | "u32";

/** Bytes of one element. */
export const BYTES: Readonly<Record<DType, number>> = { f32: 4, f16: 2, u32: 4 };

/** A range of a GPU buffer. */
interface Memory {
  /** The buffer. */
  readonly buffer: GPUBuffer;
  /** Offset in bytes, a multiple of 256. */
  readonly offset: number;
}

/** WebGPU's default alignment of a storage binding's offset, in bytes. */
export const ALIGNMENT = 256;

/** Rounds up to a multiple. */
export function roundUp(n: number, multiple: number): number {
  return Math.ceil(n / multiple) * multiple;
}

/**
 * A named array of numbers on the GPU, row-major.
 *
 * A tensor has no memory of its own: an {@linkcode Arena} gives it a range for good, a plan gives it one between its
 * first and its last use. Kernels bind it as `vec4`s, so its rows must be a multiple of four elements long wherever a
 * kernel reads rows as `vec4`s; `stride` says how long a row is in memory.
 */
export class Tensor {
  /** Shown in messages and by the profiler. */
  readonly name: string;
  /** Shape, slowest axis first. */
  readonly shape: readonly number[];
  /** Type of its elements. */
  readonly dtype: DType;
  /** The memory report counts it under this name: `weights`, `gradients`, `activations` … */
  readonly owner: string;
  /** The tensor whose memory this one is a range of; itself unless it is a view. */
  readonly base: Tensor;
  /** Offset into the base, in elements. */
  readonly start: number;
  #memory: Memory | undefined;

  /**
   * A tensor without memory, f32 and an activation unless `options` say otherwise. `base` and `start` make a view.
   *
   * @throws {RangeError} When a length of the shape is not a positive whole number.
   */
  constructor(
    name: string,
    shape: readonly number[],
    options: { dtype?: DType; owner?: string; base?: Tensor; start?: number } = {},
  ) {
    if (shape.some((n) => !Number.isInteger(n) || n < 1)) {
      throw new RangeError(`Tensor ${name} has an impossible shape [${shape.join(", ")}]`);
    }
    this.name = name;
    this.shape = shape;
    this.dtype = options.dtype ?? "f32";
    this.owner = options.owner ?? "activations";
    this.base = options.base ?? this;
    this.start = options.start ?? 0;
  }

  /** Number of elements. */
  get size(): number {
    return this.shape.reduce((a, b) => a * b, 1);
  }

  /** Length of the last axis. */
  get width(): number {
    return this.shape.at(-1) ?? 1;
  }

  /** Product of all axes but the last. */
  get rows(): number {
    return this.size / this.width;
  }

  /** Bytes that it takes, a multiple of 16 so that it can be bound as `vec4`s. */
  get bytes(): number {
    return roundUp(this.size * BYTES[this.dtype], 16);
  }

  /** Where it lives. Throws before memory was assigned. */
  get memory(): Memory {
    const memory = this.base.#memory;
    if (!memory) throw new Error(`Tensor ${this.base.name} has no memory yet`);
    return this.base === this
      ? memory
      : { buffer: memory.buffer, offset: memory.offset + this.start * BYTES[this.dtype] };
  }

  /** Whether memory was assigned. */
  get allocated(): boolean {
    return this.base.#memory !== undefined;
  }

  /** Assigns memory; called once, by an arena or a plan. */
  place(memory: Memory): void {
    if (this.base !== this) throw new Error(`Tensor ${this.name} is a view of ${this.base.name}`);
    this.#memory = memory;
  }

  /** The same elements under another shape. */
  reshape(...shape: number[]): Tensor {
    const view = new Tensor(this.name, shape, { ...this.#viewOptions(), start: this.start });
    if (view.size !== this.size) {
      throw new RangeError(
        `Cannot reshape ${this.name} of ${this.size} elements to [${shape.join(", ")}]`,
      );
    }
    return view;
  }

  /**
   * Rows `first` to `first + count` of the slowest axis. The offset must fall on a 256-byte boundary, since it becomes
   * the offset of a binding.
   */
  slice(first: number, count: number): Tensor {
    const row = this.size / (this.shape[0] ?? 1);
    const start = this.start + first * row;
    if ((start * BYTES[this.dtype]) % ALIGNMENT !== 0) {
      throw new RangeError(
        `Row ${first} of ${this.name} starts at byte ${
          start * BYTES[this.dtype]
        }, which is not a multiple of ${ALIGNMENT}`,
      );
    }
    if (first < 0 || first + count > (this.shape[0] ?? 1)) {
      throw new RangeError(`Rows ${first} to ${first + count} are not all in ${this.name}`);
    }
    return new Tensor(`${this.name}[${first}..${first + count}]`, [count, ...this.shape.slice(1)], {
      ...this.#viewOptions(),
      start,
    });
  }

  #viewOptions() {
    return { dtype: this.dtype, owner: this.owner, base: this.base };
  }
}
