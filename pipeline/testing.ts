/**
 * A toy project in a folder of its own; the engine's tests and benchmarks run it as a subprocess.
 *
 * @module
 */

import { join, resolve, toFileUrl } from "@std/path";
import { moduleName } from "./graph/code.ts";

const ENGINE = resolve(import.meta.dirname!);
const ROOT = resolve(ENGINE, "..");
const TOY = join(ENGINE, "testdata", "toy");

/** How a command ended. */
export interface Ended {
  /** Exit code. */
  readonly code: number;
  /** Standard output. */
  readonly stdout: string;
  /** Standard error. */
  readonly stderr: string;
}

/** Decodes the output of a command. */
export function endedAs({ code, stdout, stderr }: Deno.CommandOutput): Ended {
  const decoder = new TextDecoder();
  return { code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
}

/** Runs a module with the project's imports and only these permissions, with `LD_LIBRARY_PATH` set as on GPU nodes. */
export async function runOnGpuNode(path: string, permissions: readonly string[]): Promise<Ended> {
  const config = `--config=${join(ROOT, "deno.json")}`;
  const command = new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-check", config, ...permissions, "--no-prompt", path],
    env: { LD_LIBRARY_PATH: ENGINE, NO_COLOR: "1" },
  });
  return endedAs(await command.output());
}

/** A copy of the toy project. */
export class ToyProject implements AsyncDisposable {
  /** The project's folder; the store is `.ethos` in it, results are in `results`. */
  readonly dir: string;
  /** Further environment variables of commands. */
  readonly env: Record<string, string> = {};

  private constructor(dir: string) {
    this.dir = dir;
  }

  /** Makes a copy whose stages import this engine. */
  static async create(dir?: string): Promise<ToyProject> {
    dir ??= await Deno.realPath(await Deno.makeTempDir({ prefix: "toy_" }));
    for await (const entry of Deno.readDir(TOY)) {
      const text = await Deno.readTextFile(join(TOY, entry.name));
      const engine = toFileUrl(ENGINE).href;
      await Deno.writeTextFile(join(dir, entry.name), text.replaceAll('"../../', `"${engine}/`));
    }
    const config = JSON.parse(await Deno.readTextFile(join(ROOT, "deno.json")));
    const imports = Object.fromEntries(
      Object.entries(config.imports as Record<string, string>).map(([name, target]) => [
        name,
        target.startsWith("./") ? toFileUrl(join(ROOT, target)).href : target,
      ]),
    );
    // Packages come from Deno's own cache, so that a copy costs nothing.
    const copy = { nodeModulesDir: "none", imports, compilerOptions: config.compilerOptions };
    await Deno.writeTextFile(join(dir, "deno.json"), JSON.stringify(copy));
    await Deno.copyFile(join(ROOT, "deno.lock"), join(dir, "deno.lock"));
    return new ToyProject(dir);
  }

  /** A path in the project. */
  path(...parts: string[]): string {
    return join(this.dir, ...parts);
  }

  /** Starts a command. */
  spawn(...args: string[]): Deno.ChildProcess {
    return new Deno.Command(Deno.execPath(), {
      args: [
        "run",
        "--quiet",
        "--no-check",
        "--no-prompt",
        "--allow-read",
        "--allow-write",
        "--allow-env",
        "--allow-sys",
        "--allow-ffi",
        "--allow-net=127.0.0.1",
        "--allow-run",
        this.path("main.ts"),
        ...args,
      ],
      cwd: this.dir,
      env: { NO_COLOR: "1", ...this.env },
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
  }

  /** Runs a command to its end. */
  async run(...args: string[]): Promise<Ended> {
    return endedAs(await this.spawn(...args).output());
  }

  /** Runs a command with `--json` and returns the value that it printed. */
  async json<T>(...args: string[]): Promise<T> {
    const { stdout, stderr } = await this.run(...args, "--json");
    try {
      return JSON.parse(stdout);
    } catch {
      throw new Error(`Not JSON: ${stdout}\n${stderr}`);
    }
  }

  /** Removes the project. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.dir, { recursive: true });
  }
}

/**
 * Lists the local modules that ran in processes whose `DENO_COVERAGE_DIR` was the folder. Paths are relative to the
 * project root.
 */
export async function modulesThatRan(folder: string, root: string): Promise<string[]> {
  const ran = new Set<string>();
  for await (const { name } of Deno.readDir(folder)) {
    const { url } = JSON.parse(await Deno.readTextFile(join(folder, name))) as { url: string };
    const path = moduleName(url, root);
    if (url.startsWith("file:") && !/^\.\.|(^|\/)node_modules\//.test(path)) ran.add(path);
  }
  return [...ran].sort();
}

/** The JSON that `reproduce --json` prints. */
export interface Summary {
  readonly run: string;
  readonly state: string;
  readonly nodes: readonly { node: string; state: string; reason?: string; error?: string }[];
  readonly problems: readonly string[];
}

/** Names of the toy's nodes. */
export const ALL = ["numbers", "train[rate=0.1]", "train[rate=0.2]", "train[rate=0.3]", "report"];

/** State of each node of a run. */
export function states(summary: Summary): Record<string, string> {
  return Object.fromEntries(summary.nodes.map(({ node, state }) => [node, state]));
}

/** The same state for every node. */
export function all(state: string): Record<string, string> {
  return Object.fromEntries(ALL.map((name) => [name, state]));
}

/** Whether there is something at a path. */
export async function fileExists(path: string): Promise<boolean> {
  try {
    await Deno.stat(path);
    return true;
  } catch {
    return false;
  }
}
