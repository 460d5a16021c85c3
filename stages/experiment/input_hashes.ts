/**
 * Digests of local input files, kept in the store between commands: `inputs.json`.
 *
 * The file only saves reading: without it, or where it can't be read, the files are read again.
 *
 * @module
 */

import { join } from "@std/path";
import { z } from "zod";
import { readTextOrUndefined, statOrUndefined, writeAtomic } from "../../pipeline/store/files.ts";
import { type HashedFile, knownFiles } from "../download/sources/content_digest.ts";

const NAME = "inputs.json";

const schema = z.object({
  format: z.literal(1),
  files: z.record(
    z.string(),
    z.strictObject({
      size: z.int().min(0),
      mtime: z.number(),
      ctime: z.number(),
      inode: z.number(),
      read_at: z.number(),
      sha256: z.string().regex(/^[0-9a-f]{64}$/),
    }),
  ),
});

/** Takes over what an earlier command knew; what this process has read itself stays. */
export async function readInputHashes(storeDir: string): Promise<void> {
  const known = knownFiles();
  for (const [path, file] of Object.entries(await read(storeDir))) {
    if (!known.has(path)) known.set(path, file);
  }
}

/** Keeps what is known of files that are still there. The caller holds the store's lock. */
export async function writeInputHashes(storeDir: string): Promise<void> {
  const before = await read(storeDir);
  const files: Record<string, HashedFile> = {};
  const all = { ...before, ...Object.fromEntries(knownFiles()) };
  for (const path of Object.keys(all).sort()) {
    if (await statOrUndefined(path) !== undefined) files[path] = all[path]!;
  }
  const text = `${JSON.stringify({ format: 1, files })}\n`;
  if (Object.keys(files).length === 0 && Object.keys(before).length === 0) return;
  if (text === await readTextOrUndefined(join(storeDir, NAME))) return;
  await writeAtomic(join(storeDir, NAME), text, { temporary: join(storeDir, "tmp") });
}

async function read(storeDir: string): Promise<Readonly<Record<string, HashedFile>>> {
  try {
    const text = await readTextOrUndefined(join(storeDir, NAME));
    return text === undefined ? {} : schema.parse(JSON.parse(text)).files;
  } catch {
    return {};
  }
}
