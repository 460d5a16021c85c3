/**
 * The claim on a node: whoever runs a node holds it, so that two processes never run one node at once, whichever run
 * they belong to.
 *
 * `claims/<key>` is locked by the kernel, so a claim ends with its process, however that ended. Its text only says who
 * the holder is. The file goes with the claim. Where a file system has no locks, a lease (`claims/<key>.lease/`) is the
 * claim.
 *
 * @module
 */

import { dirname, join } from "@std/path";
import { readTextOrUndefined, remove, removeThrough, statOrUndefined } from "../files.ts";
import type { TryLock } from "../lease/folder.ts";
import { Lease } from "../lease/lease.ts";
import { LeaseHeldError } from "../lease/protocol.ts";
import { lacksLocks } from "./lock.ts";
import { UserError } from "../../errors.ts";
import type { JsonValue } from "../../stage.ts";

/** Who runs a node. */
export interface Claimant {
  readonly node: string;
  readonly run: string;
  readonly host: string;
  readonly pid: number;
}

/** How a claim is waited for. */
export interface ClaimOptions {
  readonly node: string;
  readonly run: string;
  /** Ends the waiting. */
  readonly signal: AbortSignal;
  /** Told once, in words, that somebody else has the node. */
  readonly waits: (whose: string) => void;
  /** Asks for the lock; the kernel's unless given. */
  readonly tryLock?: TryLock;
}

const askKernel: TryLock = (file, exclusive) => file.tryLock(exclusive);

const POLL_MILLISECONDS = 100;

/** A claim that is held until it is disposed. */
export class Claim implements AsyncDisposable {
  readonly #path: string;
  readonly #held: Deno.FsFile | Lease;

  private constructor(path: string, held: Deno.FsFile | Lease) {
    this.#path = path;
    this.#held = held;
  }

  /** Takes the claim on a key, once whoever has it is gone; throws the signal's reason when that comes first. */
  static async take(dir: string, key: string, options: ClaimOptions): Promise<Claim> {
    for (let told = false;;) {
      const claim = await Claim.#try(dir, key, options.tryLock);
      if (claim !== undefined) {
        await claim.#describe(options);
        return claim;
      }
      if (!told) options.waits(await describeClaimant(dir, key));
      told = true;
      await new Promise((resolve) => setTimeout(resolve, POLL_MILLISECONDS));
      options.signal.throwIfAborted();
    }
  }

  /** Whether somebody holds the claim on a key. */
  static async isHeld(dir: string, key: string, tryLock?: TryLock): Promise<boolean> {
    const lease = { ...tryLock && { tryLock } };
    if (await Lease.holder(leaseOf(dir, key), lease) !== undefined) return true;
    if (await statOrUndefined(pathOf(dir, key)) === undefined) return false;
    const claim = await Claim.#try(dir, key, tryLock);
    await claim?.[Symbol.asyncDispose]();
    return claim === undefined;
  }

  /** Who says that they run a node; nothing where nobody does, or a lease is the claim. */
  static async holder(dir: string, key: string): Promise<Claimant | undefined> {
    try {
      const text = await readTextOrUndefined(pathOf(dir, key));
      return text === undefined ? undefined : JSON.parse(text);
    } catch {
      // It is being written.
      return undefined;
    }
  }

  static async #try(
    dir: string,
    key: string,
    tryLock: TryLock = askKernel,
  ): Promise<Claim | undefined> {
    const path = pathOf(dir, key);
    for (;;) {
      const file = await openOrCreate(path);
      try {
        if (!await tryLock(file, true)) {
          file.close();
          return undefined;
        }
        // The holder before may have removed the file that was opened here.
        const [ours, there] = await Promise.all([file.stat(), statOrUndefined(path)]);
        if (there !== undefined && there.ino === ours.ino) return new Claim(path, file);
      } catch (error) {
        file.close();
        if (!lacksLocks(error)) throw error;
        await remove(path);
        return await Claim.#tryLease(dir, key, tryLock);
      }
      file.close();
    }
  }

  static async #tryLease(dir: string, key: string, tryLock: TryLock): Promise<Claim | undefined> {
    const path = leaseOf(dir, key);
    try {
      const temporary = join(dir, "tmp");
      return new Claim(path, await Lease.take(path, { command: "run-node", temporary, tryLock }));
    } catch (error) {
      if (error instanceof LeaseHeldError) return undefined;
      throw error;
    }
  }

  async #describe({ node, run }: ClaimOptions): Promise<void> {
    if (this.#held instanceof Lease) return;
    const claimant: Claimant = { node, run, host: hostName(), pid: Deno.pid };
    try {
      await this.#held.truncate(0);
      await this.#held.write(new TextEncoder().encode(JSON.stringify(claimant)));
    } catch {
      // A full disk can't tell others who we are; the lock holds all the same.
    }
  }

  /** Gives the node back. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#held instanceof Lease) {
      await removeThrough(this.#held.temporary, this.#path);
      await this.#held[Symbol.asyncDispose]();
      return;
    }
    try {
      // Windows removes no open file; there the next claim finds it.
      if (Deno.build.os !== "windows") await remove(this.#path);
    } finally {
      this.#held.close();
    }
  }
}

/**
 * Refuses to remove files under jobs that are at work, which a batch system runs without a coordinator.
 *
 * @throws UserError that names one of them.
 */
export async function assertNoJobs(dir: string): Promise<void> {
  let keys: string[];
  try {
    keys = await Array.fromAsync(Deno.readDir(join(dir, "claims")), ({ name }) => name);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return;
    throw error;
  }
  for (const key of keys) {
    const who = await describeClaimant(dir, key);
    if (!await Claim.isHeld(dir, key)) continue;
    throw new UserError(
      `A job works in the store ${dir}: ${who}. Wait until it has finished, or cancel it.`,
    );
  }
}

async function openOrCreate(path: string): Promise<Deno.FsFile> {
  const options = { read: true, write: true, create: true };
  try {
    return await Deno.open(path, options);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    await Deno.mkdir(dirname(path), { recursive: true });
    return await Deno.open(path, options);
  }
}

/** The machine's name, where it may be asked. */
export function hostName(): string {
  const { state } = Deno.permissions.querySync({ name: "sys", kind: "hostname" });
  return state === "granted" ? Deno.hostname() : "this host";
}

/** Whose claim it is, in words: `process 41 of run 20260412-101500-123 on node7`. */
async function describeClaimant(dir: string, key: string): Promise<string> {
  try {
    const text = await readTextOrUndefined(pathOf(dir, key));
    const { pid, run, host } = JSON.parse(text ?? "") as Record<string, JsonValue>;
    return `process ${pid} of run ${run} on ${host}`;
  } catch {
    return "another process";
  }
}

function leaseOf(dir: string, key: string): string {
  return join(dir, "claims", `${key}.lease`);
}

function pathOf(dir: string, key: string): string {
  return join(dir, "claims", key);
}
