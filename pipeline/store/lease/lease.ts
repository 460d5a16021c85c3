/**
 * A lease on a folder: one process of all hosts that share the file system has it at a time. `protocol.ts` says how.
 *
 * @module
 */

import { join } from "@std/path";
import { EXIT, UserError } from "../../errors.ts";
import { DiskLeaseFolder, type TryLock } from "./folder.ts";
import { type Heartbeat, startHeartbeat } from "./heartbeat.ts";
import type { LeaseHolder } from "./holder.ts";
import { hostName, isSameMachine, thisMachine } from "./machine.ts";
import { describeSuccessor, PACE, type Pace, readLease, takeLease } from "./protocol.ts";

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
  /** Takes from an earlier owner what it writes through, such as its temporary folder (see {@linkcode Lease}). */
  readonly fence?: (earlier: LeaseHolder) => Promise<void>;
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
 * An owner that stood still for a minute may have lost it. So that it can't publish then, it writes everything into a
 * folder that is named by its `token` and renames it from there: whoever takes the lease over removes that folder
 * (`fence`), and a rename fails. `lost` and `assertHeld` tell the owner why.
 *
 * ```ts
 * import { Lease } from "./lease.ts";
 * const dir = await Deno.makeTempDir();
 * {
 *   await using lease = await Lease.take(`${dir}/claim`, { command: "run-node" });
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
  readonly #dir: string;
  readonly #folder: DiskLeaseFolder;
  readonly #heart: Heartbeat;
  readonly #lost = new AbortController();

  private constructor(dir: string, parts: {
    folder: DiskLeaseFolder;
    holder: LeaseHolder;
    ticket: number;
    pace: Pace;
  }) {
    this.#dir = dir;
    this.#folder = parts.folder;
    this.holder = parts.holder;
    this.ticket = parts.ticket;
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
    const holder: LeaseHolder = {
      token: crypto.randomUUID(),
      pid: Deno.pid,
      host: hostName(),
      ...machine && { machine },
      command: options.command,
      since: new Date().toISOString(),
    };
    const ticket = await takeLease(folder, holder, {
      pace,
      wait: options.wait ?? false,
      signal: options.signal,
      onWatch: options.onWatch,
      fence: options.fence ?? (() => Promise.resolve()),
      evidence: async (earlier) => {
        const state = await folder.lockState(earlier.token);
        if (state === "held") return "alive";
        // Locks of another machine may be unknown to this one.
        const told = state === "free" && earlier.locked === true;
        return told && isSameMachine(machine, earlier.machine) ? "gone" : "unknown";
      },
      now: () => performance.now(),
      sleep: (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds)),
    });
    return new Lease(dir, { folder, holder, ticket, pace });
  }

  /** Who has the lease of a folder, as far as files tell: whoever was killed has it until it is taken over. */
  static async holder(dir: string): Promise<LeaseHolder | undefined> {
    const { holder, mark } = await readLease(new DiskLeaseFolder(dir));
    return mark === undefined ? undefined : holder;
  }

  /** Unique to this taking; the name of the folder to write through. */
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
    await this.#folder.remove(this.token);
  }
}
