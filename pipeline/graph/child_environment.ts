/**
 * The environment of the programs that are started for facts: `deno info`, git.
 *
 * @module
 */

/**
 * What a started program finds in its environment: this process's variables and `more`, without what the dynamic linker
 * reads. With one of those Deno starts a program only when every program is allowed, and `LD_LIBRARY_PATH` is common on GPU
 * nodes. Without permission to read the environment it is inherited whole.
 *
 * @returns What `Deno.Command` takes.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { childEnvironment } from "./child_environment.ts";
 *
 * const { env } = childEnvironment({ NO_COLOR: "1" });
 * assertEquals(env.NO_COLOR, "1");
 * assertEquals(env.LD_LIBRARY_PATH, undefined);
 * ```
 */
export function childEnvironment(
  more: Record<string, string> = {},
): { env: Record<string, string>; clearEnv?: boolean } {
  if (Deno.permissions.querySync({ name: "env" }).state !== "granted") return { env: more };
  const variables = Object.entries(Deno.env.toObject()).filter(([name]) =>
    !/^(?:LD|DYLD)_/.test(name)
  );
  return { env: { ...Object.fromEntries(variables), ...more }, clearEnv: true };
}
