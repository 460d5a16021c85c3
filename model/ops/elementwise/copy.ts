/**
 * Copies through a kernel: what the device's memory gives a shader, the roof of every kernel that memory bounds.
 *
 * @module
 */

import source from "../../../shaders/elementwise/copy.wgsl" with { type: "text" };
import type { Gpu } from "../../gpu/device.ts";
import { grid, read, write } from "../../gpu/kernel.ts";
import type { Plan } from "../../gpu/plan.ts";
import type { Tensor } from "../../gpu/tensor.ts";

/** How the copy is laid out over invocations. */
export interface CopyVariant {
  /** `vec4`s of 16 bytes that an invocation copies. */
  readonly per: number;
  /** Invocations of a workgroup. */
  readonly workgroup: number;
  /** `block`: a workgroup copies one stretch; `spread`: an invocation's vec4s are as far apart as there are invocations. */
  readonly order: "block" | "spread";
}

const VARIANTS: readonly CopyVariant[] = [
  { per: 1, workgroup: 64, order: "block" },
  { per: 1, workgroup: 256, order: "block" },
  { per: 1, workgroup: 1024, order: "block" },
  { per: 2, workgroup: 256, order: "block" },
  { per: 2, workgroup: 512, order: "block" },
  { per: 4, workgroup: 128, order: "block" },
  { per: 4, workgroup: 256, order: "block" },
  { per: 4, workgroup: 256, order: "spread" },
  { per: 4, workgroup: 512, order: "block" },
  { per: 8, workgroup: 128, order: "block" },
  { per: 8, workgroup: 256, order: "block" },
  { per: 16, workgroup: 64, order: "block" },
];

/** Layouts worth measuring that a device can run; which one is best is the device's affair. */
export function copyVariants(gpu: Gpu): CopyVariant[] {
  return VARIANTS.filter(({ workgroup }) => workgroup <= gpu.capabilities.max_invocations);
}

/** Records `to = from` of two f32 or u32 tensors of one type and size. */
export function copyThrough(
  plan: Plan,
  label: string,
  operands: { from: Tensor; to: Tensor; variant: CopyVariant },
): void {
  const { from, to, variant } = operands;
  if (from.bytes !== to.bytes || from.dtype !== to.dtype || from.dtype === "f16") {
    throw new RangeError(
      `${label}: ${from.name} is ${from.dtype} of ${from.bytes} bytes, ${to.name} ${to.dtype} of ${to.bytes}; expected two f32 or u32 tensors of one size`,
    );
  }
  const { per, workgroup, order } = variant;
  const count = from.bytes / 16;
  const workgroups = Math.ceil(count / (per * workgroup));
  plan.dispatch({
    label,
    name: "copy",
    source,
    constants: { PER: per, WORKGROUP: workgroup, SPREAD: order === "spread" },
    params: { count, threads: workgroups * workgroup },
    bindings: { x: read(from), y: write(to) },
    workgroups: grid(workgroups),
    bytes: 2 * from.bytes,
  });
}
