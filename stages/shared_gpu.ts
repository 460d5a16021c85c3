/**
 * The device that the stages of one process share. Opening one takes a while, and pipelines compiled for it serve every
 * model of a sweep.
 *
 * @module
 */

import type { DeviceRuntime, Gpu, Runtime } from "../model/gpu/device.ts";
import { openGpu } from "../model/gpu/open.ts";

let shared: Promise<Gpu> | undefined;
let chosen: Runtime | undefined;

/** Says whose WebGPU {@linkcode sharedGpu} opens, whatever the environment says. To be called before that. */
export function chooseRuntime(runtime: Runtime): void {
  if (shared !== undefined) throw new Error("The device is open already.");
  chosen = runtime;
}

/** The runtime that was chosen, else the one that `ETHOS_GPU` names, else Deno's. */
export function chosenRuntime(): Runtime {
  return chosen ?? runtimeOf(Deno.env.get("ETHOS_GPU"));
}

/** Opens the device at the first call, on {@linkcode chosenRuntime}. */
export function sharedGpu(): Promise<Gpu> {
  return shared ??= openGpu({ runtime: chosenRuntime() });
}

function runtimeOf(name: string | undefined): Runtime {
  if (name === undefined || name === "" || name === "deno") return "deno";
  if (name === "dawn") return "dawn";
  throw new Error(`ETHOS_GPU is "${name}"; expected "deno" or "dawn"`);
}

/** The device that a result names: its adapter and its WebGPU runtime. */
export function gpuProvenance(
  gpu: Gpu,
): { readonly adapter: string; readonly runtime: DeviceRuntime } {
  return { adapter: gpu.adapter.description, runtime: gpu.runtime };
}
