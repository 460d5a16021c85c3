/**
 * The code that a stage is made of: what Deno's module graph reaches from the stage's module and its workers, text
 * imports included, and the slice of the lock file that its packages take.
 *
 * Type-only imports don't run, so they don't count: a stage that imports only types from the engine doesn't change
 * with it.
 *
 * @module
 */

import { fromFileUrl, join, relative, resolve, toFileUrl } from "@std/path";
import canonicalize from "canonicalize";
import { createHash } from "node:crypto";
import { childEnvironment } from "./child_environment.ts";
import { UserError } from "../errors.ts";

/** The code of one stage. */
export interface CodeClosure {
  /** SHA-256 over `files` and `packages`. */
  readonly digest: string;
  /** SHA-256 of each file by its path relative to the project root. */
  readonly files: Readonly<Record<string, string>>;
  /** Integrity hashes of the packages reached, transitively, by `name@version`. */
  readonly packages: Readonly<Record<string, string>>;
}

interface Dependency {
  readonly code?: { readonly specifier?: string };
}

interface GraphModule {
  readonly kind?: string;
  readonly specifier: string;
  readonly local?: string;
  readonly error?: string;
  readonly npmPackage?: string;
  readonly dependencies?: readonly Dependency[];
}

interface ModuleGraph {
  readonly modules: readonly GraphModule[];
  readonly redirects?: Readonly<Record<string, string>>;
  readonly npmPackages?: Readonly<Record<string, { readonly dependencies?: readonly string[] }>>;
}

/** Module URLs of one stage: its own and its workers'. */
export type CodeRoots = readonly string[];

/**
 * Reads the code closure of several stages at once, with a single `deno info`.
 *
 * @param roots Module URLs (`import.meta.url`) by any name; workers are further URLs of the same entry.
 * @param options.root The project root, where `deno.json` and `deno.lock` are.
 * @throws UserError when a module, or something that it imports, can't be resolved.
 */
export async function readCode(
  roots: ReadonlyMap<string, CodeRoots>,
  options: { root: string },
): Promise<Map<string, CodeClosure>> {
  const root = resolve(options.root);
  const urls = [...new Set([...roots.values()].flat())];
  if (urls.length === 0) return new Map();
  const graph = await moduleGraph(urls, root);
  const integrity = await lockedPackages(join(root, "deno.lock"));
  const modules = new Map(graph.modules.map((module) => [module.specifier, module]));
  const hashes = new Map<string, string>();
  const closures = new Map<string, CodeClosure>();
  const same = new Map<string, CodeClosure>();
  for (const [name, list] of roots) {
    const id = list.join("\n");
    let closure = same.get(id);
    if (closure === undefined) {
      closure = await closureOf(list, { graph, modules, hashes, integrity, root });
      same.set(id, closure);
    }
    closures.set(name, closure);
  }
  return closures;
}

async function moduleGraph(urls: readonly string[], root: string): Promise<ModuleGraph> {
  for (const url of urls) {
    if (!url.startsWith("file:")) {
      throw new UserError(`The stage's module ${url} is not a local file; expected a file: URL.`);
    }
  }
  // `deno info` takes one module: a data URL that imports all of them needs no temporary file.
  const imports = urls.map((url) => `import ${JSON.stringify(url)};`).join("");
  const data = `data:application/typescript,${encodeURIComponent(imports)}`;
  const output = await new Deno.Command(await denoCommand(), {
    args: ["info", "--json", data],
    cwd: root,
    ...childEnvironment({ NO_COLOR: "1" }),
    stdout: "piped",
    stderr: "piped",
  }).output();
  if (!output.success) {
    const message = new TextDecoder().decode(output.stderr).trim();
    throw new UserError(`\`deno info\` can't read the stages' module graph: ${message}`);
  }
  return JSON.parse(new TextDecoder().decode(output.stdout));
}

/** The running binary where that is allowed, otherwise the `deno` of the path (`--allow-run=deno`). */
async function denoCommand(): Promise<string> {
  const path = Deno.execPath();
  const permission = await Deno.permissions.query({ name: "run", command: path });
  return permission.state === "granted" ? path : "deno";
}

