/**
 * A configuration that must be refused, and its file.
 *
 * @module
 */

import { join } from "@std/path";
import { MINIMAL } from "../config_testing.ts";

/** A configuration that must be refused, and its message. */
export interface Malformed {
  readonly what: string;
  /** The whole file; a path is given as is when `path` is set. */
  readonly text?: string | Uint8Array<ArrayBuffer>;
  /** Further files, by name. */
  readonly files?: Readonly<Record<string, string>>;
  readonly path?: string;
  readonly set?: readonly string[];
  readonly says: readonly string[];
  /** The message with the real stages' schemas, where those are not as their stand-ins are. */
  readonly real?: readonly string[];
}

/** The minimal configuration with a section replaced or added. */
export const withLines = (...lines: string[]) => `${MINIMAL}${lines.join("\n")}\n`;

/** Writes a malformed configuration to a folder and gives back the path to ask for. */
export async function writeMalformed(
  { text, files = {}, path }: Malformed,
  folder: string,
): Promise<string> {
  const file = join(folder, "bad.yaml");
  if (typeof text === "string") await Deno.writeTextFile(file, text);
  else if (text !== undefined) await Deno.writeFile(file, text);
  for (const [name, content] of Object.entries(files)) {
    await Deno.writeTextFile(join(folder, name), content);
  }
  return path === undefined ? file : join(folder, path);
}
