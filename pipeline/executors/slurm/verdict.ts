/**
 * Judges a task by all that is known of it: the store's files are the truth, Slurm's words fill what they leave open.
 *
 * @module
 */

import { explain } from "../../errors.ts";
import type { QueuedTask } from "./client.ts";
import type { TaskEnd } from "./waves.ts";

/** All that is known of a task whose node is not published. */
export interface Evidence {
  /** Name of the node. */
  readonly node: string;
  /** The task's state in the queue; nothing when it has forgotten the task. */
  readonly queued?: Pick<QueuedTask, "state" | "reason">;
  /** The state that the accounting has. */
  readonly accounted?: string;
  /** How the task itself says that it ended. */
  readonly end?: TaskEnd;
  /** Seconds for which the queue, asked, has not shown it at work. */
  readonly quiet: number;
}

/** `active`: it waits or runs. `again`: it goes on where it stopped, and nothing went wrong. */
export type Verdict =
  | { readonly state: "active" }
  | { readonly state: "again" }
  | {
    readonly state: "failed";
    readonly message: string;
    /** Whether another attempt may do better. */
    readonly retry: boolean;
  };

/** Slurm's words for tasks that come to no more. */
const ENDED: Readonly<Record<string, string>> = {
  BOOT_FAIL: "its host did not start",
  CANCELLED: "it was cancelled",
  COMPLETED: "it ended without publishing anything",
  DEADLINE: "it was not done at its deadline",
  FAILED: "it was ended",
  NODE_FAIL: "its host failed",
  OUT_OF_MEMORY: "it was killed for want of memory",
  PREEMPTED: "another job took its place",
  REVOKED: "it was revoked",
  TIMEOUT: "it was not done at its time limit, and did not stop in time before it",
};

/** Seconds that a file system may take to show on one host what another wrote. */
const FILES_LATE = 10;
/** Seconds after which a task that neither queue nor files know is given up. */
const LOST = 30;

/** Judges one task. */
export function judge({ node, queued, accounted, end, quiet }: Evidence): Verdict {
  const state = queued?.state ?? accounted;
  const ended = state === undefined ? undefined : ENDED[state];
  const silent = state === undefined && end === undefined;
  if (silent ? quiet < LOST : state !== undefined && ended === undefined) {
    return { state: "active" };
  }
  // Somebody took it back, whatever it had time to say.
  if (state === "CANCELLED") return { state: "failed", message: ended!, retry: false };
  // A superseded task belongs to its node all the same: somebody has given the node back to it.
  if (end?.state === "paused" || end?.state === "superseded") return { state: "again" };
  if (end?.state === "failed" || end?.state === "refused") {
    // The words of a full disk would stop the coordinator, whose disk may be another.
    const message = end.code === undefined
      ? end.message ?? "it failed"
      : explain(Object.assign(new Error(end.message), { code: end.code }), `running ${node}`);
    return { state: "failed", message, retry: end.state === "failed" };
  }
  if (ended === undefined) {
    return { state: "failed", message: "Slurm knows nothing of its job any more", retry: true };
  }
  const words = queued === undefined || queued.reason === "None" ? "" : queued.reason;
  // It came to its end by itself, and has said so where this host can't see it yet.
  const spoke = state === "COMPLETED" || (state === "FAILED" && /^(NonZeroExitCode)?$/.test(words));
  if (spoke && end === undefined && quiet < FILES_LATE) return { state: "active" };
  const reason = words === "" ? "" : ` (${words})`;
  return { state: "failed", message: `${ended}${reason}`, retry: state !== "DEADLINE" };
}
