/**
 * The circumstances of a measurement: adapter, runtime, driver, commit and date.
 *
 * @module
 */

import type { Gpu } from "../../../model/gpu/device.ts";
import { revisionOf } from "../../../pipeline/run/revision.ts";

/** Where a measurement comes from. Unknown fields are absent. */
export interface MeasuredOn {
  /** The adapter's name: `NVIDIA H200`. */
  readonly adapter: string;
  /** Whether a processor plays GPU. */
  readonly software: boolean;
  /** Whose WebGPU it is. */
  readonly runtime: string;
  /** The driver, as it calls itself. */
  readonly driver?: string;
  /** Version of Deno. */
  readonly deno: string;
  /** Commit of the working tree, or of the tree that a bundle was made of. */
  readonly commit?: string;
  /** Whether files differ from the commit. */
  readonly modified?: boolean;
  /** When the measurement was begun, ISO 8601. */
  readonly date: string;
}

/** Finds out the circumstances of a measurement; `root` is the folder of the project. */
export async function measuredOn(gpu: Gpu, root: string): Promise<MeasuredOn> {
  const [driver, revision] = await Promise.all([
    gpu.adapter.driver ?? nvidiaDriver(),
    revisionOf(root),
  ]);
  return {
    adapter: gpu.adapter.description,
    software: gpu.adapter.software,
    runtime: gpu.runtime,
    ...driver !== undefined && { driver },
    deno: Deno.version.deno,
    ...revision,
    date: new Date().toISOString(),
  };
}

/** The driver's version from NVIDIA's kernel module, where WebGPU does not tell; Deno reads it only with every permission (`--allow-all`). */
async function nvidiaDriver(): Promise<string | undefined> {
  if (Deno.build.os !== "linux") return undefined;
  try {
    const text = await Deno.readTextFile("/proc/driver/nvidia/version");
    const version = /\s(\d+\.\d+(?:\.\d+)?)\s/.exec(text)?.[1];
    return version === undefined ? undefined : `NVIDIA ${version}`;
  } catch {
    return undefined;
  }
}
