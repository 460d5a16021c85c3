/**
 * A folder as a compressed tar archive, the same bytes whenever the files are the same: entries are sorted, times are
 * one given time, owners are none, and modes are 755 or 644.
 */

import { createReadStream, createWriteStream } from "node:fs";
import { pipeline } from "node:stream/promises";
import { Readable } from "node:stream";
import { createGzip } from "node:zlib";
import { join } from "@std/path";
import { type Pack, pack as createPack } from "tar-stream";
import { UserError } from "../../pipeline/errors.ts";
import type { Compression } from "./options.ts";
import { read } from "./process.ts";

/**
 * The dictionary holds most of an archive at once; unpacking takes as much memory. One thread, as the bytes must not
 * depend on the machine's cores.
 */
const XZ = ["--compress", "--force", "--threads=1"];
const LZMA2 = "--lzma2=preset=9e,dict=192MiB";

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
 * @param options `name`: the folder that the archive unpacks into; `mtime`: the time of every entry; `x86`: whether
 * most of it is machine code for x86, which xz then makes smaller by a twentieth.
 */
export async function writeArchive(
  folder: string,
  options: {
    out: string;
    name: string;
    mtime: Date;
    compression: Compression;
    x86?: boolean;
  },
): Promise<void> {
  const { out, name, mtime, compression, x86 = false } = options;
  const entries = await listFolder(folder);
  const pack = createPack();
  // A failure here must end the other side too, which waits for more.
  const packed = packEntries(pack, entries, { folder, name, mtime }).catch((error) => {
    pack.destroy(error);
    throw error;
  });
  // `xz` puts the suffix to the name, and takes the archive away.
  const plain = `${out}.tar`;
  const written = compression === "gzip"
    ? pipeline(Readable.from(pack), createGzip({ level: 9 }), createWriteStream(out))
    : pipeline(Readable.from(pack), createWriteStream(plain));
  try {
    const failed = (await Promise.allSettled([written, packed]))
      .find(({ status }) => status === "rejected");
    if (failed?.status === "rejected") throw failed.reason;
    if (compression === "xz") {
      await read("xz", { args: [...XZ, ...x86 ? ["--x86"] : [], LZMA2, plain] });
      await Deno.rename(`${plain}.xz`, out);
    }
  } finally {
    if (compression === "xz") await Deno.remove(plain).catch(() => {});
  }
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
