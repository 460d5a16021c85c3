/**
 * The file operations that a lease is made of. Each is one that a network file system does atomically on its server,
 * or whose answer may be old without harm.
 *
 * @module
 */

import { join } from "@std/path";
import { systemCode } from "../../errors.ts";
import { readTextOrUndefined, remove } from "../files.ts";
import type { LeaseHolder } from "./holder.ts";

/** Asks the kernel for a lock without waiting; says whether it was given. */
export type TryLock = (file: Deno.FsFile, exclusive: boolean) => Promise<boolean>;

const askKernel: TryLock = (file, exclusive) => file.tryLock(exclusive);

/** Where a lease's files are. */
export interface LeaseFolder {
  /** Names of all files; none where the folder is not there. */
  list(): Promise<string[]>;
  /** Text of a file, or nothing. */
  read(name: string): Promise<string | undefined>;
  /**
   * Writes a new file for a holder, named by its token, and the folder when it is not there. Nobody else knows the
   * name yet.
   */
  create(holder: LeaseHolder): Promise<void>;
  /** Gives a file a second name; false where that name is taken. Of many that ask at once, one is told true. */
  link(name: string, second: string): Promise<boolean>;
  /** A text that is another after each {@linkcode LeaseFolder.beat}; nothing for a missing file. */
  mark(name: string): Promise<string | undefined>;
  /** Changes a file's mark. */
  beat(name: string): Promise<void>;
  /** Removes a file; fine when it is not there. */
  remove(name: string): Promise<void>;
}

/** File systems that have no hard links say one of these. */
const NO_LINKS = new Set(["EPERM", "EOPNOTSUPP", "ENOTSUP", "ENOSYS", "EMLINK"]);

/** Whether the kernel has a file locked; nothing where it has none or the file is not there. */
export type LockState = "held" | "free" | undefined;

/**
 * A folder on a disk, which may be another machine's. Where the kernel has locks, a holder's file is locked before
 * anybody knows of it and until its process ends.
 */
export class DiskLeaseFolder implements LeaseFolder {
  readonly #dir: string;
  readonly #tryLock: TryLock;
  /** The holder's file, open because a lock goes with it. */
  #own: { readonly name: string; readonly file: Deno.FsFile } | undefined;

  /** The folder need not be there. */
  constructor(dir: string, tryLock: TryLock = askKernel) {
    this.#dir = dir;
    this.#tryLock = tryLock;
  }

  async list(): Promise<string[]> {
    try {
      return await Array.fromAsync(Deno.readDir(this.#dir), ({ name }) => name);
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return [];
      throw error;
    }
  }

  async read(name: string): Promise<string | undefined> {
    return await readTextOrUndefined(join(this.#dir, name));
  }

  async create(holder: LeaseHolder): Promise<void> {
    const path = join(this.#dir, holder.token);
    const options = { read: true, write: true, createNew: true };
    let file: Deno.FsFile;
    try {
      file = await Deno.open(path, options);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
      await Deno.mkdir(this.#dir, { recursive: true });
      file = await Deno.open(path, options);
    }
    this.#own = { name: holder.token, file };
    let locked = false;
    try {
      locked = await this.#tryLock(file, true);
    } catch {
      // The heartbeat is enough.
    }
    const bytes = new TextEncoder().encode(`${JSON.stringify({ ...holder, locked })}\n`);
    for (let at = 0; at < bytes.length;) at += await file.write(bytes.subarray(at));
    // The server has it before anybody else looks.
    await file.sync();
  }

  /** Asks the kernel whether a file is locked, without keeping the lock. */
  async lockState(name: string): Promise<LockState> {
    try {
      using file = await Deno.open(join(this.#dir, name));
      return await this.#tryLock(file, false) ? "free" : "held";
    } catch {
      return undefined;
    }
  }

  async link(name: string, second: string): Promise<boolean> {
    const path = join(this.#dir, second);
    const text = await this.read(name);
    if (text === undefined) return false;
    try {
      await Deno.link(join(this.#dir, name), path);
      return true;
    } catch (error) {
      if (error instanceof Deno.errors.AlreadyExists) {
        // A server that answers a repeated request says that the name is taken: it is, by the first one.
        return await this.read(second) === text;
      }
      // Somebody removed the folder, or the file as the leftover of a process that died.
      if (error instanceof Deno.errors.NotFound) return false;
      const { NotSupported, PermissionDenied } = Deno.errors;
      const lacks = error instanceof NotSupported || error instanceof PermissionDenied;
      if (!lacks && !NO_LINKS.has(systemCode(error) ?? "")) throw error;
    }
    try {
      await Deno.writeTextFile(path, text, { createNew: true });
      return true;
    } catch (error) {
      if (error instanceof Deno.errors.AlreadyExists) return false;
      throw error;
    }
  }

  async mark(name: string): Promise<string | undefined> {
    try {
      // Network file systems ask the server when a file is opened; `stat` alone may tell what was true a minute ago.
      using file = await Deno.open(join(this.#dir, name));
      const { mtime, size } = await file.stat();
      return `${mtime?.getTime()} ${size}`;
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return undefined;
      throw error;
    }
  }

  async beat(name: string): Promise<void> {
    const now = new Date();
    await Deno.utime(join(this.#dir, name), now, now);
  }

  async remove(name: string): Promise<void> {
    if (this.#own?.name === name) {
      this.#own.file.close();
      this.#own = undefined;
    }
    await remove(join(this.#dir, name));
  }
}
