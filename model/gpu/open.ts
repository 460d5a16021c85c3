/**
 * Finds an adapter from Deno and opens its device: that of Deno's own WebGPU, or of Dawn when asked. A page has neither; it opens
 * the browser's adapter with `openAdapter` of `device.ts`.
 *
 * @module
 */

import type { Capabilities, Runtime } from "./capabilities.ts";
import { paceDawn } from "./dawn_polling.ts";
import { type Gpu, openAdapter } from "./device.ts";

interface OpenGpuOptions {
  /** Defaults to `deno`. `dawn` loads `npm:webgpu` and needs `--allow-ffi`. */
  readonly runtime?: Runtime;
  /** Lowers what kernels may use, and what the device validates: see {@linkcode restrictCapabilities}. */
  readonly restrict?: Partial<Capabilities>;
  /**
   * Path of the Vulkan driver's manifest (`*_icd.json`), instead of whatever the loader finds. Only heeded by the first device
   * of a runtime in a process, for the Vulkan loader reads it once. Needs `--allow-env`.
   */
  readonly icd?: string;
}

/** No adapter answered. The message says how to get one. */
export class NoGpuError extends Error {
  /** Names the attempts, without the advice. */
  readonly remark: string;

  /** Makes the error for a runtime, with a remark on what was tried. */
  constructor(runtime: Runtime, remark: string) {
    super(
      `No GPU answers to WebGPU (${runtime}): ${remark} Run \`./setup.sh\`, which installs a Vulkan loader and a software ` +
        "driver where there is none, and `deno task doctor`, which shows what is missing.",
    );
    this.name = "NoGpuError";
    this.remark = remark;
  }
}

/**
 * Opens a device. Close it when done.
 *
 * @throws {NoGpuError} If there is no adapter.
 *
 * @example
 * ```ts
 * import { openGpu } from "./open.ts";
 *
 * const gpu = await openGpu({ restrict: { f16: false } });
 * console.log(gpu.adapter.description, gpu.capabilities.max_binding_bytes);
 * gpu.close();
 * ```
 */
export async function openGpu(options: OpenGpuOptions = {}): Promise<Gpu> {
  const runtime = options.runtime ?? "deno";
  await prepareVulkan(options.icd);
  const adapter = await requestAdapter(runtime);
  const { restrict } = options;
  const gpu = await openAdapter(adapter, { runtime, ...restrict && { restrict } });
  // Dawn corrupts memory once its objects are garbage-collected while the device is used.
  if (runtime === "dawn") keepAlive.push(adapter, gpu.device);
  return gpu;
}

const keepAlive: unknown[] = [];
let dawn: Promise<GPU> | undefined;

/**
 * Settles what the Vulkan loader, its drivers and Deno read from the environment, before they are first used.
 */
async function prepareVulkan(icd: string | undefined): Promise<void> {
  if (icd !== undefined) {
    Deno.env.set("VK_ICD_FILENAMES", icd);
    Deno.env.set("VK_DRIVER_FILES", icd);
  }
  if (Deno.build.os !== "linux") return;
  // Without a Vulkan driver wgpu falls back to OpenGL, where compute is slow and half of it is missing.
  await setUnlessSet("DENO_WEBGPU_BACKEND", "vulkan");
  // Mesa grumbles on stderr when it is not set, though nothing here draws on a screen.
  await setUnlessSet("XDG_RUNTIME_DIR", "/tmp");
}

async function setUnlessSet(variable: string, value: string): Promise<void> {
  const permission = await Deno.permissions.query({ name: "env", variable });
  if (permission.state === "granted" && !Deno.env.get(variable)) Deno.env.set(variable, value);
}

async function requestAdapter(runtime: Runtime): Promise<GPUAdapter> {
  let gpu: GPU;
  let remark = "there is no adapter.";
  try {
    gpu = runtime === "dawn" ? await (dawn ??= loadDawn()) : navigator.gpu;
    const adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
    if (adapter) return adapter;
    if (runtime === "dawn") {
      remark = "Dawn found no adapter (Debian 12's llvmpipe lacks a feature that it requires).";
    }
  } catch (error) {
    remark = `${error instanceof Error ? error.message : error}.`.replace(/\.\.$/, ".");
  }
  throw new NoGpuError(runtime, remark);
}

/** Dawn's library, the package `webgpu`, isn't there or doesn't load. The message says how to get it. */
export class NoDawnError extends Error {
  /** Makes the error for what the import said. */
  constructor(cause: unknown) {
    const [first] = (cause instanceof Error ? cause.message : String(cause)).split("\n");
    super(
      `Dawn can't be loaded (${
        first?.replace(/\.$/, "")
      }). \`deno install\` brings its package \`webgpu\`; its library ` +
        "needs --allow-ffi",
      { cause },
    );
    this.name = "NoDawnError";
  }
}

/**
 * Loads Dawn's library without opening a device: what the runtime `dawn` needs before anything else.
 *
 * @throws {NoDawnError} If it isn't there.
 */
export async function importDawn(): Promise<{ create(flags: string[]): GPU }> {
  try {
    // @ts-types="../../types/webgpu.d.ts"
    return await import("webgpu");
  } catch (cause) {
    throw new NoDawnError(cause);
  }
}

async function loadDawn(): Promise<GPU> {
  const { create } = await importDawn();
  const instance = create([
    ...(Deno.build.os === "linux" ? ["backend=vulkan"] : []),
    // Subgroup matrices are experimental; robustness costs a third of a matrix product's speed, and every kernel
    // guards its own edges.
    "enable-dawn-features=allow_unsafe_apis,vulkan_enable_f16_on_nvidia,use_vulkan_memory_model,disable_robustness",
    // Timestamps are for the profiler, and 65 µs apart unless asked otherwise.
    "disable-dawn-features=timestamp_quantization",
  ]);
  keepAlive.push(instance);
  paceDawn();
  return instance;
}
