/**
 * Temporary files in a store. Each process that writes has two folders, named by the token of its lease: stages write
 * their outputs to `w-<token>`, and everything that is published is renamed out of `<token>`, which its process never
 * makes again.
 *
 * @module
 */

import { join } from "@std/path";
import { remove } from "./files.ts";
import { Lease } from "./lease/lease.ts";

/** Entries of the folder for temporary files. */
export async function temporaryNames(dir: string): Promise<string[]> {
  return await names(join(dir, "tmp"));
}

/**
 * Removes temporary files of processes that are gone. Those of a job that holds the lease of its node
 * (`claims/<key>/`) stay.
 *
 * @param found Names that were there before we took the store, so none of a later owner.
 */
export async function removeLeftovers(dir: string, found: readonly string[]): Promise<void> {
  if (found.length === 0) return;
  const inUse = new Set<string>();
  for (const key of await names(join(dir, "claims"))) {
    const holder = await Lease.holder(join(dir, "claims", key));
    if (holder !== undefined) inUse.add(holder.token);
  }
  for (const name of found) {
    if (!inUse.has(name.replace(/^w-/, ""))) await remove(join(dir, "tmp", name));
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
