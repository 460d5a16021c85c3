/**
 * A thread that trains, one model after the other, on a device of its own. Pipelines compiled for one model serve the next.
 *
 * It tells the stage what it would have done itself (`messages.ts`).
 *
 * @module
 */

/// <reference lib="deno.worker" />

import type { Gpu } from "../../../model/gpu/device.ts";
import { openGpu } from "../../../model/gpu/open.ts";
import type { TrainingHooks } from "../../../model/training/training.ts";
import { gpuProvenance } from "../../shared_gpu.ts";
import { trainModel } from "../train_model.ts";
import type { HookCall, StageMessage, ThreadError, ThreadJob, ThreadMessage } from "./messages.ts";

let gpu: Promise<Gpu> | undefined;
let stop = new AbortController();
let flush: PromiseWithResolvers<void> | undefined;

self.onmessage = ({ data }: MessageEvent<StageMessage>) => {
  switch (data.kind) {
    case "train":
      train(data.job);
      break;
    case "flushed":
      flush?.resolve();
      break;
    case "not flushed":
      flush?.reject(new Error("The stage did not keep the numbers"));
      break;
    case "stop":
      stop.abort(new Error("Asked to stop"));
      break;
  }
};

async function train({ runtime, modules, ...job }: ThreadJob): Promise<void> {
  stop = new AbortController();
  const { signal } = stop;
  try {
    const device = await (gpu ??= openGpu({ runtime }));
    tell({ kind: "provenance", ...gpuProvenance(device) });
    const onLoad = (module: string) => {
      if (modules.includes(module)) return;
      throw new Error(`${module} is not among the modules that the node's key covers`);
    };
    tell({ kind: "done", result: await trainModel(job, { gpu: device, hooks, signal, onLoad }) });
  } catch (error) {
    if (signal.aborted && error === signal.reason) tell({ kind: "stopped" });
    else tell({ kind: "failed", error: describe(error) });
  }
}

const hooks: TrainingHooks = {
  rewind: (step) => call(["rewind", step]),
  write: (step, values) => call(["write", step, values]),
  measure: (step, values) => call(["measure", step, values]),
  sample: (step, samples) => call(["sample", step, samples]),
  progress: (step, remark) => call(["progress", step, remark]),
  info: (message) => call(["info", message]),
  warn: (message) => call(["warn", message]),
  flush() {
    flush = Promise.withResolvers();
    tell({ kind: "flush" });
    return flush.promise;
  },
};

function call(call: HookCall): void {
  tell({ kind: "hook", call });
}

function tell(message: ThreadMessage): void {
  self.postMessage(message);
}

/** A copy of an error loses its system's code. */
function describe(error: unknown): ThreadError {
  if (!(error instanceof Error)) return { message: String(error) };
  const { message, stack } = error;
  for (let e: unknown = error; e instanceof Error; e = e.cause) {
    const { code } = e as Error & { code?: unknown };
    if (typeof code === "string") return { message, ...stack !== undefined && { stack }, code };
  }
  return { message, ...stack !== undefined && { stack } };
}
