/**
 * When kernels may count on subgroups.
 *
 * @module
 */

import type { Capabilities } from "../gpu/capabilities.ts";

/**
 * The size of a subgroup, for kernels that are written for one: a power of two, at most 32, the same for every kernel of the device. Undefined where
 * there are none, where the driver picks the size, and on software adapters, which other kernels suit better.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { WEBGPU_DEFAULTS } from "../gpu/capabilities.ts";
 * import { subgroupSize } from "./subgroup.ts";
 *
 * const sizes = { subgroups: true, subgroup_min_size: 32, subgroup_max_size: 32 };
 * assertEquals(subgroupSize({ ...WEBGPU_DEFAULTS, ...sizes }), 32);
 * assertEquals(subgroupSize({ ...WEBGPU_DEFAULTS, ...sizes, subgroup_min_size: 8 }), undefined);
 * ```
 */
export function subgroupSize(capabilities: Capabilities): number | undefined {
  const { software, subgroups, subgroup_min_size, subgroup_max_size: size } = capabilities;
  if (software || !subgroups || subgroup_min_size !== size) return undefined;
  return [4, 8, 16, 32].includes(size) ? size : undefined;
}

/**
 * The lanes of a vector register on a software adapter whose subgroups are such registers, for kernels whose workgroup is one subgroup: 8 or 16.
 * Undefined on GPUs, without subgroups and with narrower ones.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { WEBGPU_DEFAULTS } from "../gpu/capabilities.ts";
 * import { softwareLanes } from "./subgroup.ts";
 *
 * const sizes = { subgroups: true, subgroup_min_size: 8, subgroup_max_size: 8 };
 * assertEquals(softwareLanes({ ...WEBGPU_DEFAULTS, ...sizes, software: true }), 8);
 * assertEquals(softwareLanes({ ...WEBGPU_DEFAULTS, ...sizes }), undefined);
 * ```
 */
export function softwareLanes(capabilities: Capabilities): number | undefined {
  const { software, subgroups, subgroup_min_size, subgroup_max_size: size } = capabilities;
  if (!software || !subgroups || subgroup_min_size !== size) return undefined;
  return [8, 16].includes(size) ? size : undefined;
}
