/**
 * Open MPI for tests: installed by the test's own line where it is missing, and more ranks than cores.
 *
 * @module
 */

/** Environment in which root may start ranks, and more of them than there are cores. */
export const TEST_ENVIRONMENT: Readonly<Record<string, string>> = {
  OMPI_ALLOW_RUN_AS_ROOT: "1",
  OMPI_ALLOW_RUN_AS_ROOT_CONFIRM: "1",
  OMPI_MCA_rmaps_base_oversubscribe: "1",
  XDG_RUNTIME_DIR: Deno.env.get("XDG_RUNTIME_DIR") || "/tmp",
  NO_COLOR: "1",
};

const INSTALL =
  "apt-get update -qq && apt-get install -y --no-install-recommends libopenmpi-dev openmpi-bin";

/**
 * Makes sure that `mpirun` is there.
 *
 * @throws {Error} If it is not and can't be installed: a test that needs it fails, it does not skip.
 */
export async function ensureOpenMpi(): Promise<void> {
  const run = async (command: string, ...args: string[]) => {
    try {
      return await new Deno.Command(command, { args, stdout: "piped", stderr: "piped" }).output();
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return undefined;
      throw error;
    }
  };
  if ((await run("mpirun", "--version"))?.success) return;
  const installed = await run("sh", "-c", INSTALL);
  if (installed?.success && (await run("mpirun", "--version"))?.success) return;
  const said = installed ? new TextDecoder().decode(installed.stderr).trim() : "there is no sh";
  throw new Error(`Open MPI is missing and \`${INSTALL}\` failed: ${said}`);
}
