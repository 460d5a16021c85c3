/**
 * Files that are there whole or not at all, whenever a process ends.
 *
 * @module
 */

import { dirname } from "@std/path";

/** Writes a text, or bytes, and waits until they are on disk. */
export async function writeSynced(path: string, contents: string | Uint8Array): Promise<void> {
  using file = await Deno.open(path, { write: true, create: true, truncate: true });
  const bytes = typeof contents === "string" ? new TextEncoder().encode(contents) : contents;
  for (let done = 0; done < bytes.length;) done += await file.write(bytes.subarray(done));
  await file.sync();
}

/** Waits until the names in a folder are on disk. */
export async function syncDirectory(path: string): Promise<void> {
  // Windows cannot open folders; its rename is durable without.
  if (Deno.build.os === "windows") return;
  using directory = await Deno.open(path);
  await directory.sync();
}

/**
 * Puts a file in its place once it is whole.
 *
 * @param write Writes the file under the name that it gets, and syncs it.
 */
export async function replaceFile<Result>(
  path: string,
  write: (partial: string) => Promise<Result>,
): Promise<Result> {
  const partial = `${path}.partial`;
  const result = await write(partial);
  await Deno.rename(partial, path);
  await syncDirectory(dirname(path));
  return result;
}
