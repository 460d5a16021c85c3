/**
 * The SHA-256 of a file, read once.
 *
 * A file's digest holds while size, times and inode are as they were, and only if the file had last been changed two seconds or more before it was read: a later change could carry the
 * same times, since some file systems count in seconds. A program may set the time of a change (`mtime`), never that of its being set (`ctime`).
 *
 * @module
 */

import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { resolve } from "@std/path";

/** A file as it was when its bytes were read. */
export interface HashedFile {
  /** Bytes. */
  readonly size: number;
  /** When its bytes last changed, in milliseconds, as the file system says. */
  readonly mtime: number;
  /** When its bytes or its entry last changed, in milliseconds. */
  readonly ctime: number;
  /** Number of its inode; 0 where there are none. */
  readonly inode: number;
  /** When the reading began, in milliseconds. */
  readonly read_at: number;
  /** SHA-256 of its bytes, hexadecimal. */
  readonly sha256: string;
}

/** Milliseconds that a file must have rested before it was read: file systems count in up to two seconds. */
const REST = 2000;

/** Digests of files by absolute path, for the length of the process. */
const known = new Map<string, HashedFile>();

/** The digests that are known so far, by absolute path; entries of an earlier process may be put in. */
export function knownFiles(): Map<string, HashedFile> {
  return known;
}

/** SHA-256 of a file: the one that is known while nothing says that the file has changed, otherwise of its bytes. */
export async function contentDigest(
  path: string,
  options: { readonly verify?: boolean } = {},
): Promise<string> {
  const name = resolve(path);
  const before = known.get(name);
  const now = await describe(name);
  if (options.verify !== true && before !== undefined && isSame(before, now)) return before.sha256;
  const read_at = Date.now();
  const hash = createHash("sha256");
  try {
    for await (const chunk of createReadStream(name, { highWaterMark: 1 << 20 })) {
      hash.update(chunk);
    }
  } catch (error) {
    throw new Error(`${path} can't be read: ${error instanceof Error ? error.message : error}`, {
      cause: error,
    });
  }
  const sha256 = hash.digest("hex");
  known.set(name, { ...now, read_at, sha256 });
  return sha256;
}

/** Whether a file is as it was, and had rested when it was read. */
function isSame(before: HashedFile, now: Omit<HashedFile, "read_at" | "sha256">): boolean {
  return before.size === now.size && before.mtime === now.mtime && before.ctime === now.ctime &&
    before.inode === now.inode && Math.max(now.mtime, now.ctime) + REST <= before.read_at;
}

async function describe(path: string): Promise<Omit<HashedFile, "read_at" | "sha256">> {
  const { size, mtimeMs, ctimeMs, ino } = await stat(path);
  return { size, mtime: mtimeMs, ctime: ctimeMs, inode: ino };
}
