/**
 * The device that the stages of one process share. Opening one takes a while, and pipelines compiled for it serve every
 * model of a sweep.
 *
 * @module
 */

import { type Gpu, openGpu, type Runtime } from "../model/gpu/device.ts";

let shared: Promise<Gpu> | undefined;
let chosen: Runtime | undefined;

/** Says whose WebGPU {@linkcode sharedGpu} opens, whatever the environment says. To be called before that. */
export function chooseRuntime(runtime: Runtime): void {
  if (shared !== undefined) throw new Error("The device is open already.");
  chosen = runtime;
}

/** Opens the device at the first call: on the runtime that was chosen, else on what `ETHOS_GPU` names, else on Deno's. */
export function sharedGpu(): Promise<Gpu> {
  return shared ??= openGpu({ runtime: chosen ?? runtimeOf(Deno.env.get("ETHOS_GPU")) });
}

function runtimeOf(name: string | undefined): Runtime {
  if (name === undefined || name === "" || name === "deno") return "deno";
  if (name === "dawn") return "dawn";
  throw new Error(`ETHOS_GPU is "${name}"; expected "deno" or "dawn"`);
}

/** The device that a result names: its adapter and its WebGPU runtime. */
export function gpuProvenance(gpu: Gpu): { readonly adapter: string; readonly runtime: Runtime } {
  return { adapter: gpu.adapter.description, runtime: gpu.runtime };
}
