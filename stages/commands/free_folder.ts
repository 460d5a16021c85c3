/**
 * Folders that a command makes: whole, or not at all.
 *
 * @module
 */

import { dirname, resolve } from "@std/path";
import { messageOf, UserError } from "../../pipeline/errors.ts";

/**
 * Refuses a folder with files, and a path that is no folder.
 *
 * @throws {UserError} Naming `--out` and what is there.
 */
export async function requireFree(folder: string): Promise<void> {
  let names: string[];
  try {
    names = (await Array.fromAsync(Deno.readDir(folder), ({ name }) => name)).sort();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return;
    throw new UserError(`--out ${folder} can't be a folder: ${messageOf(error)}.`, {
      cause: error,
    });
  }
  if (names.length === 0) return;
  const shown = names.length > 3 ? `${names.slice(0, 3).join(", ")}, …` : names.join(", ");
  throw new UserError(
    `--out ${folder} has files already (${shown}); expected an empty folder or a name that is free.`,
  );
}

/**
 * Makes a folder with what `fill` writes into the one that it is given.
 *
 * @returns What `fill` returns. When it throws, nothing is left.
 */
export async function makeFolder<T>(
  folder: string,
  fill: (temporary: string) => Promise<T>,
): Promise<T> {
  const path = resolve(folder);
  const temporary = `${path}.${Deno.pid}.partial`;
  try {
    await Deno.mkdir(dirname(path), { recursive: true });
    await Deno.mkdir(temporary);
    const result = await fill(temporary);
    await Deno.rename(temporary, path);
    return result;
  } catch (error) {
    await Deno.remove(temporary, { recursive: true }).catch(() => {});
    throw error;
  }
}
