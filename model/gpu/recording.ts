/**
 * Renders the kernels of recorded plans for devices that are not here, so that every variant can be compiled by both WGSL
 * compilers on any machine.
 *
 * @module
 */

import { type Capabilities, type Runtime, WEBGPU_DEFAULTS } from "./capabilities.ts";
import { placeCopies } from "./copies.ts";
import type { KernelSource } from "./dawn_null.ts";
import type { Gpu } from "./device.ts";
import { renderKernel } from "./kernel.ts";
import type { Plan } from "./plan.ts";

/** A kind of device, by what it offers. */
interface DeviceProfile {
  readonly name: string;
  readonly runtime: Runtime;
  readonly capabilities: Capabilities;
}

const llvmpipe: Capabilities = {
  ...WEBGPU_DEFAULTS,
  f16: true,
  subgroups: true,
  subgroup_min_size: 8,
  subgroup_max_size: 8,
  timestamps: true,
  software: true,
  max_workgroup_bytes: 32 << 10,
  max_invocations: 1024,
  max_storage_buffers: 32,
};

const discrete: Capabilities = {
  ...llvmpipe,
  subgroup_min_size: 32,
  subgroup_max_size: 32,
  software: false,
  max_binding_bytes: 2147483392,
  max_buffer_bytes: 4294967040,
  max_workgroup_bytes: 48 << 10,
};

/** One device for each way that capabilities fall together, as measured: nothing optional, software, and a real GPU. */
export const DEVICE_PROFILES: readonly DeviceProfile[] = [
  { name: "WebGPU's defaults", runtime: "deno", capabilities: WEBGPU_DEFAULTS },
  { name: "WebGPU's defaults", runtime: "dawn", capabilities: WEBGPU_DEFAULTS },
  { name: "llvmpipe", runtime: "deno", capabilities: llvmpipe },
  {
    name: "SwiftShader",
    runtime: "dawn",
    capabilities: {
      ...llvmpipe,
      f16: false,
      subgroup_min_size: 4,
      subgroup_max_size: 4,
      max_invocations: 256,
      max_storage_buffers: 12,
    },
  },
  { name: "GPU", runtime: "deno", capabilities: discrete },
  {
    name: "GPU",
    runtime: "dawn",
    capabilities: {
      ...discrete,
      subgroup_matrix: ["f32", "f16"].flatMap((result) => [
        { component: "f16", result, m: 16, n: 16, k: 16 },
        { component: "f16", result, m: 16, n: 8, k: 16 },
        { component: "f16", result, m: 16, n: 8, k: 8 },
      ]),
    },
  },
];

/**
 * A device to record plans for, and nothing else. It has no memory and runs nothing, unless `memory` lends its device to recordings that allocate
 * weights or tables.
 */
export function profileGpu({ name, runtime, capabilities }: DeviceProfile, memory?: Gpu): Gpu {
  const none = () => {
    throw new Error(`The device profile ${name} (${runtime}) only records plans.`);
  };
  return {
    get device(): GPUDevice {
      return memory?.device ?? none();
    },
    runtime,
    adapter: {
      vendor: "",
      architecture: "",
      device: "",
      description: `${name} (${runtime})`,
      software: capabilities.software,
      features: [],
    },
    capabilities,
    check: none,
    guard: none,
    attempt: none,
    close() {},
  };
}

/** A kernel's text with what it was rendered from. */
export interface RecordedKernel extends KernelSource {
  /** Name of the `.wgsl` file, without its ending. */
  readonly name: string;
  /** The device that it was rendered for. */
  readonly profile: DeviceProfile;
}

/**
 * Records plans for a profile and renders each distinct kernel once; `options.memory` is a real device for recordings that
 * allocate. A plan is recorded without a device: whoever builds a model calls
 * `record` with what it would otherwise give {@linkcode Plan}.
 */
export function recordKernels(
  profile: DeviceProfile,
  record: (gpu: Gpu) => readonly Plan[],
  options: { memory?: Gpu } = {},
): RecordedKernel[] {
  const gpu = profileGpu(profile, options.memory);
  const kernels = new Map<string, RecordedKernel>();
  for (const plan of record(gpu)) {
    for (const { step } of placeCopies(plan)) {
      if (step.kind !== "dispatch") continue;
      const { call } = step;
      const source = renderKernel(gpu, call);
      if (kernels.has(source)) continue;
      kernels.set(source, {
        name: call.name,
        label: `${call.name} of ${call.label} on ${gpu.adapter.description}`,
        source,
        profile,
        // Only what is meant for default limits has to keep to them.
        pipeline: profile.capabilities === WEBGPU_DEFAULTS,
      });
    }
  }
  return [...kernels.values()];
}
