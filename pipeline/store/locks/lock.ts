/**
 * One process owns a store, or several read it.
 *
 * Two locks say so. The kernel's is gone as soon as its process is, and readers share it; but a network file system may
 * have none, or one that other hosts do not see. The lease (`lease/`) holds between hosts. An owner needs both, as far as
 * the file system has them.
 *
 * @module
 */

import { dirname, join } from "@std/path";
import { isDiskError, systemCode, UserError } from "../../errors.ts";
import type { TryLock } from "../lease/folder.ts";
import { Lease } from "../lease/lease.ts";
import { describeHolder, type LeaseHolder } from "../lease/holder.ts";
import { hostName } from "../lease/machine.ts";
import { LeaseHeldError, PACE, type Pace } from "../lease/protocol.ts";

export type { TryLock } from "../lease/folder.ts";

/** Who holds a lock. */
export interface LockHolder {
  readonly pid: number;
  readonly command: string;
  readonly since: string;
  /** Name of its host; earlier versions did not say. */
  readonly host?: string;
  /** Name of the run that is under way. */
  readonly run?: string;
}

/** The store is another process's for now. */
export class HeldError extends UserError {
  override readonly name: string = "HeldError";
}

const askKernel: TryLock = (file, exclusive) => file.tryLock(exclusive);

/** How long an owner waits for readers: most look for less than a second. */
const READERS_MILLISECONDS = 5000;
const POLL_MILLISECONDS = 50;

/** How an owner takes the lock. */
export interface AcquireOptions {
  /** Asks for the kernel's lock; the kernel itself unless given. */
  readonly tryLock?: TryLock;
  /** How long to wait for readers, milliseconds. */
  readonly patience?: number;
  /** Waits for another owner too, as long as it takes. */
  readonly wait?: boolean;
  /** Called with whom it waits for. */
  readonly warn?: (message: string) => void;
  /** Times of the lease. */
  readonly pace?: Pace;
}

/** A lock that is held until it is disposed. */
export class StoreLock implements AsyncDisposable {
  readonly #file: Deno.FsFile;
  /** The lease, which other hosts see; nothing for readers, and where a full disk has no room for it. */
  readonly lease: Lease | undefined;
  /** Whether the file system has the kernel's locks. */
  readonly kernel: boolean;
  readonly #holder: LockHolder | undefined;

  private constructor(
    file: Deno.FsFile,
    kernel: boolean,
    owner: { lease?: Lease | undefined; holder?: LockHolder } = {},
  ) {
    this.#file = file;
    this.kernel = kernel;
    this.lease = owner.lease;
    this.#holder = owner.holder;
  }

  /**
   * Takes the lock for an owner. Waits for readers, and for another owner if told to.
   *
   * @throws HeldError that names the owner, when another process has it or is still reading.
   */
  static async acquire(
    path: string,
    command: string,
    options: AcquireOptions = {},
  ): Promise<StoreLock> {
    const file = await Deno.open(path, { read: true, write: true, create: true });
    try {
      const kernel = await lockFile(file, path, options);
      const lease = await takeLease(path, command, { ...options, kernel });
      const since = new Date().toISOString();
      const holder: LockHolder = { pid: Deno.pid, host: hostName(), command, since };
      const lock = new StoreLock(file, kernel, { lease, holder });
      try {
        await lock.#write(holder);
      } catch {
        // A full disk can't tell the next one who we are; the lock holds all the same.
      }
      return lock;
    } catch (error) {
      file.close();
      throw error;
    }
  }

  /** Names the owner's run, so that its jobs know it. */
  async announce(run: string): Promise<void> {
    if (this.#holder !== undefined) await this.#write({ ...this.#holder, run });
  }

  async #write(holder: LockHolder): Promise<void> {
    await this.#file.seek(0, Deno.SeekMode.Start);
    await this.#file.truncate(0);
    await this.#file.write(new TextEncoder().encode(JSON.stringify(holder)));
  }

  /**
   * Holds a job to its run: passes only while the store's owner is that run's coordinator.
   *
   * @throws UserError when nobody owns the store, or another run or command does.
   */
  static async assertOwnedBy(
    path: string,
    run: string,
    tryLock: TryLock = askKernel,
  ): Promise<void> {
    const store = dirname(path);
    const owner = await Lease.holder(leaseDir(path), { tryLock });
    if (owner === undefined && await isFree(path, tryLock)) {
      throw new UserError(
        `Nobody holds the store ${store}, so the coordinator of run ${run} is gone; expected it to hold the store while its jobs run.`,
      );
    }
    const holder = await readHolder(path);
    if (holder?.run === run) return;
    const whose = holder === undefined
      ? "another process"
      : `process ${holder.pid} (\`${holder.command}\`)`;
    throw new UserError(
      `The store ${store} is held by ${whose}, which is not the coordinator of run ${run}.`,
    );
  }

