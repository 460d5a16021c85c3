/**
 * The device's best measured rates: the roof that kernels are held against.
 *
 * @module
 */

import { runPlan } from "../../gpu/build.ts";
import type { Gpu } from "../../gpu/device.ts";
import { Arena } from "../../gpu/memory.ts";
import { Plan } from "../../gpu/plan.ts";
import { type DType, Tensor } from "../../gpu/tensor.ts";
import { copyThrough, type CopyVariant, copyVariants } from "../../ops/elementwise/copy.ts";
import { gemm } from "../../ops/gemm/gemm.ts";
import { initializeNormal } from "../../ops/optimizer/initialize.ts";
import { timePlan, type Timing, type TimingOptions } from "./timing.ts";

/** The roofs of a device. */
export interface Ceilings {
  /** Bytes read and written a second by the fastest copy. */
  readonly bytes_per_second: number;
  /** Floating-point operations a second of the fastest matrix product. */
  readonly flops_per_second: number;
  /** A description of the measurement: `copy of 1024 MiB`, `4096³ nn, f16`. */
  readonly copy: string;
  /** Likewise. */
  readonly product: string;
}

/** Persistent tensors for a measurement, each in an arena of its own. */
export class Operands implements Disposable {
  readonly #gpu: Gpu;
  readonly #arenas: Arena[] = [];

  /** None so far. */
  constructor(gpu: Gpu) {
    this.#gpu = gpu;
  }

  /** A tensor of zeros. */
  tensor(name: string, shape: readonly number[], dtype: DType = "f32"): Tensor {
    const tensor = new Tensor(name, shape, { dtype, owner: "benchmark" });
    this.#arenas.push(new Arena(this.#gpu, name, [tensor]));
    return tensor;
  }

  /** Fills float tensors with small random numbers: a product of zeros draws less power, and clocks higher, than a real one. */
  async fill(...tensors: readonly Tensor[]): Promise<void> {
    const plan = new Plan(this.#gpu, "fill");
    for (const [i, tensor] of tensors.entries()) {
      initializeNormal(plan, tensor.name, [tensor], { seed: 1 + i, deviation: 0.5 });
    }
    await runPlan(plan);
  }

  /** Bytes of all. */
  get bytes(): number {
    return this.#arenas.reduce((n, arena) => n + arena.bytes, 0);
  }

  /** Frees them. */
  [Symbol.dispose](): void {
    for (const arena of this.#arenas) arena.destroy();
  }
}

/** Bytes of a copy, and rows of a square product, that keep a device busy for long enough to say something. */
export function ceilingSizes(gpu: Gpu): { bytes: number; rows: number } {
  const { software, max_binding_bytes, max_buffer_bytes } = gpu.capabilities;
  if (software) return { bytes: 4 << 20, rows: 128 };
  return { bytes: Math.min(1 << 30, max_binding_bytes, max_buffer_bytes), rows: 4096 };
}

/** Times one layout of a copy of `bytes`. */
export async function timeCopy(
  gpu: Gpu,
  copy: { bytes: number; variant: CopyVariant },
  options: TimingOptions,
): Promise<Timing> {
  using operands = new Operands(gpu);
  const shape = [Math.floor(copy.bytes / 16), 4];
  const [from, to] = [operands.tensor("from", shape), operands.tensor("to", shape)];
  await operands.fill(from);
  const plan = new Plan(gpu, "copy");
  copyThrough(plan, "copy", { from, to, variant: copy.variant });
  return await timePlan(gpu, plan, options);
}

/** A matrix product to time: `m × k` by `k × n`. */
export interface Product {
  readonly m: number;
  readonly n: number;
  readonly k: number;
  /** Which operand is stored transposed. */
  readonly layout: "nn" | "nt" | "tn";
  /** Type of the operands; the result is f32. */
  readonly dtype: "f32" | "f16";
}

/** Times a matrix product. */
export async function timeProduct(
  gpu: Gpu,
  product: Product,
  options: TimingOptions,
): Promise<Timing> {
  const { m, n, k, layout, dtype } = product;
  using operands = new Operands(gpu);
  const a = operands.tensor("a", layout === "tn" ? [k, m] : [m, k], dtype);
  const b = operands.tensor("b", layout === "nt" ? [n, k] : [k, n], dtype);
  const c = operands.tensor("c", [m, n]);
  await operands.fill(a, b);
  const plan = new Plan(gpu, "product");
  gemm(plan, "product", { a, b, c, layout });
  return await timePlan(gpu, plan, options);
}

/** Measures the roofs: the best of every layout of a copy, and of products with operands of `dtype`. */
export async function measureCeilings(
  gpu: Gpu,
  options: TimingOptions & { readonly dtype: "f32" | "f16" },
): Promise<Ceilings> {
  const { dtype, ...timing } = options;
  const { bytes, rows } = ceilingSizes(gpu);
  let bytes_per_second = 0;
  for (const variant of copyVariants(gpu)) {
    const { median } = await timeCopy(gpu, { bytes, variant }, timing);
    bytes_per_second = Math.max(bytes_per_second, 2 * bytes / median);
  }
  let flops_per_second = 0;
  let best = "";
  for (const layout of ["nn", "nt", "tn"] as const) {
    const product = { m: rows, n: rows, k: rows, layout, dtype };
    const { median } = await timeProduct(gpu, product, timing);
    if (2 * rows ** 3 / median <= flops_per_second) continue;
    flops_per_second = 2 * rows ** 3 / median;
    best = layout;
  }
  return {
    bytes_per_second,
    flops_per_second,
    copy: `copy of ${bytes / 2 ** 20} MiB`,
    product: `${rows}³ ${best}, ${dtype} operands`,
  };
}
