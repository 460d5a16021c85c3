import { assertEquals, assertNotEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { dirname, join } from "@std/path";
import { moduleUrl, readCode, readDynamicImports } from "./code.ts";
import { UserError } from "../errors.ts";
import { buildGraph } from "./graph.ts";
import { readNodeCode } from "../run/plan.ts";
import { defineStage, type JsonValue, type NodeSpec, type ParamsSchema } from "../stage.ts";
import { runOnGpuNode } from "../testing.ts";

async function project(files: Record<string, string>): Promise<string> {
  const dir = await Deno.realPath(await Deno.makeTempDir({ prefix: "code_" }));
  for (const [name, text] of Object.entries(files)) {
    await Deno.mkdir(dirname(join(dir, name)), { recursive: true });
    await Deno.writeTextFile(join(dir, name), text);
  }
  return dir;
}

const FILES = {
  "deno.json": "{}",
  "stage.ts": `import kernel from "./kernel.wgsl" with { type: "text" };
    import type { T } from "./types.ts";
    import { helper, type H } from "./helper.ts";
    import { join } from "node:path";
    export const lazy = () => import("./lazy.ts");
    export const early = () => import("./helper.ts");
    export const text = () => import("./lazy.wgsl", { with: { type: "text" } });
    export const all: (T | H | unknown)[] = [kernel, helper, join];`,
  "kernel.wgsl": "fn main() {}",
  "types.ts": "export type T = number;",
  "helper.ts": "export type H = string; export const helper = 1;",
  "lazy.ts": 'import "./later.ts"; export const later = () => import("./latest.ts");',
  "lazy.wgsl": "fn late() {}",
  "later.ts": "export const later = 1;",
  "latest.ts": "export const latest = 1;",
  "worker.ts": 'import "./helper.ts";',
  "other.ts": "export const other = 1;",
};

Deno.test("readCode() finds what runs: text and workers, but no types and no local dynamic imports", async () => {
  const dir = await project(FILES);
  const url = (name: string) => moduleUrl(join(dir, name));
  const roots = new Map([
    ["stage", [url("stage.ts"), url("worker.ts")]],
    ["other", [url("other.ts")]],
  ]);
  const before = await readCode(roots, { root: dir });
  assertEquals(
    Object.keys(before.get("stage")!.files),
    ["helper.ts", "kernel.wgsl", "stage.ts", "worker.ts"],
  );
  assertEquals(Object.keys(before.get("other")!.files), ["other.ts"]);

  await Deno.writeTextFile(join(dir, "types.ts"), "export type T = string;");
  await Deno.writeTextFile(join(dir, "lazy.ts"), "export const late = 2;");
  assertEquals(await readCode(roots, { root: dir }), before);

  await Deno.writeTextFile(join(dir, "kernel.wgsl"), "fn main() { }");
  const after = await readCode(roots, { root: dir });
  assertNotEquals(after.get("stage")!.digest, before.get("stage")!.digest);
  assertEquals(after.get("other"), before.get("other"));
  await Deno.remove(dir, { recursive: true });
});

Deno.test("readCode() leaves out a registry, but not what it imports statically", async () => {
  const dir = await project({
    ...FILES,
    "stage.ts": 'import "./registry.ts"; import "./more/registry.ts";',
    "registry.ts": 'import "./helper.ts"; export const all = { lazy: () => import("./lazy.ts") };',
    "more/registry.ts": 'export * from "../other.ts";',
  });
  const roots = new Map([["stage", [moduleUrl(join(dir, "stage.ts"))]]]);
  const code = await readCode(roots, { root: dir });
  // Without a dynamic import a module of this name is like any other.
  const files = ["helper.ts", "more/registry.ts", "other.ts", "stage.ts"];
  assertEquals(Object.keys(code.get("stage")!.files), files);
  await Deno.remove(dir, { recursive: true });
});

Deno.test("readDynamicImports() lists every local one, also behind another", async () => {
  const dir = await project(FILES);
  const found = await readDynamicImports([moduleUrl(join(dir, "stage.ts"))], { root: dir });
  assertEquals(found.toSorted((a, b) => a.to < b.to ? -1 : 1), [
    { from: "lazy.ts", to: "latest.ts" },
    { from: "stage.ts", to: "lazy.ts" },
    { from: "stage.ts", to: "lazy.wgsl" },
  ]);
  await Deno.remove(dir, { recursive: true });
});

Deno.test("readNodeCode() takes the modules that a node's parameters and inputs name", async () => {
  const dir = await project(FILES);
  const url = (name: string) => moduleUrl(join(dir, name));
  const params: ParamsSchema<{ kind: string }> = {
    parse: (value) => value as { kind: string },
    safeParse: (value) => ({ success: true, data: value as { kind: string } }),
  };
  const common = { description: "", params, outputs: {}, run: () => Promise.resolve() };
  const train = defineStage({
    ...common,
    name: "train",
    module: url("other.ts"),
    modules: ({ params }) => [url(`${params.kind}.ts`)],
  });
  const evaluate = defineStage({
    ...common,
    name: "evaluate",
    module: url("worker.ts"),
    modules: ({ inputs }) => inputs["train"]!.map(({ params }) => url(`${kindOf(params)}.ts`)),
  });
  const kindOf = (params: JsonValue) => (params as { kind: string }).kind;
  const trained = ["lazy", "latest"].map((kind): NodeSpec => (
    { stage: train, label: kind, params: { kind } }
  ));
  const evaluated = trained.map((node): NodeSpec => (
    { stage: evaluate, label: node.label!, params: { kind: "none" }, inputs: { train: [node] } }
  ));
  const code = await readNodeCode(buildGraph(evaluated), dir);
  assertEquals([...code].map(([node, { files }]) => [node.name, Object.keys(files)]), [
    ["train[lazy]", ["later.ts", "lazy.ts", "other.ts"]],
    ["evaluate[lazy]", ["helper.ts", "later.ts", "lazy.ts", "worker.ts"]],
    ["train[latest]", ["latest.ts", "other.ts"]],
    ["evaluate[latest]", ["helper.ts", "latest.ts", "worker.ts"]],
  ]);
  await Deno.remove(dir, { recursive: true });
});

Deno.test("readCode() follows a dynamic import of a package", async () => {
  const dir = await project({ "stage.ts": 'export const lazy = () => import("canonicalize");' });
  const roots = new Map([["stage", [moduleUrl(join(dir, "stage.ts"))]]]);
  const code = await readCode(roots, { root: join(import.meta.dirname!, "../..") });
  const packages = Object.keys(code.get("stage")!.packages);
  assertEquals(packages.map((name) => name.replace(/@.*/, "")), ["canonicalize"]);
  await Deno.remove(dir, { recursive: true });
});

Deno.test("readCode() takes the packages of the lock file, transitively", async () => {
  const root = join(import.meta.dirname!, "../..");
  const closures = await readCode(
    new Map([["duckdb", [moduleUrl(join(root, "pipeline/store/catalogue/catalogue.ts"))]]]),
    { root },
  );
  const { packages, files } = closures.get("duckdb")!;
  const names = Object.keys(packages);
  assertEquals(names.some((name) => name.startsWith("@duckdb/node-api@")), true);
  assertEquals(names.some((name) => name.startsWith("@duckdb/node-bindings@")), true);
  assertEquals(names.some((name) => name.startsWith("yargs@")), false);
  for (const integrity of Object.values(packages)) assertStringIncludes(integrity, "sha512-");
  assertEquals("pipeline/store/catalogue/catalogue.ts" in files, true);
  // Imported for its types only.
  assertEquals("pipeline/stage.ts" in files, false);
});

Deno.test("readCode() names a module that is missing, and who wants it", async () => {
  const dir = await project({ "deno.json": "{}", "stage.ts": 'import "./gone.ts";' });
  const roots = new Map([["stage", [moduleUrl(join(dir, "stage.ts"))]]]);
  const error = await assertRejects(() => readCode(roots, { root: dir }), UserError);
  assertStringIncludes(error.message, "stage.ts");
  assertStringIncludes(error.message, "gone.ts");
  await Deno.remove(dir, { recursive: true });
});

Deno.test("readCode() works where LD_LIBRARY_PATH is set and only `deno` may be run", async () => {
  const dir = await project({
    "stage.ts": "export const x = 1;",
    "main.ts": `import { readCode } from ${JSON.stringify(import.meta.resolve("./code.ts"))};
      const roots = new Map([["stage", [new URL("./stage.ts", import.meta.url).href]]]);
      const code = await readCode(roots, { root: import.meta.dirname });
      console.log(Object.keys(code.get("stage").files).join());`,
  });
  const permissions = ["--allow-read", "--allow-env", "--allow-run=deno"];
  const { stdout, stderr } = await runOnGpuNode(join(dir, "main.ts"), permissions);
  assertEquals(stdout, "stage.ts\n", stderr);
  await Deno.remove(dir, { recursive: true });
});
