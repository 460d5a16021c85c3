/**
 * The capabilities that a device gives a kernel, and the lines with which a kernel asks a WGSL compiler for it.
 *
 * An operation decides by {@linkcode Capabilities}, never by the name of a runtime or an adapter.
 *
 * @module
 */

/** Which WebGPU Deno loads: its own (wgpu, naga) or `npm:webgpu` (Dawn, tint). */
export type Runtime = "deno" | "dawn";

/** Whose WebGPU a device is of: one that Deno loads, or that of the browser that shows a page. */
export type DeviceRuntime = Runtime | "browser";

/** One shape that matrix units multiply: `m × k` by `k × n`. */
export interface SubgroupMatrixConfig {
  /** Type of the operands: `f16`, `f32`, `i8` … */
  readonly component: string;
  /** Type of the sum. */
  readonly result: string;
  /** Rows of the left operand and of the result. */
  readonly m: number;
  /** Columns of the right operand and of the result. */
  readonly n: number;
  /** Columns of the left operand, rows of the right one. */
  readonly k: number;
}

/** The capabilities that kernels may use. Sizes are in bytes. */
export interface Capabilities {
  /** `f16` in shaders and buffers; without it kernels unpack pairs of halves from `u32`. */
  readonly f16: boolean;
  /** Subgroup built-ins. */
  readonly subgroups: boolean;
  /** Smallest subgroup the device runs; 0 without subgroups. */
  readonly subgroup_min_size: number;
  /** Largest subgroup the device runs; 0 without subgroups. */
  readonly subgroup_max_size: number;
  /** Shapes of the matrix units; empty without them. */
  readonly subgroup_matrix: readonly SubgroupMatrixConfig[];
  /** Timestamp queries. */
  readonly timestamps: boolean;
  /** A processor that plays GPU: workgroup memory and barriers cost more than they save there. */
  readonly software: boolean;
  /** Largest storage binding, a multiple of 256. */
  readonly max_binding_bytes: number;
  /** Largest buffer, a multiple of 256. */
  readonly max_buffer_bytes: number;
  /** Largest uniform binding. */
  readonly max_uniform_bytes: number;
  /** Workgroup memory of one kernel. */
  readonly max_workgroup_bytes: number;
  /** Invocations of one workgroup. */
  readonly max_invocations: number;
  /** Storage buffers of one kernel. */
  readonly max_storage_buffers: number;
  /** Workgroups in one dimension of a dispatch. */
  readonly max_workgroups_per_dimension: number;
}

/**
 * WebGPU's default limits and no optional feature: what every device grants. The whole program works with no more;
 * tests pass it as `restrict`.
 */
export const WEBGPU_DEFAULTS: Capabilities = {
  f16: false,
  subgroups: false,
  subgroup_min_size: 0,
  subgroup_max_size: 0,
  subgroup_matrix: [],
  timestamps: false,
  software: false,
  max_binding_bytes: 128 << 20,
  max_buffer_bytes: 256 << 20,
  max_uniform_bytes: 64 << 10,
  max_workgroup_bytes: 16 << 10,
  max_invocations: 256,
  max_storage_buffers: 8,
  max_workgroups_per_dimension: 65535,
};

/**
 * Lowers capabilities. Features can be switched off and sizes made smaller, never the reverse, except `software`, which
 * only says which kernels to prefer and may be set either way.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { restrictCapabilities, WEBGPU_DEFAULTS } from "./capabilities.ts";
 *
 * const less = restrictCapabilities(WEBGPU_DEFAULTS, { f16: true, max_binding_bytes: 1 << 16 });
 * assertEquals(less.f16, false);
 * assertEquals(less.max_binding_bytes, 65536);
 * ```
 */
