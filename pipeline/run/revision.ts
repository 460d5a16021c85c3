/**
 * Finds the revision of the project: git names that of a checkout, `bundle.json` that of a bundle.
 *
 * @module
 */

import { join } from "@std/path";
import { z } from "zod";
import { childEnvironment } from "../graph/child_environment.ts";
import { readTextOrUndefined } from "../store/files.ts";

/** A revision of the project. */
export interface Revision {
  /** The commit, in full. */
  readonly commit: string;
  /** Whether tracked files differ from the commit; absent when that could not be found out. */
  readonly modified?: boolean;
}

const bundleSchema = z.object({ commit: z.string().min(1), modified: z.boolean() });

/**
 * Returns the revision of the project in a folder. Returns `undefined` if the folder is neither a bundle nor the top of
 * a checkout, or if git is missing or may not run.
 *
 * @example
 * ```ts
 * import { revisionOf } from "./revision.ts";
 * const revision = await revisionOf(".");
 * console.assert(revision === undefined || /^[0-9a-f]{40,}$/.test(revision.commit));
 * ```
 */
export async function revisionOf(root: string): Promise<Revision | undefined> {
  const bundled = await bundleRevision(join(root, "bundle.json"));
  if (bundled !== undefined) return bundled;
  const [prefix, commit, status] = await Promise.all([
    // Empty at the top: a project that lies inside of another's checkout has not its commit.
    git(root, "rev-parse", "--show-prefix"),
    git(root, "rev-parse", "HEAD"),
    git(root, "status", "--porcelain", "--untracked-files=no"),
  ]);
  if (prefix !== "" || commit === undefined) return undefined;
  return { commit, ...status !== undefined && { modified: status !== "" } };
}

async function bundleRevision(path: string): Promise<Revision | undefined> {
  const text = await readTextOrUndefined(path);
  if (text === undefined) return undefined;
  try {
    return bundleSchema.parse(JSON.parse(text));
  } catch {
    return undefined;
  }
}

/** Returns git's output, or nothing without git, a repository, or permission to run it. */
async function git(root: string, ...args: string[]): Promise<string | undefined> {
  try {
    const { success, stdout } = await new Deno.Command("git", {
      args: ["-C", root, ...args],
      ...childEnvironment(),
      stdout: "piped",
      stderr: "null",
    }).output();
    return success ? new TextDecoder().decode(stdout).trim() : undefined;
  } catch {
    return undefined;
  }
}
