/**
 * A folder as a compressed tar archive, the same bytes whenever the files are the same: entries are sorted, times are
 * one given time, owners are none, and modes are 755 or 644.
 */

import { createReadStream, createWriteStream } from "node:fs";
import { pipeline } from "node:stream/promises";
import { Readable, Writable } from "node:stream";
import { createGzip } from "node:zlib";
import { join } from "@std/path";
import { type Pack, pack as createPack } from "tar-stream";
import { UserError } from "../../pipeline/errors.ts";
import type { Compression } from "./options.ts";

/** One file or link below a folder. */
export interface Entry {
  /** Path below the folder, with `/`. */
  readonly path: string;
  /** Bytes; 0 for a link. */
  readonly size: number;
  readonly executable: boolean;
  /** Where a symbolic link points. */
  readonly link?: string;
}

/**
 * Files and symbolic links below a folder, sorted by path. Empty folders are none of them.
 *
 * @throws UserError for anything else, a socket say.
 */
export async function listFolder(folder: string): Promise<Entry[]> {
  const entries: Entry[] = [];
  const walk = async (below: string) => {
    for await (const { name, isDirectory } of Deno.readDir(join(folder, below))) {
      const path = below + name;
      if (isDirectory) {
        await walk(`${path}/`);
        continue;
      }
      const info = await Deno.lstat(join(folder, path));
      if (info.isSymlink) {
        const link = await Deno.readLink(join(folder, path));
        entries.push({ path, size: 0, executable: false, link });
      } else if (info.isFile) {
        entries.push({ path, size: info.size, executable: ((info.mode ?? 0) & 0o100) !== 0 });
      } else {
        throw new UserError(`${join(folder, path)} is neither a file nor a link.`);
      }
    }
  };
  await walk("");
  return entries.sort((a, b) => a.path < b.path ? -1 : 1);
}

/**
 * Writes a folder as an archive.
 *
 * @param options `name`: the folder that the archive unpacks into; `mtime`: the time of every entry.
 */
export async function writeArchive(
  folder: string,
  options: { out: string; name: string; mtime: Date; compression: Compression },
): Promise<void> {
  const { out, name, mtime, compression } = options;
  const entries = await listFolder(folder);
  const pack = createPack();
  // What fails here must end the other side too, which waits for more.
  const packed = packEntries(pack, entries, { folder, name, mtime }).catch((error) => {
    pack.destroy(error);
    throw error;
  });
  const compressed = compression === "gzip"
    ? pipeline(Readable.from(pack), createGzip({ level: 9 }), createWriteStream(out))
    : throughXz(pack, out);
  const failed = (await Promise.allSettled([compressed, packed]))
    .find(({ status }) => status === "rejected");
  if (failed?.status === "rejected") throw failed.reason;
}

async function packEntries(
  pack: Pack,
  entries: readonly Entry[],
  options: { folder: string; name: string; mtime: Date },
): Promise<void> {
  for (const { path, size, executable, link } of entries) {
    const header = {
      name: `${options.name}/${path}`,
      mtime: options.mtime,
      mode: executable || link !== undefined ? 0o755 : 0o644,
    };
    if (link !== undefined) {
      pack.entry({ ...header, type: "symlink", linkname: link }).end();
      continue;
    }
    const sink = pack.entry({ ...header, type: "file", size });
    await pipeline(createReadStream(join(options.folder, path)), sink);
  }
  pack.finalize();
}

/**
 * The dictionary holds all of Deno and DuckDB at once. One thread, as the bytes must not depend on the machine;
 * unpacking takes as much memory as the dictionary.
 */
async function throughXz(pack: Pack, out: string): Promise<void> {
  const child = new Deno.Command("xz", {
    args: ["--compress", "--stdout", "--threads=1", "--lzma2=preset=9e,dict=192MiB"],
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  using file = await Deno.open(out, { write: true, create: true, truncate: true });
  const errors = new Response(child.stderr).text();
  const written = child.stdout.pipeTo(file.writable, { preventClose: true });
  const fed = pipeline(Readable.from(pack), Writable.fromWeb(child.stdin));
  const [feeding] = await Promise.allSettled([fed, written]);
  const { success } = await child.status;
  if (!success) throw new Error(`xz failed: ${(await errors).trim()}`);
  if (feeding.status === "rejected") throw feeding.reason;
  await written;
}
