/**
 * Files that are either whole or not there: written to a temporary place, synced, renamed.
 *
 * @module
 */

import { dirname, join } from "@std/path";
import { createHash } from "node:crypto";

const CHUNK_BYTES = 1 << 20;

/** SHA-256 (hexadecimal) and size of a file, read in pieces. */
export async function hashFile(path: string): Promise<{ sha256: string; size: number }> {
  using file = await Deno.open(path);
  const hash = createHash("sha256");
  const chunk = new Uint8Array(CHUNK_BYTES);
  let size = 0;
  for (let n = await file.read(chunk); n !== null; n = await file.read(chunk)) {
    hash.update(chunk.subarray(0, n));
    size += n;
  }
  return { sha256: hash.digest("hex"), size };
}

/** Makes what was renamed in a folder survive a power cut; a no-op where folders can't be synced (Windows). */
export async function syncFolder(path: string): Promise<void> {
  if (Deno.build.os === "windows") return;
  using folder = await Deno.open(path);
  await folder.sync();
}

/** Writes a whole file, synced, under a temporary name in `folder`; returns the name. */
export async function writeTemporary(folder: string, data: string | Uint8Array): Promise<string> {
  const path = join(folder, `w-${crypto.randomUUID()}`);
  const bytes = typeof data === "string" ? new TextEncoder().encode(data) : data;
  try {
    using file = await Deno.open(path, { write: true, createNew: true });
    for (let at = 0; at < bytes.length;) at += await file.write(bytes.subarray(at));
    await file.sync();
  } catch (error) {
    await remove(path);
    throw error;
  }
  return path;
}

/** Writes a file that is whole or not there at all, even after a power cut. `temporary` is on the same disk. */
export async function writeAtomic(
  path: string,
  data: string | Uint8Array,
  options: { temporary: string; sync?: boolean },
): Promise<void> {
  const from = await writeTemporary(options.temporary, data);
  try {
    await renameInto(from, path);
  } catch (error) {
    await remove(from);
    throw error;
  }
  if (options.sync ?? true) await syncFolder(dirname(path));
}

/** Renames, making the folder when it is not there. */
export async function renameInto(from: string, to: string): Promise<void> {
  try {
    await Deno.rename(from, to);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    const folder = dirname(to);
    await Deno.mkdir(folder, { recursive: true });
    // The folders are new too, and a power cut must not lose them: `objects/ab` in `objects` in the store.
    await syncFolder(dirname(folder));
    await syncFolder(dirname(dirname(folder)));
    await Deno.rename(from, to);
  }
}

/** Removes a file or a folder with all that is in it; fine when it is not there. */
export async function remove(path: string): Promise<void> {
  try {
    await Deno.remove(path, { recursive: true });
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}

/**
 * Moves a file or a folder to a temporary place and removes it there: at once for everybody else, and never without
 * the temporary folder, which a process loses with its lease. Fine when it is not there.
 */
export async function removeThrough(temporary: string, path: string): Promise<void> {
  const doomed = join(temporary, crypto.randomUUID());
  try {
    await Deno.rename(path, doomed);
  } catch (error) {
    const { NotFound, NotADirectory } = Deno.errors;
    if (!(error instanceof NotFound || error instanceof NotADirectory)) throw error;
    if (await statOrUndefined(path) === undefined) return;
    throw error;
  }
  await remove(doomed);
}

/** `Deno.stat`, or `undefined` for a missing file. */
export async function statOrUndefined(path: string): Promise<Deno.FileInfo | undefined> {
  try {
    return await Deno.stat(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) {
      return undefined;
    }
    throw error;
  }
}

/** Text of a file, or `undefined` for a missing one and for a folder in its place. */
export async function readTextOrUndefined(path: string): Promise<string | undefined> {
  try {
    return await Deno.readTextFile(path);
  } catch (error) {
    const { NotFound, NotADirectory, IsADirectory } = Deno.errors;
    const kinds = [NotFound, NotADirectory, IsADirectory];
    if (kinds.some((kind) => error instanceof kind)) return undefined;
    throw error;
  }
}

/** Paths of all files below a folder, relative to it, with `/`, sorted by code units; links are followed to files. */
export async function listFiles(folder: string, prefix = ""): Promise<string[]> {
  const paths: string[] = [];
  let entries: Deno.DirEntry[];
  try {
    entries = await Array.fromAsync(Deno.readDir(folder));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
  for (const entry of entries) {
    const path = prefix + entry.name;
    if (entry.isDirectory) {
      paths.push(...await listFiles(join(folder, entry.name), `${path}/`));
    } else paths.push(path);
  }
  return prefix === "" ? paths.sort() : paths;
}

/** `1.5 MiB`. */
export function formatBytes(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let i = 0;
  for (; bytes >= 1024 && i < units.length - 1; i++) bytes /= 1024;
  return `${i === 0 ? bytes : bytes.toFixed(1)} ${units[i]}`;
}
