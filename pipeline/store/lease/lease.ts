/**
 * A lease on a folder: one process of all hosts that share the file system has it at a time. `protocol.ts` says how.
 *
 * @module
 */

import { dirname, join } from "@std/path";
import { EXIT, UserError } from "../../errors.ts";
import { remove } from "../files.ts";
import { DiskLeaseFolder, type TryLock } from "./folder.ts";
import { type Heartbeat, startHeartbeat } from "./heartbeat.ts";
import type { LeaseHolder } from "./holder.ts";
import { hostName, isSameMachine, type Machine, thisMachine } from "./machine.ts";
import {
  describeSuccessor,
  type Evidence,
  PACE,
  type Pace,
  readLease,
  takeLease,
  type TakenLease,
} from "./protocol.ts";

/** How {@linkcode Lease.take} goes about it. */
export interface LeaseOptions {
  /** The command line, for whoever comes second. */
  readonly command: string;
  /** Waits for an owner that is alive instead of refusing. */
  readonly wait?: boolean;
  /** Stops waiting. */
  readonly signal?: AbortSignal;
  /** Called for each owner that can only be judged by its heart, which takes up to {@linkcode Pace.stale}. */
  readonly onWatch?: (holder: LeaseHolder | undefined) => void;
  /** Folder in which each owner has a folder of its own to publish from; see {@linkcode Lease.temporary}. */
  readonly temporary: string;
  /** Asks for locks; the kernel's unless given. */
  readonly tryLock?: TryLock;
  /** Times; {@linkcode PACE} unless given. */
  readonly pace?: Pace;
}

/** The lease was taken over while this process stood still. */
export class LeaseLostError extends UserError {
  override readonly name: string = "LeaseLostError";
}

/**
 * A lease that is held until it is released.
 *
 * An owner that stood still for a minute may have lost it. So that it can't publish then, it writes everything that it
 * publishes into `temporary` and renames it from there: whoever takes the lease over removes that folder, and a rename
 * fails. An owner never makes the folder again. So nothing of it goes to code that makes folders (`recursive`) where it
 * writes. `lost` and `assertHeld` tell the owner why a rename failed.
 *
 * ```ts
 * import { Lease } from "./lease.ts";
 * const dir = await Deno.makeTempDir();
 * {
 *   await using lease = await Lease.take(`${dir}/claim`, {
 *     command: "run-node",
 *     temporary: `${dir}/tmp`,
 *   });
 *   await Deno.writeTextFile(`${lease.temporary}/a`, "text");
 *   await Deno.rename(`${lease.temporary}/a`, `${dir}/a`);
 *   await lease.assertHeld();
 * }
 * console.assert(await Lease.holder(`${dir}/claim`) === undefined);
 * await Deno.remove(dir, { recursive: true });
 * ```
 */
export class Lease implements AsyncDisposable {
  /** Who we are. */
  readonly holder: LeaseHolder;
  /** Greater for each later owner. */
  readonly ticket: number;
  /** The owner before, if it did not let go and may only stand still. */
  readonly silent: LeaseHolder | undefined;
  /** A folder of our own. A rename out of it fails from the moment when somebody takes the lease over. */
  readonly temporary: string;
  readonly #dir: string;
  readonly #folder: DiskLeaseFolder;
  readonly #heart: Heartbeat;
  readonly #lost = new AbortController();

  private constructor(dir: string, parts: {
    folder: DiskLeaseFolder;
    holder: LeaseHolder;
    taken: TakenLease;
    pace: Pace;
    temporary: string;
  }) {
    this.temporary = parts.temporary;
    this.#dir = dir;
    this.#folder = parts.folder;
    this.holder = parts.holder;
    this.ticket = parts.taken.ticket;
    this.silent = parts.taken.silent;
    this.#heart = startHeartbeat(join(dir, parts.holder.token), {
      milliseconds: parts.pace.beat,
      onLost: () => this.assertHeld().catch((error) => this.#lost.abort(error)),
    });
  }

  /**
   * Takes the lease whose files are in `dir`, which is made when it is not there.
   *
   * An owner that was killed on this machine is passed over at once, where the kernel has locks. Any other owner that
   * did not release the lease is watched: it is alive if its file changes, and gone after a minute in which it does not.
   *
   * @throws LeaseHeldError when its owner is alive, unless `wait` is given.
   */
  static async take(dir: string, options: LeaseOptions): Promise<Lease> {
    const { pace = PACE } = options;
    const folder = new DiskLeaseFolder(dir, options.tryLock);
    const machine = thisMachine();
    const token = crypto.randomUUID();
    const holder: LeaseHolder = {
      token,
      pid: Deno.pid,
      host: hostName(),
      ...machine && { machine },
      command: options.command,
      since: new Date().toISOString(),
    };
    const taken = await takeLease(folder, holder, {
      pace,
      wait: options.wait ?? false,
      signal: options.signal,
      onWatch: options.onWatch,
      prepare: async ({ token }) => {
        await Deno.mkdir(options.temporary, { recursive: true });
        await Deno.mkdir(join(options.temporary, token));
      },
      fence: ({ token }) => takeFolder(options.temporary, token),
      evidence: (earlier) => judge(folder, earlier, machine),
      now: () => performance.now(),
      sleep: (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds)),
    });
    return new Lease(dir, {
      folder,
      holder,
      taken,
      pace,
      temporary: join(options.temporary, token),
    });
  }

  /** Who has the lease of a folder; somebody who was killed on another machine has it until it is taken over. */
  static async holder(
    dir: string,
    options: { tryLock?: TryLock } = {},
  ): Promise<LeaseHolder | undefined> {
    const folder = new DiskLeaseFolder(dir, options.tryLock);
    const { holder, mark } = await readLease(folder);
    if (mark === undefined || holder === undefined) return undefined;
    return await judge(folder, holder, thisMachine()) === "gone" ? undefined : holder;
  }

  /** Unique to this taking. */
  get token(): string {
    return this.holder.token;
  }

  /** Aborted, with a {@linkcode LeaseLostError}, within a beat after somebody took the lease over. */
  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  /**
   * Asks the file system whether the lease is still ours.
   *
   * @throws LeaseLostError that names who took it over.
   */
  async assertHeld(): Promise<void> {
    if (await this.#folder.mark(this.token) !== undefined) return;
    const successor = await describeSuccessor(this.#folder, this.holder);
    throw new LeaseLostError(
      `The lease ${this.#dir} was taken over${successor}, as this process gave no sign of life; it writes no more.`,
      { exitCode: EXIT.failed },
    );
  }

  /** Lets go. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#heart[Symbol.dispose]();
    try {
      await takeFolder(dirname(this.temporary), this.token);
    } finally {
      await this.#folder.remove(this.token);
    }
  }
}

/** Removes an owner's folder, for it at one moment, even while it writes there. */
async function takeFolder(temporary: string, token: string): Promise<void> {
  const doomed = join(temporary, crypto.randomUUID());
  try {
    await Deno.rename(join(temporary, token), doomed);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return;
    throw error;
  }
  // A server may keep files that are open; whoever tidies the folder removes them later.
  await remove(doomed).catch(() => {});
}

/** The kernel's knowledge of an owner. */
async function judge(
  folder: DiskLeaseFolder,
  holder: LeaseHolder,
  machine: Machine | undefined,
): Promise<Evidence> {
  const state = await folder.lockState(holder.token);
  if (state === "held") return "alive";
  // Locks of another machine may be unknown to this one.
  const told = state === "free" && holder.locked === true;
  return told && isSameMachine(machine, holder.machine) ? "gone" : "unknown";
}
