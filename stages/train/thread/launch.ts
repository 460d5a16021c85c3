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
 * Trains in a thread to the end, or until the signal asks to stop. When it returns or throws, the thread writes nothing more.
 *
 * @throws {Error} That of the training, of a hook, or of a thread that ended.
 */
export async function trainInThread(
  job: ThreadJob,
  options: ThreadOptions,
): Promise<TrainingResult> {
  const { signal } = options;
  signal.throwIfAborted();
  const thread = idle.pop() ?? new Worker(THREAD_MODULE, { type: "module" });
  const end = Promise.withResolvers<TrainingResult>();
  const say = (message: StageMessage) => thread.postMessage(message);
  const stop = () => say({ kind: "stop" });
  let failed: { readonly error: unknown } | undefined;
  thread.onmessage = async ({ data }: MessageEvent<ThreadMessage>) => {
    switch (data.kind) {
      case "done":
        return failed ? end.reject(failed.error) : end.resolve(data.result);
      case "stopped":
        return end.reject(failed ? failed.error : signal.reason);
      case "failed":
        return end.reject(failed ? failed.error : errorOf(data.error));
    }
    try {
      await take(data, options);
      if (data.kind === "flush") say({ kind: "flushed" });
    } catch (error) {
      failed ??= { error };
      if (data.kind === "flush") say({ kind: "not flushed" });
      else stop();
    }
  };
  let ended = false;
  thread.onerror = (event) => {
    event.preventDefault();
    ended = true;
    end.reject(new Error(`The thread that trains ended: ${event.message}`));
  };
  signal.addEventListener("abort", stop);
  try {
    say({ kind: "train", job });
    return await end.promise;
  } finally {
    signal.removeEventListener("abort", stop);
    if (ended) thread.terminate();
    else idle.push(thread);
  }
}

/** Ends the threads that have no training. */
export function endIdleThreads(): void {
  for (const thread of idle.splice(0)) thread.terminate();
}

/** Does what a thread tells. */
async function take(
  message: Extract<ThreadMessage, { kind: "provenance" | "hook" | "flush" }>,
  { hooks, provenance }: ThreadOptions,
): Promise<void> {
  switch (message.kind) {
    case "provenance":
      return provenance({ adapter: message.adapter, runtime: message.runtime });
    case "hook":
      return callHook(hooks, message.call);
    case "flush":
      await hooks.flush();
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
