/**
 * Messages between the `train` stage and the thread that trains for it.
 *
 * @module
 */

import type { DeviceRuntime, Runtime } from "../../../model/gpu/device.ts";
import type { TrainingHooks, TrainingResult } from "../../../model/training/training.ts";
import type { TrainingJob } from "../train_model.ts";

/** A training, and what its node's key covers. */
export interface ThreadJob extends TrainingJob {
  readonly runtime: Runtime;
  /** URLs of the modules that the thread may load. */
  readonly modules: readonly string[];
}

/** The stage's messages: a training, whether numbers are safe, and that the training shall stop at a safe place. */
export type StageMessage =
  | { readonly kind: "train"; readonly job: ThreadJob }
  | { readonly kind: "flushed" | "not flushed" }
  | { readonly kind: "stop" };

/** The hooks that nobody waits for. */
type TellingHook = Exclude<keyof TrainingHooks, "flush">;

/** A hook with its arguments. */
export type HookCall = {
  readonly [Hook in TellingHook]: readonly [Hook, ...Parameters<TrainingHooks[Hook]>];
}[TellingHook];

/** An error, as far as it goes from thread to thread. */
export interface ThreadError {
  readonly message: string;
  readonly stack?: string;
  /** The system's code, `ENOSPC`. */
  readonly code?: string;
}

/** The thread's messages. */
export type ThreadMessage =
  | { readonly kind: "provenance"; readonly adapter: string; readonly runtime: DeviceRuntime }
  | { readonly kind: "hook"; readonly call: HookCall }
  | { readonly kind: "flush" }
  | { readonly kind: "done"; readonly result: TrainingResult }
  | { readonly kind: "stopped" }
  | { readonly kind: "failed"; readonly error: ThreadError };
