/**
 * Devices for tests, chosen in one place: `ETHOS_GPU=dawn` runs every GPU test on Dawn instead of Deno's WebGPU, on
 * SwiftShader where there is no real GPU (`ETHOS_ICD` names another Vulkan driver's manifest).
 *
 * @module
 */

import type { Capabilities, Runtime } from "./capabilities.ts";
import type { Gpu } from "./device.ts";
import { openGpu } from "./open.ts";

/** Where Debian's `chromium` package and others put SwiftShader's manifest. */
const SWIFTSHADER_MANIFESTS = [
  "/usr/lib/chromium/vk_swiftshader_icd.json",
  "/usr/lib64/chromium-browser/vk_swiftshader_icd.json",
  "/opt/google/chrome/vk_swiftshader_icd.json",
];

/** The manifest of SwiftShader's Vulkan driver, if it is installed. */
export function findSwiftShader(): string | undefined {
  const named = Deno.env.get("ETHOS_ICD");
  if (named) return named;
  for (const path of SWIFTSHADER_MANIFESTS) {
    try {
      if (Deno.statSync(path).isFile) return path;
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
}

let shared: Promise<Gpu> | undefined;
const restricted = new Map<string, Promise<Gpu>>();

/**
 * Opens the device that tests run on. One device a test file, and one more for each distinct `restrict`; they are shared, so
 * `close()` does nothing. Throws where there is no GPU: a test that needs one fails, it does not skip.
 *
 * @example
 * ```ts
 * import { openTestGpu } from "./testing.ts";
 *
 * const gpu = await openTestGpu({ f16: false, max_binding_bytes: 1 << 16 });
 * console.log(gpu.capabilities.f16); // false
 * ```
 */
export function openTestGpu(restrict?: Partial<Capabilities>): Promise<Gpu> {
  if (restrict === undefined) return shared ??= open({});
  const key = JSON.stringify(restrict);
  let gpu = restricted.get(key);
  if (!gpu) restricted.set(key, gpu = open(restrict));
  return gpu;
}

/** The runtime that `ETHOS_GPU` asks for. */
export function testRuntime(): Runtime {
  const value = Deno.env.get("ETHOS_GPU") || "deno";
  if (value !== "deno" && value !== "dawn") {
    throw new Error(`ETHOS_GPU is ${JSON.stringify(value)}; it may be "deno" or "dawn".`);
  }
  return value;
}

/**
 * Whether kernels are compiled by SwiftShader, which takes seconds for a large one where llvmpipe takes a tenth of them. There, tests whose kernels
 * differ little run one of them: all of them run on Deno's WebGPU, and on Dawn with a GPU that `ETHOS_ICD` names.
 */
export function compilesSlowly(): boolean {
  return testRuntime() === "dawn" && /swiftshader/i.test(findSwiftShader() ?? "");
}

/**
 * The devices, by name, that a test's table asks for. SwiftShader gets none without subgroups or halves, since an adapter of Dawn's has both.
 */
export function testDevices(
  table: readonly (readonly [string, Partial<Capabilities>])[],
): (readonly [string, Partial<Capabilities>])[] {
  return table.filter(([, { subgroups = true, f16 = true }]) =>
    !compilesSlowly() || (subgroups && f16)
  );
}

async function open(restrict: Partial<Capabilities>): Promise<Gpu> {
  const runtime = testRuntime();
  const icd = runtime === "dawn" ? findSwiftShader() : Deno.env.get("ETHOS_ICD");
  const gpu = await openGpu({ runtime, restrict, ...(icd ? { icd } : {}) });
  return {
    device: gpu.device,
    runtime: gpu.runtime,
    adapter: gpu.adapter,
    capabilities: gpu.capabilities,
    check: () => gpu.check(),
    guard: (promise) => gpu.guard(promise),
    attempt: (label, create) => gpu.attempt(label, create),
    close() {},
  };
}
