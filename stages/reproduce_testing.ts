/**
 * The real experiment at its smallest, in a store and a results folder of its own, run as a user runs it: with the very
 * command and permissions of `deno task`.
 *
 * @module
 */

import { fromFileUrl, join } from "@std/path";
import denoJson from "../deno.json" with { type: "json" };
import { type NodeRecord, objectsOf, Records } from "../pipeline/store/records/records.ts";

/** Folder of `deno.json`. */
export const ROOT = fromFileUrl(new URL("..", import.meta.url));
/** The configuration that is run when a check names no other. */
export const MINIMAL_CONFIG = "configs/testing/minimal.yaml";

/** How a command ended. */
export interface Ended {
  readonly code: number;
  readonly signal: Deno.Signal | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** The output of `reproduce --json`, as far as checks read it. */
export interface Summary {
  readonly run: string;
  readonly state: string;
  readonly nodes: readonly { node: string; state: string; reason?: string; error?: string }[];
  readonly problems: readonly string[];
}

/** A command under way. */
export interface Running {
  readonly pid: number;
  /** Its standard error so far. */
  stderr(): string;
  kill(signal: Deno.Signal): void;
  readonly ended: Promise<Ended>;
}

/** A store and a results folder of one's own. */
export class Sandbox implements AsyncDisposable {
  /** Holds the store and the results; inside the project, since results may be nowhere else. */
  readonly dir: string;
  /** Further environment variables of commands. */
  readonly env: Record<string, string> = {};
  readonly #config: string;

  private constructor(dir: string, config: string) {
    this.dir = dir;
    this.#config = config;
  }

  /** Makes an empty one, in a place that version control ignores. */
  static async create(config: string = MINIMAL_CONFIG): Promise<Sandbox> {
    const parent = join(ROOT, "results", "checks");
    await Deno.mkdir(parent, { recursive: true });
    return new Sandbox(await Deno.makeTempDir({ dir: parent }), config);
  }

  /** Where objects and manifests are. */
  get store(): string {
    return join(this.dir, "store");
  }

  /** Where the report is copied to. */
  get results(): string {
    return join(this.dir, "results");
  }

  /** Starts a command; `reproduce`, `status` and others that read a configuration get this sandbox's. */
  start(command: string, ...args: string[]): Running {
    const tasks: Readonly<Record<string, { readonly command: string }>> = denoJson.tasks;
    const words = tasks[command]?.command.split(" ") ?? [];
    if (words[0] !== "deno") throw new Error(`${command} is no task that starts deno`);
    const results = this.results.slice(ROOT.length).replaceAll("\\", "/");
    const configured = ["reproduce", "status", "why", "dag"].includes(command)
      ? ["--config", this.#config, "--set", `results=${results}`]
      : [];
    const child = new Deno.Command(Deno.execPath(), {
      args: [...words.slice(1), ...args, ...configured, "--store", this.store],
      cwd: ROOT,
      env: { NO_COLOR: "1", ...this.env },
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    let stderr = "";
    const reading = (async () => {
      for await (const text of child.stderr.pipeThrough(new TextDecoderStream())) stderr += text;
    })();
    const ended = (async () => {
      const [{ code, signal }, stdout] = await Promise.all([
        child.status,
        new Response(child.stdout).text(),
        reading,
      ]);
      return { code, signal, stdout, stderr };
    })();
    return {
      pid: child.pid,
      stderr: () => stderr,
      kill: (signal) => {
        try {
          child.kill(signal);
        } catch {
          // It had ended.
        }
      },
      ended,
    };
  }

  /** Runs a command to its end. */
  run(command: string, ...args: string[]): Promise<Ended> {
    return this.start(command, ...args).ended;
  }

  /** Runs a command with `--json` and returns its output. */
  async json<T>(command: string, ...args: string[]): Promise<T> {
    const { stdout, stderr } = await this.run(command, ...args, "--json");
    try {
      return JSON.parse(stdout);
    } catch {
      throw new Error(`${command} printed no JSON: ${stdout}\n${stderr}`);
    }
  }

  /** Path of an object. */
  object(sha256: string): string {
    return join(this.store, "objects", sha256.slice(0, 2), sha256);
  }

  /** Manifests of all published nodes. */
  async records(): Promise<NodeRecord[]> {
    const records = new Records(this.store, join(this.store, "tmp"));
    const nodes: NodeRecord[] = [];
    for (const key of await records.nodeKeys()) {
      const record = await records.readNode(key);
      if (record !== undefined) nodes.push(record);
    }
    return nodes.sort((a, b) => a.node < b.node ? -1 : 1);
  }

  /** Names of the objects that no manifest refers to, such as those of an attempt that was killed while it published. */
  async orphans(): Promise<string[]> {
    const owned = new Set((await this.records()).flatMap(objectsOf).map(({ sha256 }) => sha256));
    const found: string[] = [];
    for (const prefix of await names(join(this.store, "objects"))) {
      for (const name of await names(join(this.store, "objects", prefix))) {
        if (/^[0-9a-f]{64}$/.test(name) && !owned.has(name)) found.push(name);
      }
    }
    return found;
  }

  /** Removes the store and the results. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.dir, { recursive: true });
  }
}

async function names(folder: string): Promise<string[]> {
  try {
    return (await Array.fromAsync(Deno.readDir(folder), ({ name }) => name)).sort();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}

/** States by node. */
export function states(summary: Pick<Summary, "nodes">): Record<string, string> {
  return Object.fromEntries(summary.nodes.map(({ node, state }) => [node, state]));
}

/** The results of an experiment that aren't measured: a line of text for each, by its subject. */
export async function contents(sandbox: Sandbox): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  const records = await sandbox.records();
  for (const { node, key, outputs, metrics } of records) {
    found.set(`${node} key`, key);
    found.set(`${node} metrics`, metrics?.sha256 ?? "none");
    for (const [name, output] of Object.entries(outputs)) {
      if (output.kind === "json") found.set(`${node} ${name}`, JSON.stringify(output.value));
      else if (output.kind === "file") found.set(`${node} ${name}`, output.sha256);
      else if (output.kind === "directory") {
        for (const file of output.files) found.set(`${node} ${name}/${file.path}`, file.sha256);
      }
    }
  }
  // The catalogue must agree with the manifests.
  const sql = "SELECT node, name, step, value FROM metrics WHERE NOT measured " +
    "AND run = (SELECT max(run) FROM runs) ORDER BY ALL";
  for (const row of await sandbox.json<{ node: string; name: string }[]>("sql", sql)) {
    const place = `catalogue ${row.node} ${row.name}`;
    found.set(place, `${found.get(place) ?? ""}${JSON.stringify(row)}`);
  }
  return found;
}

/** Entries that two experiments do not share. */
export function differences(
  a: ReadonlyMap<string, string>,
  b: ReadonlyMap<string, string>,
): string[] {
  return [...new Set([...a.keys(), ...b.keys()])].filter((name) => a.get(name) !== b.get(name))
    .sort();
}
