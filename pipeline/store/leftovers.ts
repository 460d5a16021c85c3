/**
 * Temporary files in a store. Each process that writes has two folders, named by the token of its lease: stages write
 * their outputs to `w-<token>`, and everything that is published is renamed out of `<token>`, which its process never
 * makes again.
 *
 * @module
 */

import { join } from "@std/path";
import { Claim } from "./locks/claim.ts";
import { remove } from "./files.ts";

/** Entries of the folder for temporary files. */
export async function temporaryNames(dir: string): Promise<string[]> {
  return await names(join(dir, "tmp"));
}

/**
 * Removes temporary files of processes that are gone. Those of jobs that a killed coordinator left running stay.
 *
 * @param found Names that were there before we took the store, so none of a later owner.
 */
export async function removeLeftovers(dir: string, found: readonly string[]): Promise<void> {
  for (const name of found) {
    const key = /^job-([0-9a-f]{64})-/.exec(name)?.[1];
    if (key !== undefined && await Claim.isHeld(dir, key)) continue;
    await remove(join(dir, "tmp", name));
  }
}

async function names(folder: string): Promise<string[]> {
  try {
    return await Array.fromAsync(Deno.readDir(folder), ({ name }) => name);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}
