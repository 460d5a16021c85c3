/**
 * One process owns a store. The lock is the kernel's, so it is gone as soon as the process is, however that ended;
 * the file's text only says who it is.
 *
 * @module
 */

import { UserError } from "../errors.ts";

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

/** A lock that is held until it is disposed. */
export class StoreLock {
  readonly #file: Deno.FsFile;

  private constructor(file: Deno.FsFile) {
    this.#file = file;
  }

  /**
   * Takes the lock without waiting.
   *
   * @throws HeldError that names the holder, when another process has it.
   */
  static async acquire(path: string, command: string): Promise<StoreLock> {
    const file = await Deno.open(path, { read: true, write: true, create: true });
    if (!await file.tryLock(true)) {
      file.close();
      throw new HeldError(await heldMessage(path));
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

  /** Lets go. */
  [Symbol.dispose](): void {
    this.#file.close();
  }
}

async function heldMessage(path: string): Promise<string> {
  const store = path.replace(/[\\/][^\\/]*$/, "");
  try {
    const { pid, command, since } = JSON.parse(await Deno.readTextFile(path)) as LockHolder;
    const time = since.slice(0, 19).replace("T", " ");
    return `The store ${store} is held by process ${pid} (\`${command}\`) since ${time} UTC. ` +
      "Wait until it has finished, or use another store with --store.";
  } catch {
    return `The store ${store} is held by another process. Wait until it has finished, or use another store with --store.`;
  }
}
