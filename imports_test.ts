/** Holds the import rule of ARCHITECTURE.md over what `deno info` says of every module. */

import { assert, assertEquals } from "@std/assert";
import { fromFileUrl, join, toFileUrl } from "@std/path";

const ROOT = fromFileUrl(new URL("./", import.meta.url));
const FOLDERS = ["pipeline", "stages", "model"];

/** A module's path and what it imports, both relative to the root. */
interface Module {
  readonly path: string;
  /** Imports that run. */
  readonly code: readonly string[];
  /** Those and imports of types. */
  readonly all: readonly string[];
}

const isTest = (path: string) => /(_test|_bench|testing)\.ts$|\/testdata\//.test(path);
const under = (folder: string) => (path: string) => path.startsWith(folder + "/");

/** `true` where a module may import another. Tests may look further, but never from the pipeline at the model or back. */
function allowed(from: string, to: string): boolean {
  if (!FOLDERS.some((folder) => under(folder)(from)) || !/\.(ts|wgsl)$/.test(to)) return true;
  if (to.startsWith("types/")) return true;
  if (under("pipeline")(from)) return under("pipeline")(to);
  if (under("stages")(from)) return ["stages", "pipeline", "model"].some((f) => under(f)(to));
  if (isTest(from)) return under("model")(to) || under("shaders")(to);
  if (under("model/gpu")(from)) return under("model/gpu")(to) || under("shaders")(to);
  if (under("model/ops")(from)) {
    return ["model/ops", "model/gpu", "shaders"].some((f) => under(f)(to));
  }
  // Above the operations no one knows shaders.
  if (!under("model")(to)) return false;
  const contract = to === "model/config.ts";
  const layer = ["model/layer", "model/ops", "model/gpu"];
  if (under("model/layer")(from)) return contract || layer.some((f) => under(f)(to));
  if (under("model/attention")(from)) {
    return contract || ["model/attention", ...layer].some((f) => under(f)(to));
  }
  if (under("model/ffn")(from)) {
    return contract || ["model/ffn", ...layer].some((f) => under(f)(to));
  }
  if (under("model/reference")(from)) {
    return under("model/reference")(to) || [
      "model/section.ts",
      "model/layer/parameter.ts",
      "model/trunk/architecture.ts",
      "model/trunk/parameters.ts",
    ].includes(to);
  }
  if (under("model/text")(from)) {
    return contract || under("model/text")(to) || to === "model/training/sampler.ts";
  }
  return true;
}

async function sources(folder: string): Promise<string[]> {
  const found: string[] = [];
  for await (const entry of Deno.readDir(join(ROOT, folder))) {
    const path = `${folder}/${entry.name}`;
    if (entry.isDirectory) found.push(...await sources(path));
    else if (/\.ts$/.test(path) && !path.endsWith(".d.ts")) found.push(path);
  }
  return found.sort();
}

async function modules(): Promise<Module[]> {
  const paths = (await Promise.all(FOLDERS.map(sources))).flat();
  const entry = await Deno.makeTempFile({ suffix: ".ts" });
  try {
    await Deno.writeTextFile(
      entry,
      paths.map((path) => `import ${JSON.stringify(toFileUrl(join(ROOT, path)).href)};`).join("\n"),
    );
    const { stdout, success } = await new Deno.Command(Deno.execPath(), {
      args: ["info", "--json", "--config", join(ROOT, "deno.json"), entry],
      stderr: "inherit",
    }).output();
    assert(success, "deno info failed");
    const base = toFileUrl(ROOT).href;
    interface Edge {
      readonly code?: { readonly specifier?: string };
      readonly type?: { readonly specifier?: string };
    }
    const graph: { modules: { specifier: string; dependencies?: Edge[] }[] } = JSON.parse(
      new TextDecoder().decode(stdout),
    );
    const local = (specifier: string | undefined) =>
      specifier?.startsWith(base) && !specifier.includes("/node_modules/")
        ? [specifier.slice(base.length)]
        : [];
    return graph.modules.flatMap(({ specifier, dependencies = [] }) =>
      local(specifier).map((path) => ({
        path,
        code: dependencies.flatMap(({ code }) => local(code?.specifier)),
        all: dependencies.flatMap(({ code, type }) => [
          ...local(code?.specifier),
          ...local(type?.specifier),
        ]),
      }))
    );
  } finally {
    await Deno.remove(entry);
  }
}

const graph = modules();

Deno.test("Modules import as ARCHITECTURE.md allows", async () => {
  const found = await graph;
  assert(found.length > 5, "the module graph is empty");
  const wrong = found.flatMap(({ path, all }) =>
    [...new Set(all)].filter((to) => !allowed(path, to)).map((to) => `${path} imports ${to}`)
  );
  assertEquals(wrong, []);
});

Deno.test("No module imports itself by a detour", async () => {
  const edges = new Map((await graph).map(({ path, code }) => [path, code]));
  const state = new Map<string, "open" | "done">();
  const cycles: string[] = [];
  const visit = (path: string, trail: readonly string[]) => {
    if (state.get(path) === "done") return;
    if (state.get(path) === "open") {
      cycles.push([...trail.slice(trail.indexOf(path)), path].join(" → "));
      return;
    }
    state.set(path, "open");
    for (const next of edges.get(path) ?? []) visit(next, [...trail, path]);
    state.set(path, "done");
  };
  for (const path of edges.keys()) visit(path, []);
  assertEquals(cycles, []);
});

Deno.test("Shaders are imported as text", async () => {
  const wrong: string[] = [];
  for (const path of await sources("model")) {
    const text = await Deno.readTextFile(join(ROOT, path));
    for (const [statement] of text.matchAll(/^import [^;]*\.wgsl"[^;]*;/gm)) {
      if (!/with \{\s*type: "text",?\s*\}/.test(statement)) wrong.push(`${path}: ${statement}`);
    }
  }
  assertEquals(wrong, []);
});

Deno.test("The rule refuses what it should", () => {
  assert(!allowed("pipeline/graph/graph.ts", "model/config.ts"));
  assert(!allowed("model/config.ts", "pipeline/stage.ts"));
  assert(!allowed("pipeline/graph/graph_test.ts", "stages/main.ts"));
  assert(!allowed("model/gpu/plan.ts", "model/config.ts"));
  assert(!allowed("model/gpu/plan.ts", "model/ops/gemm/gemm.ts"));
  assert(!allowed("model/ops/gemm/gemm.ts", "model/attention/mla/mla.ts"));
  assert(!allowed("model/attention/mla/mla.ts", "shaders/gemm.wgsl"));
  assert(!allowed("model/reference/attention/mla.ts", "model/gpu/plan.ts"));
  assert(allowed("stages/train/train.ts", "model/config.ts"));
  assert(allowed("model/ops/gemm/gemm.ts", "shaders/gemm.wgsl"));
  assert(allowed("model/attention/mla/mla.ts", "model/config.ts"));
});
