import { assertEquals, assertNotEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { moduleUrl, readCode } from "./code.ts";
import { UserError } from "../errors.ts";
import { runOnGpuNode } from "../testing.ts";

async function project(files: Record<string, string>): Promise<string> {
  const dir = await Deno.realPath(await Deno.makeTempDir({ prefix: "code_" }));
  for (const [name, text] of Object.entries(files)) await Deno.writeTextFile(join(dir, name), text);
  return dir;
}

const FILES = {
  "deno.json": "{}",
  "stage.ts": `import kernel from "./kernel.wgsl" with { type: "text" };
    import type { T } from "./types.ts";
    import { helper, type H } from "./helper.ts";
    import { join } from "node:path";
    export const lazy = () => import("./lazy.ts");
    export const all: (T | H | unknown)[] = [kernel, helper, join];`,
  "kernel.wgsl": "fn main() {}",
  "types.ts": "export type T = number;",
  "helper.ts": "export type H = string; export const helper = 1;",
  "lazy.ts": "export const late = 1;",
  "worker.ts": 'import "./helper.ts";',
  "other.ts": "export const other = 1;",
};

Deno.test("readCode() finds what runs: text, dynamic imports and workers, but no types", async () => {
  const dir = await project(FILES);
  const url = (name: string) => moduleUrl(join(dir, name));
  const roots = new Map([
    ["stage", [url("stage.ts"), url("worker.ts")]],
    ["other", [url("other.ts")]],
  ]);
  const before = await readCode(roots, { root: dir });
  assertEquals(
    Object.keys(before.get("stage")!.files),
    ["helper.ts", "kernel.wgsl", "lazy.ts", "stage.ts", "worker.ts"],
  );
  assertEquals(Object.keys(before.get("other")!.files), ["other.ts"]);

  await Deno.writeTextFile(join(dir, "types.ts"), "export type T = string;");
  assertEquals(await readCode(roots, { root: dir }), before);

  await Deno.writeTextFile(join(dir, "kernel.wgsl"), "fn main() { }");
  const after = await readCode(roots, { root: dir });
  assertNotEquals(after.get("stage")!.digest, before.get("stage")!.digest);
  assertEquals(after.get("other"), before.get("other"));
  await Deno.remove(dir, { recursive: true });
});

Deno.test("readCode() takes the packages of the lock file, transitively", async () => {
  const root = join(import.meta.dirname!, "../..");
  const closures = await readCode(
    new Map([["duckdb", [moduleUrl(join(root, "pipeline/store/catalogue.ts"))]]]),
    { root },
  );
  const { packages, files } = closures.get("duckdb")!;
  const names = Object.keys(packages);
  assertEquals(names.some((name) => name.startsWith("@duckdb/node-api@")), true);
  assertEquals(names.some((name) => name.startsWith("@duckdb/node-bindings@")), true);
  assertEquals(names.some((name) => name.startsWith("yargs@")), false);
  for (const integrity of Object.values(packages)) assertStringIncludes(integrity, "sha512-");
  assertEquals("pipeline/store/catalogue.ts" in files, true);
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