/** Integrity hash of every package in the lock file; empty without one. */
async function lockedPackages(path: string): Promise<ReadonlyMap<string, string>> {
  let text: string;
  try {
    text = await Deno.readTextFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return new Map();
    throw error;
  }
  const lock = JSON.parse(text) as {
    npm?: Record<string, { integrity?: string }>;
    jsr?: Record<string, { integrity?: string }>;
  };
  const entries = [...Object.entries(lock.npm ?? {}), ...Object.entries(lock.jsr ?? {})];
  return new Map(entries.map(([id, entry]) => [id, entry.integrity ?? "no integrity hash"]));
}

interface ClosureContext {
  readonly graph: ModuleGraph;
  readonly modules: ReadonlyMap<string, GraphModule>;
  /** Content hashes by path, shared by all stages. */
  readonly hashes: Map<string, string>;
  readonly integrity: ReadonlyMap<string, string>;
  readonly root: string;
}

async function closureOf(roots: CodeRoots, context: ClosureContext): Promise<CodeClosure> {
  const { graph, modules, hashes, integrity, root } = context;
  const files: Record<string, string> = {};
  const packages = new Set<string>();
  const seen = new Set<string>();
  const queue: { specifier: string; importer: string }[] = roots.map((specifier) => ({
    specifier,
    importer: "the stage",
  }));
  for (let next = queue.pop(); next !== undefined; next = queue.pop()) {
    let specifier = next.specifier;
    for (let to = graph.redirects?.[specifier]; to; to = graph.redirects?.[specifier]) {
      specifier = to;
    }
    if (seen.has(specifier)) continue;
    seen.add(specifier);
    const module = modules.get(specifier);
    // Built-in modules (`node:fs`) are the runtime's, whose version is provenance.
    if (module === undefined || module.kind === "node") continue;
    if (module.error !== undefined) {
      throw new UserError(`Code of ${next.importer} can't be read: ${module.error}`);
    }
    if (module.npmPackage !== undefined) {
      packages.add(module.npmPackage);
      continue;
    }
    if (module.local !== undefined) {
      const path = relative(root, module.local).replaceAll("\\", "/");
      let hash = hashes.get(module.local);
      if (hash === undefined) {
        hash = await hashSource(module.local, next.importer);
        hashes.set(module.local, hash);
      }
      // Modules from the web live in a cache whose place is nobody's business.
      files[specifier.startsWith("file:") ? path : specifier] = hash;
    }
    for (const dependency of module.dependencies ?? []) {
      const target = dependency.code?.specifier;
      if (target !== undefined) {
        queue.push({ specifier: target, importer: display(specifier, root) });
      }
    }
  }
  const locked = Object.fromEntries(
    transitive(packages, graph).map((id) => [id, integrity.get(id) ?? "not in the lock file"]),
  );
  const sorted = Object.fromEntries(Object.entries(files).sort(([a], [b]) => a < b ? -1 : 1));
  const digest = createHash("sha256")
    .update(canonicalize({ files: sorted, packages: locked }) ?? "").digest("hex");
  return { digest, files: sorted, packages: locked };
}

async function hashSource(path: string, importer: string): Promise<string> {
  try {
    return createHash("sha256").update(await Deno.readFile(path)).digest("hex");
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) {
      throw new UserError(`Code of ${importer} can't be read: ${path} does not exist.`);
    }
    throw error;
  }
}

function transitive(packages: ReadonlySet<string>, graph: ModuleGraph): string[] {
  const reached = new Set<string>();
  const queue = [...packages];
  for (let id = queue.pop(); id !== undefined; id = queue.pop()) {
    if (reached.has(id)) continue;
    reached.add(id);
    queue.push(...graph.npmPackages?.[id]?.dependencies ?? []);
  }
  return [...reached].sort();
}

function display(specifier: string, root: string): string {
  return specifier.startsWith("file:") ? relative(root, fromFileUrl(specifier)) : specifier;
}

/** Module URL of a path, as `Stage.module` wants it. */
export function moduleUrl(path: string): string {
  return toFileUrl(resolve(path)).href;
}
