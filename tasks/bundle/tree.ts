/** The project's own files, and those that the user adds. */

import { basename, dirname, join, relative, resolve } from "@std/path";
import { messageOf, UserError } from "../../pipeline/errors.ts";
import { escapeGlob, findFiles, findFilesBelow } from "../../stages/download/sources/files.ts";
import { read, run } from "./process.ts";

/** Names that a bundle adds at its top, where the project must have none. */
const RESERVED = ["bin", "bundle.json", "data", "include", "run.sh", "SHA256SUMS"];

/** A bundle with `--slim` leaves these out. */
const SLIM =
  /_(?:test|bench)\.ts$|(?:^|\/)testdata\/|^(?:notebooks|results|tasks(?!\/measure)|\.ci)\//;

/** The commit that a checkout is at. */
export interface Revision {
  readonly commit: string;
  /** Whether files differ from the commit. */
  readonly modified: boolean;
  /** The commit's time, which is that of every file of the bundle. */
  readonly time: Date;
}

/**
 * Asks git for the commit.
 *
 * @throws UserError when the folder is no checkout.
 */
export async function readRevision(root: string): Promise<Revision> {
  const log = await run("git", { args: ["log", "-1", "--format=%H %ct"], cwd: root })
    .catch((error) => {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
      throw new UserError("There is no git here; the bundle's files are those that git knows.");
    });
  const [commit, seconds] = log.stdout.trim().split(" ");
  if (!log.success || commit === undefined || seconds === undefined) {
    throw new UserError(
      `${root} is no git checkout with a commit, and the bundle's files are those that git knows.`,
    );
  }
  const status = await read("git", { args: ["status", "--porcelain"], cwd: root });
  return { commit, modified: status.trim() !== "", time: new Date(Number(seconds) * 1000) };
}

/** Copies the working tree as git sees it: what it tracks, and what is new and not ignored. */
export async function copyTree(
  root: string,
  to: string,
  options: { slim: boolean; skip: readonly string[] },
): Promise<void> {
  const list = await read("git", {
    args: ["ls-files", "-z", "--cached", "--others", "--exclude-standard"],
    cwd: root,
  });
  const skipped = new Set(options.skip.map((path) => relative(root, path)));
  for (const path of new Set(list.split("\0"))) {
    if (path === "" || skipped.has(path) || options.slim && SLIM.test(path)) continue;
    if (RESERVED.includes(path.split("/")[0]!)) {
      throw new UserError(`The project has ${path}, a name that the bundle needs for itself.`);
    }
    await copy(join(root, path), join(to, path)).catch((error) => {
      // Tracked and removed: no part of the working tree.
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    });
  }
}

/** The files that `--data` names, in the bundle's `data/`. */
export interface Data {
  /** Where each file is, by its path in the bundle. */
  readonly files: ReadonlyMap<string, string>;
  /** Values of `data.files.glob` that read it. */
  readonly globs: readonly string[];
}

/**
 * Finds the files of `--data`: a folder with everything below it, or files. A path that exists is that path; anything
 * else is a pattern, whose files are put where they would be if each were named.
 *
 * @param options `warn` is called with each link that leads to no file.
 * @throws UserError for what is not there, what `data.source=files` doesn't read, and two files of one name.
 */
export async function findData(
  paths: readonly string[],
  options: { warn?: (line: string) => void } = {},
): Promise<Data> {
  const files = new Map<string, string>();
  const globs = new Set<string>();
  for (const path of paths) {
    const folder = await isFolder(path);
    const find = folder ? findFilesBelow : findFiles;
    const found = await find(path, { setting: "--data", ...options }).catch((error) => {
      throw new UserError(`${messageOf(error)}.`);
    });
    for (const file of found) {
      const name = `data/${
        folder ? relative(dirname(resolve(path)), resolve(file)) : basename(file)
      }`;
      add(files, name, file, "--data");
      const ending = name.slice(name.search(/\.(?:(?:jsonl|json|txt)(?:\.gz)?|parquet)$/));
      globs.add(`${escapeGlob(dirname(name))}/*${ending}`);
    }
  }
  return { files, globs: [...globs].sort() };
}

/**
 * Finds the files of `--include`, for the bundle's `include/`.
 *
 * @throws UserError for what is no file, and two files of one name.
 */
export async function findIncluded(
  paths: readonly string[],
): Promise<ReadonlyMap<string, string>> {
  const files = new Map<string, string>();
  for (const path of paths) {
    if (!(await statOf(path, "--include")).isFile) {
      throw new UserError(`--include names ${path}; expected a file.`);
    }
    add(files, `include/${basename(path)}`, path, "--include");
  }
  return files;
}

/** Copies files to their paths in the bundle, as links where the disk allows: data may be large. */
export async function copyFiles(files: ReadonlyMap<string, string>, to: string): Promise<void> {
  for (const [path, file] of files) {
    await Deno.mkdir(dirname(join(to, path)), { recursive: true });
    const real = await Deno.realPath(file);
    await Deno.link(real, join(to, path)).catch(() => Deno.copyFile(real, join(to, path)));
  }
}

function add(files: Map<string, string>, name: string, file: string, option: string): void {
  const other = files.get(name);
  if (other !== undefined && other !== file) {
    throw new UserError(`${option} names ${other} and ${file}, which would both be ${name}.`);
  }
  files.set(name, file);
}

async function isFolder(path: string): Promise<boolean> {
  try {
    return (await Deno.stat(path)).isDirectory;
  } catch {
    // A pattern, or nothing: the search says which.
    return false;
  }
}

async function statOf(path: string, option: string): Promise<Deno.FileInfo> {
  try {
    return await Deno.stat(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    throw new UserError(`${option} names ${path}, which does not exist.`);
  }
}

async function copy(from: string, to: string): Promise<void> {
  const info = await Deno.lstat(from);
  await Deno.mkdir(dirname(to), { recursive: true });
  if (info.isSymlink) await Deno.symlink(await Deno.readLink(from), to);
  else await Deno.copyFile(from, to);
}
