/**
 * Opens a catalogue for a writer, or another in the place of a broken one.
 *
 * @module
 */

import { join } from "@std/path";
import { Catalogue } from "./catalogue.ts";
import { systemCode, UserError } from "../../errors.ts";
import { remove, renameInto } from "../files.ts";

/**
 * Opens the catalogue of a store. A broken one is put aside, as it is only an index: the new one is `fresh`.
 *
 * @param warn Called with what was put aside.
 * @throws UserError when its schema is newer than the program, another program has it, or the disk refuses.
 */
export async function openCatalogue(
  path: string,
  warn?: (message: string) => void,
): Promise<Catalogue> {
  try {
    return await Catalogue.open(path);
  } catch (error) {
    if (error instanceof UserError || systemCode(error) !== undefined) throw error;
    // The catalogue is broken. It is only an index: put it aside and build another.
    const message = error instanceof Error ? error.message.split("\n")[0] : String(error);
    warn?.(`The catalogue can't be opened (${message}); put it aside as ${path}.broken.`);
    await remove(`${path}.broken`);
    await Deno.rename(path, `${path}.broken`);
    await remove(`${path}.wal`);
    return await Catalogue.open(path);
  }
}

/** A catalogue that lies on this machine while it is open. */
export interface CopiedCatalogue {
  readonly catalogue: Catalogue;
  /** Puts the closed catalogue in the place that it was copied from; `temporary` is a folder on that disk. */
  giveBack(temporary: string): Promise<void>;
}

/**
 * Opens a copy of a store's catalogue, for a file system without locks, on which DuckDB opens nothing to write.
 *
 * @throws UserError as {@linkcode openCatalogue} does.
 */
export async function copyCatalogue(
  path: string,
  warn?: (message: string) => void,
): Promise<CopiedCatalogue> {
  const dir = await Deno.makeTempDir({ prefix: "catalogue_" });
  const copy = join(dir, "catalogue.duckdb");
  try {
    try {
      await Deno.copyFile(path, copy);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
    const catalogue = await openCatalogue(copy, warn);
    return {
      catalogue,
      async giveBack(temporary) {
        const back = join(temporary, crypto.randomUUID());
        try {
          await Deno.copyFile(copy, back);
          await renameInto(back, path);
        } finally {
          await remove(dir);
        }
      },
    };
  } catch (error) {
    await remove(dir);
    throw error;
  }
}
