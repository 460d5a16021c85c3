/**
 * Helpers for tests of operations: inputs on the GPU, one run of a plan, comparison with float64.
 *
 * @module
 */

import { assert } from "@std/assert";
import type { Gpu } from "../gpu/device.ts";
import { Arena } from "../gpu/memory.ts";
import { runPlan } from "../gpu/build.ts";
import { Plan } from "../gpu/plan.ts";
import { type DType, Tensor } from "../gpu/tensor.ts";
import { upload } from "../gpu/transfer.ts";

/** Makes persistent tensors; those that it made are freed together. */
export class Inputs implements Disposable {
  readonly #gpu: Gpu;
  readonly #arenas: Arena[] = [];

  constructor(gpu: Gpu) {
    this.#gpu = gpu;
  }

  /** A persistent tensor with values, or of zeros. */
  tensor(
    name: string,
    shape: readonly number[],
    options: { values?: ArrayLike<number>; dtype?: DType } = {},
  ): Tensor {
    const tensor = new Tensor(name, shape, { dtype: options.dtype ?? "f32", owner: "inputs" });
    this.#arenas.push(new Arena(this.#gpu, name, [tensor]));
    if (options.values) upload(this.#gpu, tensor, options.values);
    return tensor;
  }

  [Symbol.dispose](): void {
    for (const arena of this.#arenas) arena.destroy();
  }
}

/** Records operations, by name, each in every variant of its options. */
export type Recordings = Readonly<Record<string, (gpu: Gpu) => Plan[]>>;

/** A tensor that exists outside of a plan, as weights do, without memory: for plans that are recorded and do not run. */
export function unallocated(name: string, shape: readonly number[], dtype: DType = "f32"): Tensor {
  return new Tensor(name, shape, { dtype });
}

/** Records a plan, runs it once, and reads back the tensors that `record` returns. */
export async function runOnce<Name extends string>(
  gpu: Gpu,
  record: (plan: Plan) => Record<Name, Tensor>,
  options: { isolate?: boolean } = {},
): Promise<Record<Name, Float32Array>> {
  const plan = new Plan(gpu, "test");
  return await runPlan(plan, record(plan), options) as Record<Name, Float32Array>;
}

/** Numbers in [−1, 1) that f32 holds exactly; the same for the same seed. */
export function noise(count: number, seed: number): Float64Array {
  let state = (seed * 2654435761 + 12345) >>> 0;
  return Float64Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state >>> 8) / 2 ** 23 - 1;
  });
}

/** Largest absolute difference over the largest magnitude of what was expected. */
export function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  assert(
    actual.length === expected.length,
    `${actual.length} numbers, expected ${expected.length}`,
  );
  let difference = 0;
  let magnitude = 0;
  for (let i = 0; i < expected.length; i++) {
    const d = Math.abs(actual[i]! - expected[i]!);
    // NaN must not pass.
    if (Number.isNaN(d)) return NaN;
    difference = Math.max(difference, d);
    magnitude = Math.max(magnitude, Math.abs(expected[i]!));
  }
  return difference / (magnitude || 1);
}

/** Asserts that {@linkcode relativeError} stays below a tolerance. */
export function assertNear(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  options: { tolerance: number; what: string },
): void {
  const error = relativeError(actual, expected);
  assert(
    error <= options.tolerance,
    `${options.what} is off by ${error} relative to its largest magnitude; at most ${options.tolerance}`,
  );
}