  /**
   * Takes the lock for a reader, among others; writes nothing. Returns nothing where no lock can be had: no owner ever
   * came, or the file system has no locks.
   *
   * @throws HeldError that names the owner, when there is one.
   */
  static async share(path: string, tryLock: TryLock = askKernel): Promise<StoreLock | undefined> {
    const file = await openOrUndefined(path);
    if (file === undefined) return undefined;
    let kernel = true;
    try {
      if (!await tryLock(file, false)) throw new HeldError(await heldMessage(path));
    } catch (error) {
      if (!lacksLocks(error)) {
        file.close();
        throw error;
      }
      kernel = false;
    }
    try {
      const holder = await Lease.holder(leaseDir(path), { tryLock });
      if (holder !== undefined) throw new HeldError(await heldMessage(path, holder));
    } catch (error) {
      file.close();
      throw error;
    }
    if (kernel) return new StoreLock(file, kernel);
    file.close();
    return undefined;
  }

  /** Lets go. */
  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.lease?.[Symbol.asyncDispose]();
    } finally {
      this.#file.close();
    }
  }
}

/** Takes the kernel's lock; says whether the file system has any. */
async function lockFile(
  file: Deno.FsFile,
  path: string,
  options: AcquireOptions,
): Promise<boolean> {
  const { tryLock = askKernel, patience = READERS_MILLISECONDS, wait = false, warn } = options;
  const end = performance.now() + patience;
  let told = false;
  try {
    while (!await tryLock(file, true)) {
      // A shared lock is refused only where there is an owner.
      const owned = !await tryLock(file, false);
      if (!owned) await file.unlock();
      if (!wait && owned) throw new HeldError(await heldMessage(path));
      if (!wait && performance.now() > end) {
        throw new HeldError(
          `The store ${dirname(path)} is being read by another command. ` +
            "Wait until it has finished, or use another store with --store.",
        );
      }
      if (owned && !told) warn?.(`${(await heldMessage(path)).split(". ")[0]}; waiting for it.`);
      told ||= owned;
      await new Promise((resolve) => setTimeout(resolve, POLL_MILLISECONDS));
    }
    return true;
  } catch (error) {
    if (lacksLocks(error)) return false;
    throw error;
  }
}

/** Takes the lease; nothing where only the kernel's lock can be had, as the disk is full. */
async function takeLease(
  path: string,
  command: string,
  options: AcquireOptions & { kernel: boolean },
): Promise<Lease | undefined> {
  const { wait = false, warn, pace = PACE, tryLock, kernel } = options;
  try {
    return await Lease.take(leaseDir(path), {
      command,
      wait,
      pace,
      ...tryLock && { tryLock },
      onWatch: (holder) => {
        const seconds = Math.round(pace.stale / 1000);
        const who = describeHolder(holder);
        warn?.(
          `The store ${
            dirname(path)
          } was left by ${who} without letting go, or is in use: watching up to ${seconds} s for a sign of life.`,
        );
      },
      temporary: join(dirname(path), "tmp"),
    });
  } catch (error) {
    if (error instanceof LeaseHeldError) throw new HeldError(await heldMessage(path, error.holder));
    // Commands that make room need no more than the kernel's lock.
    if (kernel && isDiskError(error) && systemCode(error) !== "EROFS") return undefined;
    throw error;
  }
}

/** Where the lease of a lock is. */
function leaseDir(path: string): string {
  return join(dirname(path), "lease");
}

/** Who the text of a lock says holds it, or held it last. */
export async function readHolder(path: string): Promise<LockHolder | undefined> {
  try {
    const { pid, command, since, run, host } = JSON.parse(await Deno.readTextFile(path));
    const known = typeof pid === "number" && typeof command === "string" &&
      typeof since === "string";
    if (!known) return undefined;
    const more = { ...typeof run === "string" && { run }, ...typeof host === "string" && { host } };
    return { pid, command, since, ...more };
  } catch {
    return undefined;
  }
}

/** Whether the kernel knows of nobody that has a lock. */
async function isFree(path: string, tryLock: TryLock): Promise<boolean> {
  using file = await openOrUndefined(path);
  try {
    return file === undefined || await tryLock(file, false);
  } catch (error) {
    if (lacksLocks(error)) return true;
    throw error;
  }
}

async function openOrUndefined(path: string): Promise<Deno.FsFile | undefined> {
  try {
    return await Deno.open(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

const NO_LOCKS = new Set(["ENOLCK", "ENOSYS", "EOPNOTSUPP", "ENOTSUP"]);

/** Whether an error says that a file system has no locks. */
export function lacksLocks(error: unknown): boolean {
  return error instanceof Deno.errors.NotSupported || NO_LOCKS.has(systemCode(error) ?? "");
}

async function heldMessage(path: string, owner?: LeaseHolder): Promise<string> {
  const store = dirname(path);
  const holder = owner ?? await readHolder(path);
  const advice = "Wait until it has finished, or use another store with --store.";
  if (holder === undefined) return `The store ${store} is held by another process. ${advice}`;
  const { pid, command, since, host } = holder;
  const where = host === undefined || host === hostName() ? "" : ` on host ${host}`;
  const time = since.slice(0, 19).replace("T", " ");
  return `The store ${store} is held by process ${pid}${where} (\`${command}\`) since ${time} UTC. ${advice}`;
}
