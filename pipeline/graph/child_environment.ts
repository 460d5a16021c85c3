/**
 * The environment of the programs that are started for facts: `deno info`, git.
 *
 * @module
 */

/**
 * Makes the environment of a program to start: this process's variables and `more`, without those that the dynamic
 * linker reads. If one of those is set, Deno starts a program only when every program is allowed, and GPU nodes often
 * set `LD_LIBRARY_PATH`. Without permission to read the environment, the program inherits it whole.
 *
 * @returns Options for `Deno.Command`.
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
