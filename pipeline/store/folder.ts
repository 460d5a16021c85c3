/**
 * Tells a store's folder from somebody else's, so that no command touches files that no run made.
 *
 * A store has a marker, `store.json`. Stores of earlier versions have none: they are known by their lock, their catalogue
 * or a manifest, and only when every name in the folder is one that a store gives.
 *
 * @module
 */

import { join } from "@std/path";
import { explain, UserError } from "../errors.ts";
import { readTextOrUndefined, statOrUndefined, writeAtomic } from "./files.ts";
import { readHolder } from "./locks/lock.ts";

/** Name of the marker. */
export const MARKER = "store.json";
/** Version of the folder's layout, which the marker names. */
const LAYOUT = 1;

/** `unmarked` is the store of an earlier version, or one whose first opening was killed. */
export type StoreFolder = "absent" | "empty" | "unmarked" | "marked";

const DIGEST = "[0-9a-f]{64}";
const UUID = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}";

/** Names of files in a lease's folder: tickets and tokens. */
const LEASE = new RegExp(`^(\\d{8,}\\.json|${UUID})$`);

/** Names of files in a store's folder. */
const FILES = /^(lock|results\.json|catalogue\.duckdb(\.wal|\.broken)?)$/;
/** Folders in a store's folder, and the names in each; two patterns for a folder of folders. */
const FOLDERS: Readonly<Record<string, readonly RegExp[]>> = {
  nodes: [/^[0-9a-f]{2}$/, new RegExp(`^${DIGEST}\\.json$`)],
  objects: [/^[0-9a-f]{2}$/, new RegExp(`^${DIGEST}(\\.json)?$`)],
  // Names of earlier versions had no milliseconds.
  runs: [/^\d{8}-\d{6}(-\d{1,3})?\.jsonl?$/],
  state: [new RegExp(`^${DIGEST}$`)],
  lease: [LEASE],
  claims: [new RegExp(`^${DIGEST}(\\.lease)?$`)],
  // Folders of nodes, by name, with event files.
  tensorboard: [/^[^/]+$/, /^events\.out\.tfevents\./],
  jobs: [/^\d{8}-\d{6}-\d{1,3}$/],
  tmp: [new RegExp(`^(w-|job-${DIGEST}-)?${UUID}$`)],
  "catalogue.duckdb.tmp": [/^duckdb_temp/],
  // Earlier versions of the project's checks worked in a folder of the store.
  checks: [/^[0-9a-f]{1,16}$/],
};

/**
 * Finds out what a folder is. Writes nothing.
 *
 * @throws UserError when it is a file, has files but is no store, or is a store of a newer program.
 */
export async function inspectStore(dir: string): Promise<StoreFolder> {
  try {
    return await inspect(dir);
  } catch (error) {
    if (error instanceof UserError) throw error;
    throw new UserError(explain(error, `looking at the store ${dir}`), { cause: error });
  }
}

async function inspect(dir: string): Promise<StoreFolder> {
  const stat = await statOrUndefined(dir);
  if (stat === undefined) return "absent";
  if (!stat.isDirectory) throw new UserError(`The store ${dir} is a file; expected a folder.`);
  const marker = await readTextOrUndefined(join(dir, MARKER));
  if (marker !== undefined) {
    const layout = layoutOf(marker);
    if (layout === LAYOUT) return "marked";
    if (layout !== undefined && layout > LAYOUT) {
      throw new UserError(
        `The store ${dir} has layout ${layout}; this program knows layouts up to ${LAYOUT}. ` +
          "Update the program, or use another store with --store.",
      );
    }
  }
  const entries = await entriesOf(dir);
  // A new disk has a folder for what its check finds.
  const own = entries.filter(({ name }) => name !== "lost+found");
  if (own.length === 0) return "empty";
  const foreign = await findForeign(dir, entries);
  if (foreign === undefined && own.every(({ name }) => name === "checks")) return "empty";
  const proof = await hasProof(dir);
  if (foreign === undefined && proof) return "unmarked";
  throw new UserError(
    `The folder ${dir} is not a store: ` +
      (foreign === undefined
        ? "it has no catalogue and no manifest"
        : `it holds ${foreign}, which no run made`) +
      ". Expected a store, an empty folder or a free name; nothing was changed." +
      (proof && foreign !== undefined
        ? ` If it is the store of an earlier version, move ${foreign} out of it.`
        : ""),
  );
}