export function restrictCapabilities(
  capabilities: Capabilities,
  restrict: Partial<Capabilities>,
): Capabilities {
  const lower = (key: NumericCapability) =>
    Math.min(capabilities[key], restrict[key] ?? capabilities[key]);
  const f16 = capabilities.f16 && restrict.f16 !== false;
  const subgroups = capabilities.subgroups && restrict.subgroups !== false;
  const wanted = restrict.subgroup_matrix?.map(matrixKey);
  return {
    f16,
    subgroups,
    // The size of a subgroup is the hardware's: it can be hidden, not changed.
    subgroup_min_size: subgroups ? capabilities.subgroup_min_size : 0,
    subgroup_max_size: subgroups ? capabilities.subgroup_max_size : 0,
    subgroup_matrix: subgroups
      ? capabilities.subgroup_matrix.filter((config) =>
        (f16 || !usesF16(config)) && (wanted?.includes(matrixKey(config)) ?? true)
      )
      : [],
    timestamps: capabilities.timestamps && restrict.timestamps !== false,
    software: restrict.software ?? capabilities.software,
    max_binding_bytes: lower("max_binding_bytes"),
    max_buffer_bytes: lower("max_buffer_bytes"),
    max_uniform_bytes: lower("max_uniform_bytes"),
    max_workgroup_bytes: lower("max_workgroup_bytes"),
    max_invocations: lower("max_invocations"),
    max_storage_buffers: lower("max_storage_buffers"),
    max_workgroups_per_dimension: lower("max_workgroups_per_dimension"),
  };
}

/** The features that a kernel needs beyond plain WGSL. */
interface KernelNeeds {
  /** The type `f16`. */
  readonly f16?: boolean;
  /** Subgroup built-ins. */
  readonly subgroups?: boolean;
  /** Subgroup matrices. */
  readonly subgroup_matrix?: boolean;
}

/**
 * The `enable` and `diagnostic` lines that the runtime's WGSL compiler wants at the head of a kernel. Tint, and
 * the standard that browsers follow, insist on `enable subgroups;` where Deno's naga rejects the line and knows the built-ins without it.
 *
 * @throws {Error} If the kernel needs what the capabilities lack.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { preamble, WEBGPU_DEFAULTS } from "./capabilities.ts";
 *
 * const capabilities = { ...WEBGPU_DEFAULTS, f16: true, subgroups: true };
 * const needs = { f16: true, subgroups: true };
 * assertEquals(preamble({ runtime: "deno", capabilities }, needs), "enable f16;\n");
 * assertEquals(
 *   preamble({ runtime: "dawn", capabilities }, needs),
 *   "enable f16;\nenable subgroups;\ndiagnostic(off, subgroup_uniformity);\n",
 * );
 * ```
 */
export function preamble(
  gpu: { readonly runtime: DeviceRuntime; readonly capabilities: Capabilities },
  needs: KernelNeeds,
): string {
  const { runtime, capabilities } = gpu;
  const missing = (what: string) =>
    new Error(`The kernel needs ${what}, which this device (${runtime}) does not offer.`);
  if (needs.f16 && !capabilities.f16) throw missing("f16");
  if (needs.subgroups && !capabilities.subgroups) throw missing("subgroups");
  if (needs.subgroup_matrix && capabilities.subgroup_matrix.length === 0) {
    throw missing("subgroup matrices");
  }
  const lines: string[] = [];
  if (needs.f16) lines.push("enable f16;");
  if (runtime !== "deno") {
    if (needs.subgroups || needs.subgroup_matrix) lines.push("enable subgroups;");
    // Tint takes a branch on what a subgroup operation returned for one that its invocations may part at.
    if (needs.subgroups) lines.push("diagnostic(off, subgroup_uniformity);");
    if (needs.subgroup_matrix) {
      lines.push("enable chromium_experimental_subgroup_matrix;");
      // Tint cannot see that loops over tiles are uniform.
      lines.push("diagnostic(off, chromium.subgroup_matrix_uniformity);");
    }
  }
  return lines.map((line) => line + "\n").join("");
}

type NumericCapability = {
  [K in keyof Capabilities]: Capabilities[K] extends number ? K : never;
}[keyof Capabilities];

function matrixKey({ component, result, m, n, k }: SubgroupMatrixConfig): string {
  return `${component} ${result} ${m}x${n}x${k}`;
}

function usesF16({ component, result }: SubgroupMatrixConfig): boolean {
  return component === "f16" || result === "f16";
}
