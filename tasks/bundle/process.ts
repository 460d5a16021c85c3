/** Runs other programs; an error of one shows its output. */

/** How a program is run. */
export interface RunOptions {
  readonly args: readonly string[];
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Nothing of this process's environment. */
  readonly clearEnv?: boolean;
}

/** The exit code and output of a program. */
export interface Finished {
  readonly success: boolean;
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program to its end. */
export async function run(program: string, options: RunOptions): Promise<Finished> {
  const { args, cwd, env, clearEnv = false } = options;
  const output = await new Deno.Command(program, {
    args: [...args],
    ...cwd === undefined ? {} : { cwd },
    ...env === undefined ? {} : { env: { ...env } },
    clearEnv,
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).output();
  const decoder = new TextDecoder();
  return {
    success: output.success,
    code: output.code,
    stdout: decoder.decode(output.stdout),
    stderr: decoder.decode(output.stderr),
  };
}

/**
 * Runs a program and returns its standard output.
 *
 * @throws {Error} with its standard error when it failed.
 */
export async function read(program: string, options: RunOptions): Promise<string> {
  const { success, code, stdout, stderr } = await run(program, options);
  if (success) return stdout;
  throw new Error(
    `\`${program} ${options.args.join(" ")}\` ended with ${code}: ${
      (stderr || stdout).trim().split("\n").slice(-12).join("\n")
    }`,
  );
}
