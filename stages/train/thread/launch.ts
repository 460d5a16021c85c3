/**
 * Runs trainings in threads of this process, where several share a processor that plays GPU.
 *
 * A submission to such a device blocks its thread until the one before it is computed, and all devices of one thread take turns in one driver. A thread
 * has a driver of its own, so trainings fill the cores side by side.
 *
 * @module
 */

import type { DeviceRuntime } from "../../../model/gpu/device.ts";
import type { TrainingHooks, TrainingResult } from "../../../model/training/training.ts";
import type { HookCall, StageMessage, ThreadError, ThreadJob, ThreadMessage } from "./messages.ts";

/** URL of the threads' program. */
export const THREAD_MODULE: string = import.meta.resolve("./thread.ts");

/** Options of {@linkcode trainInThread}. */
export interface ThreadOptions {
  readonly hooks: TrainingHooks;
  /** When aborted, the training stops at a safe place. */
  readonly signal: AbortSignal;
  /** Takes the thread's adapter and runtime. */
  readonly provenance: (
    values: { readonly adapter: string; readonly runtime: DeviceRuntime },
  ) => void;
}

/** Threads without a training. They keep their devices and pipelines. */
const idle: Worker[] = [];

/**
 * Trains in a thread to the end, or until the signal asks to stop.
 *
 * @throws {Error} That of the training, or of a thread that ended.
 */
export async function trainInThread(
  job: ThreadJob,
  { hooks, signal, provenance }: ThreadOptions,
): Promise<TrainingResult> {
  signal.throwIfAborted();
  const thread = idle.pop() ?? new Worker(THREAD_MODULE, { type: "module" });
  const say = (message: StageMessage) => thread.postMessage(message);
  const stop = () => say({ kind: "stop" });
  signal.addEventListener("abort", stop);
  const end = Promise.withResolvers<TrainingResult>();
  thread.onmessage = async ({ data }: MessageEvent<ThreadMessage>) => {
    try {
      switch (data.kind) {
        case "provenance":
          provenance({ adapter: data.adapter, runtime: data.runtime });
          break;
        case "hook":
          callHook(hooks, data.call);
          break;
        case "flush":
          await hooks.flush();
          say({ kind: "flushed" });
          break;
        case "done":
          end.resolve(data.result);
          break;
        case "stopped":
          end.reject(signal.reason);
          break;
        case "failed":
          end.reject(errorOf(data.error));
          break;
      }
    } catch (error) {
      // The thread waits for nobody's sake any more.
      broken = true;
      end.reject(error);
    }
  };
  let broken = false;
  thread.onerror = (event) => {
    event.preventDefault();
    broken = true;
    end.reject(new Error(`The thread that trains ended: ${event.message}`));
  };
  try {
    say({ kind: "train", job });
    return await end.promise;
  } finally {
    signal.removeEventListener("abort", stop);
    if (broken) thread.terminate();
    else idle.push(thread);
  }
}

function callHook(hooks: TrainingHooks, [name, ...values]: HookCall): void {
  (hooks[name] as (...values: unknown[]) => void)(...values);
}

function errorOf({ message, stack, code }: ThreadError): Error {
  const error = Object.assign(new Error(message), code !== undefined && { code });
  if (stack !== undefined) error.stack = stack;
  return error;
}
