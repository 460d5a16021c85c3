/** Holds the import rule of ARCHITECTURE.md over what `deno info` says of every module. */

import { assert, assertEquals } from "@std/assert";
import { fromFileUrl, join, toFileUrl } from "@std/path";

const ROOT = fromFileUrl(new URL("./", import.meta.url));
const FOLDERS = ["pipeline", "stages", "model"];

/** A module's path and what it imports, both relative to the root. */
interface Module {
  readonly path: string;
  /** Imports that run, and imports of types. */
  readonly all: readonly string[];
}

const isTest = (path: string) => /(_test|_bench|testing)\.ts$|\/testdata\//.test(path);
const under = (folder: string) => (path: string) => path.startsWith(folder + "/");

/** Folders and files from the bottom up; those of one line do not import each other, unless one is in the other. */
const LAYERS: Readonly<Record<"pipeline" | "model", readonly (readonly string[])[]>> = {
  pipeline: [
    ["pipeline/errors.ts", "pipeline/stage.ts", "pipeline/terminal"],
    ["pipeline/config", "pipeline/graph"],
    ["pipeline/store"],
    ["pipeline/remote", "pipeline/tensorboard"],
    ["pipeline/executors"],
    ["pipeline/run"],
    ["pipeline/dashboard"],
    ["pipeline/command.ts"],
    ["pipeline/commands"],
    ["pipeline/command_line.ts"],
  ],
  model: [
    ["model/gpu", "model/text"],
    ["model/ops"],
    ["model/layer"],
    ["model/ffn/product_key", "model/ffn/beam", "model/ffn/mixture"],
    ["model/attention", "model/ffn"],
    ["model/trunk/schema.ts", "model/sparse/options.ts"],
    ["model/section.ts"],
    ["model/trunk"],
    ["model/reference", "model/load.ts"],
    ["model/checkpoint"],
    ["model/inference", "model/pretrained", "model/export"],
    ["model/training"],
    ["model/sparse", "model/interpret"],
    ["model/config.ts"],
    ["model/equal_size.ts", "model/bench", "model/golden"],
  ],
};

/** The line of a path in its layers: that of the longest entry that holds it. */
function place(path: string): { rank: number; entry: string } | undefined {
  const layers = under("pipeline")(path) ? LAYERS.pipeline : LAYERS.model;
  let found: { rank: number; entry: string } | undefined;
  for (const [rank, entries] of layers.entries()) {
    for (const entry of entries) {
      const holds = path === entry || path.startsWith(entry + "/");
      if (holds && entry.length > (found?.entry.length ?? 0)) found = { rank, entry };
    }
  }
  return found;
}

/** The kind that a path belongs to: `model/ffn/ethos`. */
const kindOf = (path: string) => /^model\/(attention|ffn)\/[^/]+(?=\/)/.exec(path)?.[0];

/** `true` where a module may import another, types included. Tests may look further, but never from the pipeline at the model or back. */
function allowed(from: string, to: string): boolean {
  if (!FOLDERS.some((folder) => under(folder)(from)) || !/\.(ts|wgsl)$/.test(to)) return true;
  if (to.startsWith("types/")) return true;
  if (under("stages")(from)) return ["stages", "pipeline", "model"].some((f) => under(f)(to));
  const root = under("pipeline")(from) ? "pipeline" : "model";
  if (under("shaders")(to)) return under("model/ops")(from) || under("model/gpu")(from);
  if (!under(root)(to)) return false;
  if (isTest(from)) return true;
  const [above, below] = [place(from), place(to)];
  if (!above || !below) return false;
  if (above.entry === below.entry) {
    // A kind knows no other kind; the registry knows all.
    const kind = kindOf(from);
    return kind === undefined || kind === kindOf(to);
  }
  return below.rank < above.rank;
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

Deno.test("A module that runs imports no test and no benchmark, which a bundle leaves out", async () => {
  const wrong = (await graph).flatMap(({ path, all }) =>
    isTest(path) ? [] : all.filter(isTest).map((to) => `${path} imports ${to}`)
  );
  assertEquals(wrong, []);
});

Deno.test("No module imports itself by a detour, types included", async () => {
  const edges = new Map(
    (await graph).map(({ path, all }) => [path, isTest(path) ? [] : [...new Set(all)]]),
  );
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
  assert(!allowed("model/reference/network.ts", "model/load.ts"));
  assert(allowed("stages/train/train.ts", "model/config.ts"));
  assert(allowed("model/ops/gemm/gemm.ts", "shaders/gemm.wgsl"));
  assert(!allowed("model/attention/mla/mla.ts", "model/config.ts"));
  assert(!allowed("model/ffn/ethos/ethos.ts", "model/ffn/dense/swiglu.ts"));
  assert(!allowed("model/checkpoint/checkpoint.ts", "model/training/trainer.ts"));
  assert(!allowed("pipeline/store/store.ts", "pipeline/run/run.ts"));
  assert(allowed("model/ffn/ethos/ethos.ts", "model/ffn/product_key/router.ts"));
  assert(allowed("model/ffn/ethos/router.ts", "model/ffn/beam/router.ts"));
  assert(!allowed("model/ffn/beam/router.ts", "model/ffn/product_key/router.ts"));
  assert(allowed("model/ffn/registry.ts", "model/ffn/ethos/kind.ts"));
});
