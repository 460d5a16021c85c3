/**
 * Where the time of a plan goes, by dispatch, from timestamp queries.
 *
 * @module
 */

import type { BuiltPlan } from "./build.ts";
import type { Gpu } from "./device.ts";
import type { Dispatch } from "./plan.ts";

/** Queries in one set; WebGPU allows 4,096. */
const QUERIES = 4096;

/** One dispatch of a profiled plan. */
interface DispatchTime {
  readonly call: Dispatch;
  /** When it began, seconds after the plan's first dispatch. */
  readonly begin: number;
  readonly seconds: number;
}

/**
 * Runs a plan once with a pass and two timestamps a dispatch, and reads them back.
 *
 * Passes of their own keep dispatches from overlapping, so the sum may exceed the time of a plain run.
 *
 * @throws {Error} When the device has no timestamps.
 */
export async function profilePlan(gpu: Gpu, built: BuiltPlan): Promise<DispatchTime[]> {
  if (!gpu.capabilities.timestamps) {
    throw new Error(`${gpu.adapter.description} has no timestamp queries to profile with`);
  }
  const calls = built.plan.steps.flatMap((step) => step.kind === "dispatch" ? [step.call] : []);
  const count = 2 * calls.length;
  const { device } = gpu;
  const sets = Array.from(
    { length: Math.ceil(count / QUERIES) },
    (_, i) =>
      device.createQuerySet({ type: "timestamp", count: Math.min(QUERIES, count - i * QUERIES) }),
  );
  const usage = GPUBufferUsage.QUERY_RESOLVE | GPUBufferUsage.COPY_SRC;
  const resolved = device.createBuffer({ label: "timestamps", size: 8 * count, usage });
  const staging = device.createBuffer({
    label: "timestamps read back",
    size: 8 * count,
    usage: GPUBufferUsage.COPY_DST | GPUBufferUsage.MAP_READ,
  });
  try {
    const encoder = device.createCommandEncoder({ label: "profile" });
    built.encode(encoder, (i) => ({
      querySet: sets[Math.floor(2 * i / QUERIES)]!,
      beginningOfPassWriteIndex: (2 * i) % QUERIES,
      endOfPassWriteIndex: (2 * i + 1) % QUERIES,
    }));
    sets.forEach((set, i) => encoder.resolveQuerySet(set, 0, set.count, resolved, 8 * i * QUERIES));
    encoder.copyBufferToBuffer(resolved, 0, staging, 0, 8 * count);
    device.queue.submit([encoder.finish()]);
    await gpu.guard(staging.mapAsync(GPUMapMode.READ));
    const times = new BigUint64Array(staging.getMappedRange().slice(0));
    const zero = times[0] ?? 0n;
    return calls.map((call, i) => ({
      call,
      begin: Number(times[2 * i]! - zero) / 1e9,
      seconds: Number(times[2 * i + 1]! - times[2 * i]!) / 1e9,
    }));
  } finally {
    for (const set of sets) set.destroy();
    resolved.destroy();
    staging.destroy();
  }
}
