/**
 * The licences of what a page holds: whoever hands it on hands these on.
 *
 * @module
 */

import license from "../../../LICENSE" with { type: "text" };

/** The licence of the project, then those of packages. */
export async function licensesOf(packages: ReadonlyMap<string, URL>): Promise<string> {
  const texts = [["The page and its kernels", license]];
  for (const [name, folder] of [...packages].sort(([a], [b]) => a < b ? -1 : 1)) {
    for await (const entry of Deno.readDir(folder)) {
      if (!entry.isFile || !/^licen[cs]e/i.test(entry.name)) continue;
      texts.push([name, await Deno.readTextFile(new URL(entry.name, folder))]);
    }
  }
  return texts.map(([name, text]) => `${name}\n\n${text!.trim()}\n`).join(
    `\n${"-".repeat(80)}\n\n`,
  );
}
