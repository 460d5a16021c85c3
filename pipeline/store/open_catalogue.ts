/**
 * Opens a catalogue for a writer, or another in the place of a broken one.
 *
 * @module
 */

import { Catalogue } from "./catalogue.ts";
import { systemCode, UserError } from "../errors.ts";
import { remove } from "./files.ts";

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
