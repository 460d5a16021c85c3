/**
 * Writing what a command measured to a file.
 *
 * @module
 */

import { dirname } from "@std/path";
import { UserError } from "../../pipeline/errors.ts";

/**
 * Writes a value as JSON.
 *
 * @throws {UserError} If the file cannot be written.
 */
export async function writeResult(
  path: string,
  value: unknown,
  options: { pretty?: boolean } = {},
): Promise<void> {
  try {
    await Deno.writeTextFile(path, JSON.stringify(value, null, options.pretty ? 2 : 0) + "\n");
  } catch (cause) {
    throw new UserError(`Cannot write ${path}: ${reason(cause)}.`, { exitCode: 1, cause });
  }
}

/**
 * Finds out whether a file can be written before minutes go into what is to be in it.
 *
 * @throws {UserError} If its folder is not there, or it is a folder itself.
 */
export async function checkWritable(option: string, path: string | undefined): Promise<void> {
  if (path === undefined) return;
  const folder = dirname(path);
  if (!(await stat(folder))?.isDirectory) {
    throw new UserError(`--${option} is ${path}, but there is no folder ${folder}.`);
  }
  if ((await stat(path))?.isDirectory) {
    throw new UserError(`--${option} is ${path}, which is a folder; expected a file.`);
  }
}

async function stat(path: string): Promise<Deno.FileInfo | undefined> {
  try {
    return await Deno.stat(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) {
      return undefined;
    }
    throw error;
  }
}

function reason(error: unknown): string {
  return error instanceof Error ? error.message.replace(/\.$/, "") : String(error);
}
