/**
 * The code that a node is made of: the files that Deno's module graph reaches from its modules, text imports included,
 * and the slice of the lock file that its packages take.
 *
 * Type-only imports don't run, so they don't count: a stage that imports only types from the engine doesn't change
 * with it. A dynamic import of a local module doesn't count either, since it runs for some nodes only: the stage names
 * the module for those nodes (`Stage.modules`). A dynamic import of a package counts.
 *
 * A `registry.ts` that imports local modules dynamically is a table of them. One more line changes no existing node, so
 * only its static imports count, not the file itself.
 *
 * @module
 */

import { fromFileUrl, join, relative, resolve, toFileUrl } from "@std/path";
import canonicalize from "canonicalize";
import { createHash } from "node:crypto";
import { childEnvironment } from "./child_environment.ts";
import { UserError } from "../errors.ts";

/** The code of one node. */
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
  /** Absent where the module is also imported statically. */
  readonly isDynamic?: boolean;
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
  readonly modules: ReadonlyMap<string, GraphModule>;
  readonly redirects?: Readonly<Record<string, string>>;
  readonly npmPackages?: Readonly<Record<string, { readonly dependencies?: readonly string[] }>>;
}

/** URLs of the modules that a node starts from. */
type CodeRoots = readonly string[];

/**
 * Reads several code closures at once, with a single `deno info`. Entries with the same list of modules share one.
 *
 * @param roots Lists of module URLs (`import.meta.url`), by anything: a name, a node.
 * @param options.root The project root, where `deno.json` and `deno.lock` are.
 * @throws UserError when a module, or something that it imports, can't be resolved.
 */
export async function readCode<Key>(
  roots: ReadonlyMap<Key, CodeRoots>,
  options: { root: string },
): Promise<Map<Key, CodeClosure>> {
  const root = resolve(options.root);
  const urls = [...new Set([...roots.values()].flat())];
  if (urls.length === 0) return new Map();
  const graph = await moduleGraph(urls, root);
  const integrity = await lockedPackages(join(root, "deno.lock"));
  const hashes = new Map<string, string>();
  const closures = new Map<Key, CodeClosure>();
  const same = new Map<string, CodeClosure>();
  for (const [key, list] of roots) {
    const id = list.join("\n");
    let closure = same.get(id);
    if (closure === undefined) {
      closure = await closureOf(list, { graph, hashes, integrity, root });
      same.set(id, closure);
    }
    closures.set(key, closure);
  }
  return closures;
}

/** A dynamic import of a local module; paths are relative to the project root. */
export interface DynamicImport {
  /** The module that imports. */
  readonly from: string;
  /** The module that is imported. */
  readonly to: string;
}

/** The dynamic imports of local modules in all code that the modules reach, by whatever import. */
export async function readDynamicImports(
  roots: CodeRoots,
  options: { root: string },
): Promise<readonly DynamicImport[]> {
  const root = resolve(options.root);
  const graph = await moduleGraph([...new Set(roots)], root);
  return reach(roots, { graph, root, followDynamic: true }).dynamicImports;
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
  const { modules, ...graph } = JSON.parse(new TextDecoder().decode(output.stdout)) as
    & Omit<ModuleGraph, "modules">
    & { readonly modules: readonly GraphModule[] };
  return { ...graph, modules: new Map(modules.map((module) => [module.specifier, module])) };
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
  /** Content hashes by path, shared by all closures. */
  readonly hashes: Map<string, string>;
  readonly integrity: ReadonlyMap<string, string>;
  readonly root: string;
}

async function closureOf(roots: CodeRoots, context: ClosureContext): Promise<CodeClosure> {
  const { graph, hashes, integrity, root } = context;
  const reached = reach(roots, { graph, root, followDynamic: false });
  const files: Record<string, string> = {};
  for (const [name, { path, importer }] of [...reached.files].sort(([a], [b]) => a < b ? -1 : 1)) {
    let hash = hashes.get(path);
    if (hash === undefined) {
      hash = await hashSource(path, importer);
      hashes.set(path, hash);
    }
    files[name] = hash;
  }
  const packages: Record<string, string> = {};
  for (const id of transitive(reached.packages, graph)) {
    packages[id] = integrity.get(id) ?? "not in the lock file";
  }
  const digest = createHash("sha256").update(canonicalize({ files, packages }) ?? "").digest("hex");
  return { digest, files, packages };
}

/** Files, packages and dynamic imports that some modules reach. */
interface Reached {
  /** Path and importer of each file, by its name in {@linkcode CodeClosure.files}. */
  readonly files: Map<string, { readonly path: string; readonly importer: string }>;
  /** Packages that the files import. */
  readonly packages: Set<string>;
  /** Dynamic imports of local modules in the files. */
  readonly dynamicImports: DynamicImport[];
}

function reach(
  roots: CodeRoots,
  options: { graph: ModuleGraph; root: string; followDynamic: boolean },
): Reached {
  const { graph, root, followDynamic } = options;
  const reached: Reached = { files: new Map(), packages: new Set(), dynamicImports: [] };
  const seen = new Set<string>();
  const queue = roots.map((specifier) => ({ specifier, importer: "the stage" }));
  for (let next = queue.pop(); next !== undefined; next = queue.pop()) {
    let specifier = next.specifier;
    for (let to = graph.redirects?.[specifier]; to; to = graph.redirects?.[specifier]) {
      specifier = to;
    }
    if (seen.has(specifier)) continue;
    seen.add(specifier);
    const module = graph.modules.get(specifier);
    // Built-in modules (`node:fs`) are the runtime's, whose version is provenance.
    if (module === undefined || module.kind === "node") continue;
    if (module.error !== undefined) {
      throw new UserError(`Code of ${next.importer} can't be read: ${module.error}`);
    }
    if (module.npmPackage !== undefined) {
      reached.packages.add(module.npmPackage);
      continue;
    }
    const name = moduleName(specifier, root);
    const dependencies = module.dependencies ?? [];
    const isRegistry = /(^|\/)registry\.ts$/.test(name) && dependencies.some(isLazy);
    if (module.local !== undefined && !isRegistry) {
      reached.files.set(name, { path: module.local, importer: next.importer });
    }
    for (const dependency of dependencies) {
      const { code } = dependency;
      if (code?.specifier === undefined) continue;
      if (isLazy(dependency)) {
        reached.dynamicImports.push({ from: name, to: moduleName(code.specifier, root) });
        if (!followDynamic) continue;
      }
      queue.push({ specifier: code.specifier, importer: name });
    }
  }
  return reached;
}

/** Whether it is a dynamic import of a local module. */
function isLazy({ code, isDynamic }: Dependency): boolean {
  return isDynamic === true && code?.specifier?.startsWith("file:") === true;
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

/**
 * Name of a module in {@linkcode CodeClosure.files}: its path relative to the project root. A module from the web keeps
 * its URL, as it lives in a cache whose place is nobody's business.
 */
export function moduleName(specifier: string, root: string): string {
  if (!specifier.startsWith("file:")) return specifier;
  return relative(root, fromFileUrl(specifier)).replaceAll("\\", "/");
}

/** Module URL of a path, as `Stage.module` wants it. */
export function moduleUrl(path: string): string {
  return toFileUrl(resolve(path)).href;
}
