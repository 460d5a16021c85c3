/**
 * Which matrix unit the kernels use.
 *
 * @module
 */

import type { Capabilities, SubgroupMatrixConfig } from "../../gpu/capabilities.ts";

/**
 * The shape of matrix unit that multiplies halves and sums in f32: 16 rows, 16 or 8 columns and terms. None when the device has none of these, or
 * subgroups of varying size.
 */
export function matrixUnit(capabilities: Capabilities): SubgroupMatrixConfig | undefined {
  const { f16, subgroup_min_size, subgroup_max_size } = capabilities;
  if (!f16 || subgroup_min_size !== subgroup_max_size) return undefined;
  return capabilities.subgroup_matrix.find(({ component, result, m, n, k }) =>
    component === "f16" && result === "f32" && m === 16 && (n === 16 || n === 8) &&
    (k === 16 || k === 8)
  );
}

/** Whether that unit is 16 × 16 × 16 and subgroups are 32 invocations, which is what kernels with fixed shapes are written for. */
export function hasSquareUnits(capabilities: Capabilities): boolean {
  const unit = matrixUnit(capabilities);
  return unit?.n === 16 && unit.k === 16 && capabilities.subgroup_max_size === 32;
}
