/**
 * The devices that the stages of one process share. Opening one takes a while, and pipelines compiled for it serve every
 * model of a sweep. A node has a device of its own while it runs.
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

/** A device that no other node of this process has until it is given back. */
export interface TakenGpu extends Disposable {
  readonly gpu: Gpu;
}

/** Devices that were given back. */
const idle: Gpu[] = [];
let sharedTaken = false;

/** Takes a device that no node has, and opens one where there is none. The first is {@linkcode sharedGpu}'s. */
export async function takeGpu(): Promise<TakenGpu> {
  const gpu = idle.pop() ?? await openNext();
  return { gpu, [Symbol.dispose]: () => void idle.push(gpu) };
}

async function openNext(): Promise<Gpu> {
  if (sharedTaken) return await openGpu({ runtime: chosenRuntime() });
  sharedTaken = true;
  return await sharedGpu();
}

/** Nodes that share a processor that plays GPU. More brought nothing on two cores. */
const NODES_ON_A_PROCESSOR = 2;
let sharing = false;

/**
 * How many nodes compute in this process at a time: two where a processor plays GPU, else one. Two threads take 0.92 of one thread's time for a step of
 * `configs/tiny.yaml`, as each of its hundreds of dispatches is handed over and waited for; another model fills the second core. Opens the device.
 */
export async function nodesAtOnce(): Promise<number> {
  const cores = navigator.hardwareConcurrency;
  // Dawn's software adapter was not measured.
  if (chosenRuntime() !== "deno" || cores < NODES_ON_A_PROCESSOR) return 1;
  try {
    sharing = (await sharedGpu()).adapter.software;
  } catch {
    // The node that needs the device says why there is none.
  }
  if (!sharing) return 1;
  // For the drivers of further threads; this one's is open. With no thread of its own llvmpipe computes where the commands are, and hands nothing over.
  if (!Deno.env.get("LP_NUM_THREADS")) {
    const threads = Math.floor(cores / NODES_ON_A_PROCESSOR);
    Deno.env.set("LP_NUM_THREADS", String(threads > 1 ? threads : 0));
  }
  return NODES_ON_A_PROCESSOR;
}

/** Whether several nodes of this process share a processor that plays GPU. */
export function sharesProcessor(): boolean {
  return sharing;
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
