/**
 * The device that the stages of one process share. Opening one takes a while, and pipelines compiled for it serve every
 * model of a sweep.
 *
 * @module
 */

import { type Gpu, openGpu, type Runtime } from "../model/gpu/device.ts";
import type { JsonValue } from "../pipeline/stage.ts";

let shared: Promise<Gpu> | undefined;

/** Opens the device at the first call. `ETHOS_GPU=dawn` asks for Dawn instead of Deno's own WebGPU. */
export function sharedGpu(): Promise<Gpu> {
  return shared ??= openGpu({ runtime: runtimeOf(Deno.env.get("ETHOS_GPU")) });
}

function runtimeOf(name: string | undefined): Runtime {
  if (name === undefined || name === "" || name === "deno") return "deno";
  if (name === "dawn") return "dawn";
  throw new Error(`ETHOS_GPU is "${name}"; expected "deno" or "dawn"`);
}

/** What a node's provenance says of the device. */
export function gpuProvenance(gpu: Gpu): Readonly<Record<string, JsonValue>> {
  return { adapter: gpu.adapter.description, runtime: gpu.runtime };
}
