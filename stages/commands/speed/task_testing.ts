/**
 * Tasks of `deno.json` as subprocesses, with the permissions that they name.
 *
 * @module
 */

import { fromFileUrl } from "@std/path";
import { type Ended, endedAs } from "../../../pipeline/testing.ts";

const ROOT = fromFileUrl(new URL("../../..", import.meta.url));

/** Runs a task to its end: `runTask(["bench", "--list"])`. */
export async function runTask(
  args: readonly string[],
  options: { readonly env?: Record<string, string> } = {},
): Promise<Ended> {
  const command = new Deno.Command(Deno.execPath(), {
    args: ["task", "--quiet", ...args],
    cwd: ROOT,
    ...options,
  });
  return endedAs(await command.output());
}
