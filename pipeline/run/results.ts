/**
 * Copies the results of an experiment to a folder that people look at.
 *
 * Each file is written whole under another name and renamed. Files that are the same already are not touched. Other
 * files (a README beside the report) stay. A file that is no longer part of the output is removed if an earlier copy
 * wrote it and nobody has changed it since.
 *
 * @module
 */

import { basename, dirname, join, resolve } from "@std/path";
import { z } from "zod";
import { explain, systemCode, UserError } from "../errors.ts";
import { hashFile, readTextOrUndefined, statOrUndefined, writeAtomic } from "../store/files.ts";
import type { GraphResult } from "../graph/graph.ts";
import type { ObjectRef } from "../store/objects.ts";
import type { NodeRecord } from "../store/records/records.ts";
import type { Store } from "../store/store.ts";

/** `results.json`: digests of the files that were copied, by their paths, for each source. */
const exchangeSchema = z.record(z.string(), z.record(z.string(), z.string()));

/** The folder and the files of a copy. */
export interface CopiedResults {
  /** Where the results are. */
  readonly folder: string;
  /** Files in total. */
  readonly files: number;
  /** Files that were written because they were not there or differed. */
  readonly written: number;
  /** Paths of the files that lie in the folder itself: what a reader opens first. */
  readonly first: readonly string[];
}

/**
 * Copies one output of a published node.
 *
 * @throws UserError (exit code 1) when the folder can't be written; published outputs stay published.
 */
export async function copyResult(
  result: GraphResult,
  record: NodeRecord,
  options: { store: Store; root: string },
): Promise<CopiedResults> {
  const folder = resolve(options.root, result.to);
  const output = record.outputs[result.output]!;
  const files: (ObjectRef & { path: string })[] = output.kind === "directory"
    ? [...output.files]
    : output.kind === "file"
    ? [{ ...output, path: result.output }]
    : [];
  let written = 0;
  const ledger = new Ledger(options.store);
  const source = `${result.node.name} ${result.output} ${folder}`;
  try {
    for (const file of files) {
      const target = join(folder, file.path);
      if (await isSame(target, file)) continue;
      await copyAtomic(options.store.objects.path(file.sha256), target);
      written++;
    }
    const now = Object.fromEntries(files.map((file) => [file.path, file.sha256]));
    const before = await ledger.exchange(source, now);
    for (const [path, sha256] of Object.entries(before)) {
      if (path in now) continue;
      const size = (await statOrUndefined(join(folder, path)))?.size ?? -1;
      if (await isSame(join(folder, path), { sha256, size })) await Deno.remove(join(folder, path));
    }
  } catch (error) {
    if (systemCode(error) === undefined) throw error;
    throw new UserError(
      `Results can't be copied to ${folder}: ${explain(error, "writing there")} ` +
        `They are safe in the store; run the command again once it can be written.`,
      { exitCode: 1, cause: error },
    );
  }
  const first = files.filter(({ path }) => !path.includes("/")).map(({ path }) =>
    join(folder, path)
  );
  return { folder, files: files.length, written, first };
}

/** Which files were copied where: `results.json` in the store. */
class Ledger {
  readonly #store: Store;

  constructor(store: Store) {
    this.#store = store;
  }

  /** Records the present files of a source and returns the earlier ones. */
  async exchange(
    source: string,
    files: Readonly<Record<string, string>>,
  ): Promise<Readonly<Record<string, string>>> {
    const path = join(this.#store.dir, "results.json");
    let all: Record<string, Record<string, string>> = {};
    try {
      all = exchangeSchema.parse(JSON.parse(await readTextOrUndefined(path) ?? "{}"));
    } catch {
      // Damaged: at worst a file stays that could have been removed.
    }
    const before = all[source] ?? {};
    if (JSON.stringify(before) !== JSON.stringify(files)) {
      const text = JSON.stringify({ ...all, [source]: files });
      await writeAtomic(path, text, { temporary: this.#store.temporary });
    }
    return before;
  }
}

async function isSame(path: string, object: ObjectRef): Promise<boolean> {
  const stat = await statOrUndefined(path);
  if (stat === undefined || !stat.isFile || stat.size !== object.size) return false;
  return (await hashFile(path)).sha256 === object.sha256;
}

async function copyAtomic(from: string, to: string): Promise<void> {
  const folder = dirname(to);
  await Deno.mkdir(folder, { recursive: true });
  // Always the same name, so that the next copy overwrites the leftovers of a kill.
  const temporary = join(folder, `.${basename(to)}.tmp`);
  try {
    // Not Deno.copyFile: that copies the read-only mode of objects too.
    using source = await Deno.open(from);
    using target = await Deno.open(temporary, { write: true, create: true, truncate: true });
    await source.readable.pipeTo(target.writable, { preventClose: true });
    await target.sync();
  } catch (error) {
    await Deno.remove(temporary).catch(() => {});
    throw error;
  }
  await Deno.rename(temporary, to);
}
