/**
 * One process owns a store, or several read it. The lock is the kernel's, so it is gone as soon as the process is,
 * however that ended; the file's text only says who the owner is.
 *
 * @module
 */

import { dirname } from "@std/path";
import { systemCode, UserError } from "../errors.ts";

/** Who holds a lock. */
export interface LockHolder {
  readonly pid: number;
  readonly command: string;
  readonly since: string;
  /** Name of the run that is under way. */
  readonly run?: string;
}

/** The store is another process's for now. */
export class HeldError extends UserError {
  override readonly name: string = "HeldError";
}

/** Asks the kernel for a lock without waiting; says whether it was given. */
export type TryLock = (file: Deno.FsFile, exclusive: boolean) => Promise<boolean>;

const askKernel: TryLock = (file, exclusive) => file.tryLock(exclusive);

/** How long an owner waits for readers: most look for less than a second. */
const READERS_MILLISECONDS = 5000;
const POLL_MILLISECONDS = 50;

/** A lock that is held until it is disposed. */
export class StoreLock {
  readonly #file: Deno.FsFile;
  readonly #holder: LockHolder | undefined;

  private constructor(file: Deno.FsFile, holder?: LockHolder) {
    this.#file = file;
    this.#holder = holder;
  }

  /**
   * Takes the lock for an owner. Waits for readers, but not for another owner.
   *
   * @param options.tryLock Asks for the lock; the kernel's unless given.
   * @param options.patience How long to wait for readers, milliseconds.
   * @throws HeldError that names the owner, when another process has it or is still reading.
   * @throws UserError when the file system has no locks.
   */
  static async acquire(
    path: string,
    command: string,
    options: { tryLock?: TryLock; patience?: number } = {},
  ): Promise<StoreLock> {
    const { tryLock = askKernel, patience = READERS_MILLISECONDS } = options;
    const file = await Deno.open(path, { read: true, write: true, create: true });
    try {
      const end = performance.now() + patience;
      while (!await tryLock(file, true)) {
        // A shared lock is refused only where there is an owner.
        if (!await tryLock(file, false)) throw new HeldError(await heldMessage(path));
        await file.unlock();
        if (performance.now() > end) {
          throw new HeldError(
            `The store ${dirname(path)} is being read by another command. ` +
              "Wait until it has finished, or use another store with --store.",
          );
        }
        await new Promise((resolve) => setTimeout(resolve, POLL_MILLISECONDS));
      }
    } catch (error) {
      file.close();
      if (lacksLocks(error)) throw new UserError(noLocksMessage(path), { cause: error });
      throw error;
    }
    const holder: LockHolder = { pid: Deno.pid, command, since: new Date().toISOString() };
    const lock = new StoreLock(file, holder);
    try {
      await lock.#write(holder);
    } catch {
      // A full disk can't tell the next one who we are; the lock holds all the same.
    }
    return lock;
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
    using file = await openOrUndefined(path);
    if (file === undefined || await tryLock(file, false)) {
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
    try {
      if (!await tryLock(file, false)) throw new HeldError(await heldMessage(path));
    } catch (error) {
      file.close();
      if (lacksLocks(error)) return undefined;
      throw error;
    }
    return new StoreLock(file);
  }

  /** Lets go. */
  [Symbol.dispose](): void {
    this.#file.close();
  }
}

/** Who the text of a lock says holds it, or held it last. */
export async function readHolder(path: string): Promise<LockHolder | undefined> {
  try {
    const { pid, command, since, run } = JSON.parse(await Deno.readTextFile(path));
    const known = typeof pid === "number" && typeof command === "string" &&
      typeof since === "string";
    if (!known) return undefined;
    return { pid, command, since, ...typeof run === "string" && { run } };
  } catch {
    return undefined;
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
function lacksLocks(error: unknown): boolean {
  return error instanceof Deno.errors.NotSupported || NO_LOCKS.has(systemCode(error) ?? "");
}

function noLocksMessage(path: string): string {
  return `The store ${dirname(path)} lies on a file system that has no locks, as some network ` +
    "file systems do, so two runs could damage it. Use a store on a local disk with --store.";
}

async function heldMessage(path: string): Promise<string> {
  const store = dirname(path);
  const holder = await readHolder(path);
  const advice = "Wait until it has finished, or use another store with --store.";
  if (holder === undefined) return `The store ${store} is held by another process. ${advice}`;
  const { pid, command, since } = holder;
  const time = since.slice(0, 19).replace("T", " ");
  return `The store ${store} is held by process ${pid} (\`${command}\`) since ${time} UTC. ${advice}`;
}
