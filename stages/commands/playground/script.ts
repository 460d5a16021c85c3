/**
 * The page's script: its modules and those of `model/`, with the kernels, in one file that a browser runs.
 *
 * esbuild runs in this process, as WebAssembly without a file system. Deno resolves names, by `deno.json`, and reads the modules; so
 * building needs no network, no other program and no permission but reading.
 *
 * @module
 */

import { build, initialize, type Plugin } from "esbuild-wasm/esm/browser.js";

/** The page's first module, which the others follow. */
const ENTRY = import.meta.resolve("./page/app.js");

/** A module of a package, in Deno's layout of `node_modules`: the package's folder, and its name and version. */
const PACKAGE = /(file:.*\/node_modules\/\.deno\/([^/]+)\/node_modules\/(?:@[^/]+\/)?[^/]+\/)/;

const modules: Plugin = {
  name: "deno",
  setup({ onResolve, onLoad }) {
    const namespace = "deno";
    onResolve({ filter: /.*/ }, ({ path, importer, kind }) => {
      if (kind === "entry-point") return { path, namespace };
      return {
        path: /^\.\.?\//.test(path) ? new URL(path, importer).href : import.meta.resolve(path),
        namespace,
      };
    });
    onLoad({ filter: /.*/, namespace }, async ({ path, with: attributes }) => {
      const url = new URL(path);
      if (url.protocol !== "file:") throw new Error(`${path} is no module of a page`);
      const loader = attributes["type"] === "text" ? "text" : path.endsWith(".ts") ? "ts" : "js";
      return { contents: await Deno.readTextFile(url), loader };
    });
  },
};

/** The page's script. */
export interface PageScript {
  readonly text: string;
  /** Packages that are in it: URLs of their folders, by name and version. */
  readonly packages: ReadonlyMap<string, URL>;
}

let built: Promise<PageScript> | undefined;

/**
 * Builds the script, once a process. Takes some seconds.
 *
 * @throws {Error} If a module can't be part of a page, naming it.
 */
export function buildScript(): Promise<PageScript> {
  return built ??= buildOnce();
}

async function buildOnce(): Promise<PageScript> {
  const wasm = await Deno.readFile(new URL(import.meta.resolve("esbuild-wasm/esbuild.wasm")));
  await initialize({ wasmModule: await WebAssembly.compile(wasm), worker: false });
  const { outputFiles, metafile } = await build({
    entryPoints: [ENTRY],
    plugins: [modules],
    bundle: true,
    write: false,
    // Not as a module: browsers load none from a file.
    format: "iife",
    target: "es2022",
    charset: "utf8",
    // Names stay, for error messages.
    minifyWhitespace: true,
    minifySyntax: true,
    // The registries of kinds give the names of their modules to keys of nodes, which a page has not.
    define: { "import.meta.resolve": "String" },
    metafile: true,
    logLevel: "silent",
  });
  const packages = new Map<string, URL>();
  for (const path of Object.keys(metafile.inputs)) {
    const [, url, version] = PACKAGE.exec(path) ?? [];
    if (url !== undefined) packages.set(version!.replace("+", "/"), new URL(url));
  }
  return { text: outputFiles[0]!.text, packages };
}
