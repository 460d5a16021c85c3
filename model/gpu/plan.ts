/**
 * A plan: the list of dispatches that a step consists of, recorded once and run many times.
 *
 * Recording costs nothing on the GPU; `buildPlans` in `build.ts` makes what was recorded ready to run.
 *
 * @module
 */

import type { Gpu } from "./device.ts";
import type { Binding, Call } from "./kernel.ts";
import { type DType, Tensor } from "./tensor.ts";

/** A dispatch with its costs filled in. */
export interface Dispatch extends Call {
  /** Floating-point operations; 0 when it does none worth counting. */
  readonly flops: number;
  /** Bytes that it must move. */
  readonly bytes: number;
}

/** A step of a plan. */
export type Step =
  | { readonly kind: "dispatch"; readonly call: Dispatch }
  | { readonly kind: "clear"; readonly tensor: Tensor }
  | { readonly kind: "copy"; readonly from: Tensor; readonly to: Tensor };

interface TensorOptions {
  /** Defaults to `f32`. */
  readonly dtype?: DType;
  /** Line of the memory report; defaults to `activations`. */
  readonly owner?: string;
}

/** A recorded list of operations on one device. */
export class Plan {
  /** The device that it is recorded for: what it may use decides between variants of kernels. */
  readonly gpu: Gpu;
  /** Name of the plan, shown by the profiler. */
  readonly label: string;
  readonly #steps: Step[] = [];
  readonly #transient = new Set<Tensor>();
  readonly #kept = new Set<Tensor>();
  readonly #constants = new Map<Tensor, () => ArrayLike<number>>();
  #scope: string[] = [];

  /** An empty plan. */
  constructor(gpu: Gpu, label: string) {
    this.gpu = gpu;
    this.label = label;
  }

  /** The steps recorded so far. */
  get steps(): readonly Step[] {
    return this.#steps;
  }

  /** Tensors that get memory from the plan. */
  get transient(): ReadonlySet<Tensor> {
    return this.#transient;
  }

  /** Transient tensors whose memory is theirs alone, so that it can be read after the plan ran. */
  get kept(): ReadonlySet<Tensor> {
    return this.#kept;
  }

  /** A tensor that lives from its first to its last use in this plan. */
  tensor(name: string, shape: readonly number[], options: TensorOptions = {}): Tensor {
    const tensor = new Tensor([...this.#scope, name].join("."), shape, {
      owner: "activations",
      ...options,
    });
    this.#transient.add(tensor);
    return tensor;
  }

  /** Tensors whose numbers the host writes when the plan is built. */
  get constants(): ReadonlyMap<Tensor, () => ArrayLike<number>> {
    return this.#constants;
  }

  /**
   * A tensor of numbers that the host computes, such as a table of codes: written once, when the plan is built. A name stands for
   * its numbers, so whoever asks for it again gets the same tensor.
   *
   * @param options `numbers` is called when the plan is built, and only if something uses the tensor.
   */
  constant(
    name: string,
    shape: readonly number[],
    options: { readonly dtype?: DType; numbers(): ArrayLike<number> },
  ): Tensor {
    const { dtype = "f32", numbers } = options;
    for (const made of this.#constants.keys()) {
      if (made.name === name && made.dtype === dtype) return made;
    }
    const tensor = new Tensor(name, shape, { dtype, owner: "constants" });
    this.#transient.add(tensor);
    this.#kept.add(tensor);
    this.#written.add(tensor);
    this.#constants.set(tensor, numbers);
    return tensor;
  }

  /** Keeps a transient tensor's memory for it alone, to be read after the plan ran. Returns the tensor. */
  keep(tensor: Tensor): Tensor {
    this.#kept.add(tensor.base);
    return tensor;
  }

  /** Prefixes the labels and names that `record` makes: `plan.scope("layers.3", () => …)`. */
  scope<T>(name: string, record: () => T): T {
    this.#scope.push(name);
    try {
      return record();
    } finally {
      this.#scope.pop();
    }
  }

  /** Appends a dispatch. Throws when a transient tensor would be read before anything wrote it. */
  dispatch(call: Call): void {
    const label = [...this.#scope, call.label].join(".");
    const [x, y, z] = call.workgroups;
    const most = this.gpu.capabilities.max_workgroups_per_dimension;
    if (![x, y, z].every((n) => Number.isInteger(n) && n >= 1 && n <= most)) {
      throw new RangeError(`${label} has workgroups [${x}, ${y}, ${z}]; each must be 1 to ${most}`);
    }
    const bindings = Object.entries(call.bindings);
    const buffers = bindings.length;
    if (buffers > this.gpu.capabilities.max_storage_buffers) {
      throw new RangeError(
        `${label} binds ${buffers} tensors; the device allows ${this.gpu.capabilities.max_storage_buffers}`,
      );
    }
    this.#checkAliases(label, bindings);
    for (const [name, b] of bindings) {
      if (b.access !== "write") this.#checkWritten(b.tensor, `${label} (${name})`);
      if (b.tensor.bytes > this.gpu.capabilities.max_binding_bytes) {
        throw new RangeError(
          `${label} binds ${b.tensor.name} of ${b.tensor.bytes} bytes; a binding can have ${this.gpu.capabilities.max_binding_bytes}`,
        );
      }
    }
    for (const [, b] of bindings) if (b.access !== "read") this.#written.add(b.tensor.base);
    this.#steps.push({
      kind: "dispatch",
      call: {
        ...call,
        label,
        flops: call.flops ?? 0,
        bytes: call.bytes ??
          bindings.reduce((n, [, b]) => n + b.tensor.bytes * (b.access === "update" ? 2 : 1), 0),
      },
    });
  }

  /** Appends a fill with zeros. */
  clear(tensor: Tensor): void {
    this.#written.add(tensor.base);
    this.#steps.push({ kind: "clear", tensor });
  }

  /** Appends a copy between tensors of equal size. */
  copy(from: Tensor, to: Tensor): void {
    if (from.bytes !== to.bytes) {
      throw new RangeError(
        `Cannot copy ${from.name} of ${from.bytes} bytes to ${to.name} of ${to.bytes}`,
      );
    }
    this.#checkWritten(from, "copy");
    this.#written.add(to.base);
    this.#steps.push({ kind: "copy", from, to });
  }

  readonly #written = new Set<Tensor>();

  #checkWritten(tensor: Tensor, reader: string): void {
    const { base } = tensor;
    if (!this.#transient.has(base) || this.#written.has(base)) return;
    throw new Error(`${reader} reads ${tensor.name} before anything wrote it`);
  }

  /** A buffer must not be bound for reading and for writing in one dispatch. */
  #checkAliases(label: string, bindings: readonly [string, Binding][]): void {
    for (const [i, [nameA, a]] of bindings.entries()) {
      for (const [nameB, b] of bindings.slice(i + 1)) {
        if (a.tensor.base !== b.tensor.base) continue;
        if (a.access === "read" && b.access === "read") continue;
        throw new Error(`${label} binds ${a.tensor.base.name} as ${nameA} and as ${nameB}`);
      }
    }
  }
}

/** Tensors that a step touches. */
export function tensorsOf(step: Step): Tensor[] {
  switch (step.kind) {
    case "dispatch":
      return Object.values(step.call.bindings).map((b) => b.tensor);
    case "clear":
      return [step.tensor];
    case "copy":
      return [step.from, step.to];
  }
}
