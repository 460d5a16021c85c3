/**
 * Writes a command's measurements to a file.
 *
 * @module
 */

import { dirname } from "@std/path";
import { UserError } from "../../../pipeline/errors.ts";
import { statOrUndefined, writeAtomic } from "../../../pipeline/store/files.ts";

/**
 * Writes a value as JSON. A file that is there is replaced as a whole, so that its content is not lost before the new one is there.
 *
 * @throws {UserError} If the file cannot be written.
 */
export async function writeResult(
  path: string,
  value: unknown,
  options: { pretty?: boolean } = {},
): Promise<void> {
  const text = JSON.stringify(value, null, options.pretty ? 2 : 0) + "\n";
  try {
    const found = await statOrUndefined(path);
    // A device, such as /dev/stdout, is written to.
    if (found && !found.isFile) await Deno.writeTextFile(path, text);
    else {
      const target = found ? await Deno.realPath(path) : path;
      await writeAtomic(target, text, { temporary: dirname(target) });
    }
  } catch (cause) {
    throw new UserError(`Cannot write ${path}: ${reason(cause)}.`, { exitCode: 1, cause });
  }
}

/**
 * Finds out whether a file can be written before minutes go into its content.
 *
 * @throws {UserError} If its folder is not there, or it is a folder itself.
 */
export async function checkWritable(option: string, path: string | undefined): Promise<void> {
  if (path === undefined) return;
  const folder = dirname(path);
  if (!(await statOrUndefined(folder))?.isDirectory) {
    throw new UserError(`--${option} is ${path}, but there is no folder ${folder}.`);
  }
  if ((await statOrUndefined(path))?.isDirectory) {
    throw new UserError(`--${option} is ${path}, which is a folder; expected a file.`);
  }
}

function reason(error: unknown): string {
  return error instanceof Error ? error.message.replace(/\.$/, "") : String(error);
}
