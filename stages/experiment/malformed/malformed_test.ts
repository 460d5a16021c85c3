/** Malformed configurations through the real command line and the real stages' schemas: exit code 2, and nothing is written. */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { runCommandLine } from "../../../pipeline/command_line.ts";
import { loadExperiment } from "../load.ts";
import { MALFORMED } from "./all_testing.ts";
import { MALFORMED_DATA } from "./data_testing.ts";
import { type Malformed, writeMalformed } from "./malformed_testing.ts";
import { PARTS } from "../parts.ts";
import { ROOT } from "../../reproduce_testing.ts";

/** Runs a command line in this process and keeps its standard error. */
async function commandLine(args: readonly string[]): Promise<{ code: number; stderr: string }> {
  const { writeSync } = Deno.stderr;
  let stderr = "";
  const decoder = new TextDecoder();
  Deno.stderr.writeSync = (bytes) => {
    stderr += decoder.decode(bytes, { stream: true });
    return bytes.length;
  };
  try {
    const code = await runCommandLine(args, {
      name: "deno task",
      description: "The experiment.",
      root: ROOT,
      defaultConfig: "configs/tiny.yaml",
      loadExperiment: (request) => loadExperiment(request, PARTS),
    });
    return { code, stderr };
  } finally {
    Deno.stderr.writeSync = writeSync;
  }
}

async function check(malformed: Malformed, run: typeof commandLine): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    const config = await writeMalformed(malformed, folder);
    const before = await Array.fromAsync(Deno.readDir(folder), ({ name }) => name);
    const set = (malformed.set ?? []).flatMap((value) => ["--set", value]);
    const store = join(folder, "store");
    const { code, stderr } = await run([
      "reproduce",
      "--config",
      config,
      "--store",
      store,
      ...set,
    ]);
    assertEquals(code, 2, stderr);
    for (const part of malformed.real ?? malformed.says) assertStringIncludes(stderr, part);
    assert(stderr.startsWith("error: "), stderr);
    assert(!/^\s+at /m.test(stderr), `a trace: ${stderr}`);
    const after = await Array.fromAsync(Deno.readDir(folder), ({ name }) => name);
    assertEquals(after.sort(), before.sort(), "something was written");
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("malformed configurations end with exit code 2, the key's path and a sentence, and write nothing", async (t) => {
  const all = [...MALFORMED, ...MALFORMED_DATA];
  assert(all.length >= 100);
  for (const malformed of all) {
    await t.step(malformed.what, () => check(malformed, commandLine));
  }
});

Deno.test("and so they do as a program of its own", async (t) => {
  const program = async (args: readonly string[]) => {
    const { code, stderr } = await new Deno.Command(Deno.execPath(), {
      // Without the permission to write: a refused configuration needs none.
      args: ["run", "--no-prompt", "--allow-read", "--allow-env", "stages/main.ts", ...args],
      cwd: ROOT,
      env: { NO_COLOR: "1" },
      stdout: "null",
      stderr: "piped",
    }).output();
    return { code, stderr: new TextDecoder().decode(stderr) };
  };
  for (const what of ["a typo", "a YAML bomb", "a source without its section"]) {
    const malformed = [...MALFORMED, ...MALFORMED_DATA].find((entry) => entry.what === what)!;
    await t.step(what, () => check(malformed, program));
  }
});
