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

  private constructor(file: Deno.FsFile) {
    this.#file = file;
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
    try {
      await file.truncate(0);
      await file.write(new TextEncoder().encode(JSON.stringify(holder)));
    } catch {
      // A full disk can't tell the next one who we are; the lock holds all the same.
    }
    return new StoreLock(file);
  }

  /**
   * Takes the lock for a reader, among others; writes nothing. Returns nothing where no lock can be had: no owner ever
   * came, or the file system has no locks.
   *
   * @throws HeldError that names the owner, when there is one.
   */
  static async share(path: string, tryLock: TryLock = askKernel): Promise<StoreLock | undefined> {
    let file: Deno.FsFile;
    try {
      file = await Deno.open(path);
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return undefined;
      throw error;
    }
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
    const { pid, command, since } = JSON.parse(await Deno.readTextFile(path));
    const known = typeof pid === "number" && typeof command === "string" &&
      typeof since === "string";
    return known ? { pid, command, since } : undefined;
  } catch {
    return undefined;
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