/** Makes a folder known as a store from here on. `temporary` is a folder on the same disk. */
export async function markStore(dir: string, temporary: string): Promise<void> {
  await writeAtomic(join(dir, MARKER), `{"pipeline_store":${LAYOUT}}\n`, { temporary });
}

function layoutOf(marker: string): number | undefined {
  try {
    const layout: unknown = JSON.parse(marker)?.pipeline_store;
    return typeof layout === "number" ? layout : undefined;
  } catch {
    return undefined;
  }
}

/** The first path in a folder that no store has. */
async function findForeign(
  dir: string,
  entries: readonly Deno.DirEntry[],
): Promise<string | undefined> {
  for (const { name, isDirectory, isFile } of entries) {
    if (name === "lost+found" || (isFile && FILES.test(name))) continue;
    const patterns = Object.hasOwn(FOLDERS, name) ? FOLDERS[name]! : [];
    if (!isDirectory || patterns.length === 0) return name;
    const inside = await foreignIn(join(dir, name), patterns);
    if (inside !== undefined) return `${name}/${inside}`;
  }
}

async function foreignIn(
  folder: string,
  [pattern, ...below]: readonly RegExp[],
): Promise<string | undefined> {
  for (const { name, isDirectory } of await entriesOf(folder)) {
    if (!pattern!.test(name)) return name;
    if (below.length === 0) continue;
    if (!isDirectory) return name;
    const inside = await foreignIn(join(folder, name), below);
    if (inside !== undefined) return `${name}/${inside}`;
  }
}

/** Whether something in a folder was written by this program: its lock, its catalogue or a manifest. */
async function hasProof(dir: string): Promise<boolean> {
  const lock = join(dir, "lock");
  const stat = await statOrUndefined(lock);
  // A kill may come between the lock and its text.
  if (stat?.isFile && (stat.size === 0 || await readHolder(lock) !== undefined)) return true;
  if (await isDatabase(join(dir, "catalogue.duckdb"))) return true;
  for (const { name } of await entriesOf(join(dir, "nodes"))) {
    for (const manifest of await entriesOf(join(dir, "nodes", name))) {
      const text = await readTextOrUndefined(join(dir, "nodes", name, manifest.name));
      if (text !== undefined && isManifest(text, manifest.name)) return true;
    }
  }
  return false;
}

function isManifest(text: string, name: string): boolean {
  try {
    const { format, key } = JSON.parse(text);
    return format === 1 && name === `${key}.json`;
  } catch {
    return false;
  }
}

/** Whether a file begins as DuckDB's do: a checksum of 8 bytes, then `DUCK`. */
async function isDatabase(path: string): Promise<boolean> {
  if (!(await statOrUndefined(path))?.isFile) return false;
  using file = await Deno.open(path);
  const head = new Uint8Array(12);
  return await file.read(head) === 12 && new TextDecoder().decode(head.subarray(8)) === "DUCK";
}

/** Entries of a folder by name; none when it is not there or is no folder. */
async function entriesOf(folder: string): Promise<Deno.DirEntry[]> {
  try {
    const entries = await Array.fromAsync(Deno.readDir(folder));
    return entries.sort((a, b) => a.name < b.name ? -1 : 1);
  } catch (error) {
    const { NotFound, NotADirectory } = Deno.errors;
    if (error instanceof NotFound || error instanceof NotADirectory) return [];
    throw error;
  }
}
