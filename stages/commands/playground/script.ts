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

let built: Promise<string> | undefined;

/**
 * Builds the script, once a process. Takes some seconds.
 *
 * @throws {Error} If a module can't be part of a page, naming it.
 */
export function buildScript(): Promise<string> {
  return built ??= buildOnce();
}

async function buildOnce(): Promise<string> {
  const wasm = await Deno.readFile(new URL(import.meta.resolve("esbuild-wasm/esbuild.wasm")));
  await initialize({ wasmModule: await WebAssembly.compile(wasm), worker: false });
  const { outputFiles } = await build({
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
    legalComments: "inline",
    // The registries of kinds give the names of their modules to keys of nodes, which a page has not.
    define: { "import.meta.resolve": "String" },
    logLevel: "silent",
  });
  return outputFiles[0]!.text;
}
