/**
 * The cache that the hub's own libraries keep: what one of them has fetched, the others find.
 *
 * ```text
 * models--ORG--NAME/refs/main             the commit that a branch or tag was at
 *                   blobs/<hash>          contents
 *                   snapshots/<commit>/…  links to them by the names of a commit's files
 * ```
 *
 * @module
 */

import { dirname, join, relative } from "@std/path";
import { MODEL_FILE } from "../../model/checkpoint/checkpoint.ts";
import { INDEX_FILE, parseIndex, readJsonIfThere } from "../../model/pretrained/files.ts";
import { CONFIG_FILE } from "../../model/pretrained/json.ts";
import { TOKENIZER_FILE } from "../../model/pretrained/tokenizer.ts";
import { SourceError } from "../download/sources/error.ts";

/** A commit, by all its digits. */
export const COMMIT = /^[0-9a-f]{40}$/;

/** The folder of all models: `HF_HUB_CACHE`, else `hub` in `HF_HOME`, else where the system keeps caches. */
export function cacheFolder(): string {
  const of = (name: string) => Deno.env.get(name) || undefined;
  const whole = of("HF_HUB_CACHE");
  if (whole !== undefined) return whole;
  const home = of("HOME") ?? of("USERPROFILE");
  const caches = of("XDG_CACHE_HOME") ?? (home === undefined ? undefined : join(home, ".cache"));
  const base = of("HF_HOME") ?? (caches === undefined ? undefined : join(caches, "huggingface"));
  if (base !== undefined) return join(base, "hub");
  throw new SourceError("There is no folder for fetched models: set HF_HOME, or HOME");
}

/** The files of one model that the cache has. */
export class ModelCache {
  /** Folder of the model. */
  readonly folder: string;

  /** @param name `ORG/NAME`. */
  constructor(name: string, cache: string = cacheFolder()) {
    this.folder = join(cache, `models--${name.replace("/", "--")}`);
  }

  /** The commit that a revision was at when it was last looked up; nothing where it never was. */
  async commitOf(revision: string): Promise<string | undefined> {
    if (COMMIT.test(revision)) return revision;
    const text = await readIfThere(this.#ref(revision));
    return text !== undefined && COMMIT.test(text.trim()) ? text.trim() : undefined;
  }

  /** Notes the commit of a revision. */
  async note(revision: string, commit: string): Promise<void> {
    if (COMMIT.test(revision)) return;
    const path = this.#ref(revision);
    await Deno.mkdir(dirname(path), { recursive: true });
    await Deno.writeTextFile(path, commit);
  }

  #ref(revision: string): string {
    return join(this.folder, "refs", ...revision.split("/"));
  }

  /** Folder of a commit's files. */
  snapshot(commit: string): string {
    return join(this.folder, "snapshots", commit);
  }

  /** Folder of contents. */
  get blobs(): string {
    return join(this.folder, "blobs");
  }

  /** Gives content its place among a commit's files. A link, or a copy where links are not possible. */
  async place(commit: string, file: string, hash: string): Promise<void> {
    const path = join(this.snapshot(commit), file);
    const blob = join(this.blobs, hash);
    await Deno.mkdir(dirname(path), { recursive: true });
    if (await isFile(path)) return;
    // A link may be there that leads nowhere any more.
    await Deno.remove(path).catch(() => {});
    try {
      await Deno.symlink(relative(dirname(path), blob), path);
    } catch {
      await Deno.copyFile(blob, path);
    }
  }

  /** Whether all files that a model needs are there. Those that it may lack are fetched before its weights. */
  async isComplete(commit: string): Promise<boolean> {
    const folder = this.snapshot(commit);
    const there = (name: string) => isFile(join(folder, name));
    if (!(await there(CONFIG_FILE) && await there(TOKENIZER_FILE))) return false;
    if (await there(MODEL_FILE)) return true;
    const index = await readJsonIfThere(folder, INDEX_FILE);
    if (index === undefined) return false;
    for (const name of parseIndex(index, join(folder, INDEX_FILE)).files) {
      if (!await there(name)) return false;
    }
    return true;
  }
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await Deno.readTextFile(path);
  } catch {
    return undefined;
  }
}

/** Whether a path leads to a file. */
async function isFile(path: string): Promise<boolean> {
  return await sizeOf(path) !== undefined;
}

/** Bytes of the file that a path leads to; nothing where it leads to none. */
export async function sizeOf(path: string): Promise<number | undefined> {
  try {
    const { isFile, size } = await Deno.stat(path);
    return isFile ? size : undefined;
  } catch {
    return undefined;
  }
}
